"""The compiled backend gives what the NumPy backend gives: every function, type, cache and accuracy."""

import inspect

import numpy as np
import pytest
import tolerances
from twin_cases import SHAPES, TWINNED, Values, backwards, cases, core, forwards, groupings, run, same_kind

import kalnorm_ref as kr
from kalnorm_ref import backend
from kalnorm_ref.gradcheck import leaves, max_error
from kalnorm_ref.group_norm import by_channel, by_group


def test_every_twinned_function_has_a_twin_of_the_same_signature_and_a_case_here():
    assert {name for name, _ in cases(Values((4, 3)))} == set(TWINNED)
    for name, function in TWINNED.items():
        assert inspect.signature(getattr(core, name)) == inspect.signature(function), name


@pytest.mark.parametrize("shape", SHAPES)
def test_float64_results_and_caches_are_numpys(shape):
    for name, arguments in cases(Values(shape)):
        result, expected = run(name, arguments, "cython"), run(name, arguments, "numpy")
        same_kind(result, expected)
        assert max_error(result, expected) <= tolerances.TWINS, name


@pytest.mark.parametrize("shape", [(2, 37, 5), (4500, 3)])
def test_float32_results_have_the_kind_of_numpys_and_are_close(shape):
    for name, arguments in cases(Values(shape, dtype=np.float32)):
        result, expected = run(name, arguments, "cython"), run(name, arguments, "numpy")
        same_kind(result, expected)
        assert max_error(result, expected) <= tolerances.TWINS_FLOAT32, name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_cache_of_one_backend_works_in_the_other(dtype):
    for ours, theirs in zip(
        cases(Values((2, 37, 5), dtype=dtype), "cython"), cases(Values((2, 37, 5), dtype=dtype), "numpy"), strict=True
    ):
        name, arguments = ours
        if hasattr(arguments[-1], "x"):
            same_kind(arguments[-1], theirs[1][-1])
            results = [run(name, a, which) for a in (arguments, theirs[1]) for which in backend.BACKENDS]
            limit = tolerances.TWINS if dtype == np.float64 else tolerances.TWINS_FLOAT32
            assert max(max_error(result, results[-2]) for result in results) <= limit, name


def test_a_cache_keeps_the_callers_x():
    v = Values((6, 3), backwards, np.float32)
    for name, arguments in (*forwards(v), *groupings(v)):
        assert run(name, arguments, "cython")[-1].x is arguments[0], name


@pytest.mark.parametrize("shape", [(4500, 3), (300, 300), (2, 37, 5)])
def test_variance_is_as_exact_far_from_zero_as_near(shape):
    """Multiples of 2^-20 moved by 2^30: no number is rounded, but every tile's mean is."""
    x = np.random.default_rng(4).integers(-(2**21), 2**21, shape) / 2.0**20
    var, expected = run("observe", (x + 2.0**30,), "cython").var, run("observe", (x,), "numpy").var
    assert max_error(var, expected) <= tolerances.TWINS


@pytest.mark.parametrize("offset", [0, 300, 1000])
@pytest.mark.parametrize("method", ["BN", "BRN", "KN", "GN", "GKN"])
def test_float32_keeps_the_error_law_at_any_offset(method, offset):
    """Every tensor, element by element, against NumPy in float64, within a budget that grows with kappa."""
    m, eps = 3000, 1e-5
    v = Values((m, 5), dtype=np.float32, offset=1.5 * offset, seed=3)
    fusion = kr.Moments(v.x[0], v.positive(5)), v.unit(5)
    given = {"BRN": v.corrections, "KN": fusion, "GKN": fusion}.get(method, ())
    results = {}
    for which, widen in (("cython", lambda a: a), ("numpy", lambda a: a.astype(np.float64))):
        wide = [kr.Moments(*map(widen, a)) if isinstance(a, tuple) else widen(a) for a in given]
        results[which] = leaves(both_ways(method, *map(widen, (v.x, v.gamma, v.beta, v.dy)), wide, eps, which))
    budgets = error_law({"GN": "BN", "GKN": "KN"}.get(method, method), v, given, eps)
    for got, exact, budget in zip(results["cython"], results["numpy"], budgets, strict=True):
        assert got.dtype == np.float32
        assert (np.abs(got - exact) <= budget + np.spacing(np.abs(got)) / 2).all()


FORWARD = {
    "BN": "batch_norm",
    "BRN": "batch_renorm",
    "KN": "kalman_norm",
    "GN": "group_norm",
    "GKN": "group_kalman_norm",
}


def both_ways(method, x, gamma, beta, dy, given, eps, which):
    """y, moments and all gradients. For a group form each channel is a row of three channels, of a third of the m."""
    k, groups = (3, (len(gamma),)) if method.startswith("G") else (1, ())
    if groups:
        shape = 1, len(x) // k, k * len(gamma)
        x, dy = by_channel(x[None], shape), by_channel(dy[None], shape)
        gamma, beta = np.repeat(gamma, k), np.repeat(beta, k)
    y, moments, cache = run(f"{FORWARD[method]}_forward", (x, gamma, beta, *given, *groups, eps), which)
    arguments = (dy, None, cache) if method.endswith("KN") else (dy, cache)
    dx, dgamma, dbeta, *rest = run(f"{FORWARD[method]}_backward", arguments, which)
    if groups:
        y, dx, moments = by_group(y, *groups)[0], by_group(dx, *groups)[0], kr.Moments(*(s[0] for s in moments))
        dgamma, dbeta = dgamma.reshape(-1, k).sum(axis=1), dbeta.reshape(-1, k).sum(axis=1)
    return y, moments, dx, dgamma, dbeta, *rest


def error_law(method, v, given, eps):
    """Budgets of y, mean, var, dx, dgamma, dbeta and, for KN, the prior's mean and var and the gain."""
    x, dy, gamma, beta = (np.abs(a.astype(float)) for a in (v.x, v.dy, v.gamma, v.beta))
    mean, var = v.x.astype(float).mean(axis=0), v.x.astype(float).var(axis=0)
    (r, d), q, a, b = given if method == "BRN" else (1, 0), 1, mean, var
    if method == "KN":
        (a, b), q = given
    p, delta = 1 - q, np.abs(mean - a)
    estimate = p * b + q * var + p * q * delta**2
    s, m, cu = np.sqrt(estimate + eps), len(x), tolerances.ERROR_LAW_C * 2.0**-24
    hat = np.abs(v.x - (a + q * (mean - a))) / s
    size = np.sqrt((x**2).mean(axis=0)) + (method == "KN") * np.abs(a)  # kappa s
    of_var = 2 * p * q * delta * cu * size  # of the estimate, through delta
    e = cu * (size / s + hat) + hat * of_var / s**2 / 2
    along = (dy * hat).mean(axis=0)
    of_along = (dy * e).mean(axis=0) + cu * along
    centred = np.abs(v.x - mean)
    of_delta = p * q * gamma / s**2 * (delta * of_along + along * cu * (size + delta))  # of ddelta / m, through dvar
    dx = cu * (dy + q * dy.mean(axis=0)) + q / s * (centred * of_along + along * cu * (size + centred))
    dx += 3 * of_var / s**2 / 2 * (dy + q * dy.mean(axis=0) + q * along * centred / s + p * q * along * delta / s)
    return [
        gamma * r * e + cu * (gamma * (r * hat + np.abs(d)) + beta),
        cu * size,
        cu * estimate + (cu * size) ** 2 + of_var,
        r * gamma / s * dx + r * of_delta,
        m * ((dy * r * e).mean(axis=0) + cu * (dy * (r * hat + np.abs(d))).mean(axis=0)),
        m * cu * dy.mean(axis=0),
        m * (2 * gamma / s * (cu + of_var / s**2) * dy.mean(axis=0) + of_delta),
        m * p * gamma / s**2 / 2 * (of_along + of_var / s**2 * along),
        m * gamma / s * dy.mean(axis=0) * (cu * (size + delta) + of_var / s**2 * delta)
        + m * gamma / s**2 / 2 * (of_along + of_var / s**2 * along) * (var + b + delta**2)
        + m * gamma / s**2 / 2 * along * (cu * (var + b + delta**2 + 2 * delta * size) + (cu * size) ** 2),
    ][: 9 if method == "KN" else 6]
