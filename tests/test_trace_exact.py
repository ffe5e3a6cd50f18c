"""Recomputes the exact worked examples by hand, as fractions, and holds every traced value against them."""

from fractions import Fraction as F
from math import isqrt

import numpy as np
import pytest

from kalnorm_ref.tracing import figures
from kalnorm_ref.tracing.examples import EXAMPLES
from kalnorm_ref.tracing.methods import run

MISTAKES = {
    "kn": "rstd_forgotten gain_swapped cross_term_dropped half_forgotten sign_flipped",
    "bn": "rstd_forgotten mean_dropped",
    "brn": "rstd_forgotten mean_dropped",
}


def root(value):
    """The rational square root of a fraction that has one."""
    found = F(isqrt(value.numerator), isqrt(value.denominator))
    assert found * found == value, f"{value} is no square of a fraction"
    return found


def observed(xs):
    mean = sum(xs) / len(xs)
    return mean, sum((x - mean) ** 2 for x in xs) / len(xs)


def back_half(xs, dys, mu, r, gamma, beta, fault):
    """Standardize, and what B0 sends to mu and v."""
    x_hat = [(x - mu) * r for x in xs]
    g = [gamma * dy for dy in dys]
    return {
        "x_hat": x_hat,
        "y": [gamma * h + beta for h in x_hat],
        "g": g,
        "dgamma": sum(dy * h for dy, h in zip(dys, x_hat, strict=True)),
        "dbeta": sum(dys),
        "sent": (
            fault(-r, sign_flipped=r) * sum(g),
            -fault(F(1, 2), half_forgotten=1) * r**2 * sum(gi * h for gi, h in zip(g, x_hat, strict=True)),
        ),
    }


def kn(xs, dys, given, fault):
    a, b, q = given["prior_mean"], given["prior_var"], given["gain"]
    p, m, (xbar, s) = 1 - q, len(xs), observed(xs)
    p, q = fault((p, q), gain_swapped=(q, p))
    delta = xbar - a
    mu, v = p * a + q * xbar, p * b + q * s + fault(p * q, cross_term_dropped=0) * delta**2
    r = 1 / root(v)
    found = back_half(xs, dys, mu, r, given["gamma"], given["beta"], fault)
    (dmu0, dv0), g_mu, g_v = found.pop("sent"), given["destimate_mean"], given["destimate_var"]
    dmu, dv = g_mu + dmu0, g_v + dv0
    ddelta = q * dmu + 2 * p * q * dv * delta
    dx = [
        fault(r, rstd_forgotten=1) * g + ddelta / m + 2 * q * dv / m * (x - xbar)
        for g, x in zip(found["g"], xs, strict=True)
    ]
    dq = dmu * delta + dv * (s - b + (1 - 2 * q) * delta**2)
    found |= {"a": a, "b": b, "q": q, "G_mu": g_mu, "G_v": g_v, "xbar": xbar, "S": s, "p": p, "delta": delta, "m": m}
    found |= {"mu": mu, "v": v, "r": r, "ddelta": ddelta, "da": dmu - ddelta, "db": p * dv, "dq": dq, "dx": dx}
    return found | {"dmu": [dmu0, dmu], "dv": [dv0, dv]}


def projected(g, z, r, fault):
    """( g - mean g - z mean(g z) ) and that times r."""
    mean, along = sum(g) / len(g), sum(a * b for a, b in zip(g, z, strict=True)) / len(g)
    centred = [gi - fault(mean, mean_dropped=0) - zi * along for gi, zi in zip(g, z, strict=True)]
    return {"centred": centred, "dx": [fault(r, rstd_forgotten=1) * c for c in centred]}


def bn(xs, dys, given, fault):
    xbar, s = observed(xs)
    r = 1 / root(s)
    found = back_half(xs, dys, xbar, r, given["gamma"], given["beta"], fault)
    found.pop("sent")
    return found | {"xbar": xbar, "S": s, "mu": xbar, "v": s, "r": r} | projected(found["g"], found["x_hat"], r, fault)


def brn(xs, dys, given, fault):
    (xbar, v), m, sg = observed(xs), given["running_mean"], given["running_std"]
    s, gamma = root(v), given["gamma"]
    r = min(max(s / sg, 1 / given["r_max"]), given["r_max"])
    d = min(max((xbar - m) / sg, -given["d_max"]), given["d_max"])
    z = [(x - xbar) / s for x in xs]
    x_hat = [zi * r + d for zi in z]
    g = [gamma * r * dy for dy in dys]
    found = {"xbar": xbar, "S": v, "mu": xbar, "v": v, "s": s, "1/s": 1 / s, "r": r, "d": d, "M": m, "Sg": sg}
    found |= {"z": z, "x_hat": x_hat, "y": [gamma * h + given["beta"] for h in x_hat], "g": g}
    found |= {"dx_hat": [gamma * dy for dy in dys], "dbeta": sum(dys)}
    found["dgamma"] = sum(dy * h for dy, h in zip(dys, x_hat, strict=True))
    return found | projected(g, z, 1 / s, fault)


BY_HAND = {("kn", "exact"): kn, ("bn", "exact"): bn, ("bn", "two-samples"): bn, ("brn", "exact"): brn}
PLANTED = [(method, mistake) for method, mistakes in MISTAKES.items() for mistake in mistakes.split()]
INEXACT = {"rounding"}  # how far below zero rounding may carry a variance: a bound, no equation


def compare(method, name, mistake=None):
    """AssertionError unless every step of the example is what the hand finds; returns how many values were compared."""
    arguments, compared, seen = EXAMPLES[method][name].arguments, 0, {}
    fault = lambda right, **wrong: wrong.get(mistake, right)  # noqa: E731
    x, dy = arguments["x"], arguments["dy"]
    for step in run(method, arguments).steps:
        count = seen[step.symbol] = seen.get(step.symbol, -1) + 1
        for c in range(x.shape[1]):
            given = {key: F(float(np.atleast_1d(value)[c if np.ndim(value) else 0])) for key, value in arguments.items()
                     if np.ndim(value) < 2}  # fmt: skip
            xs, dys = ([F(float(number)) for number in array[:, c]] for array in (x, dy))
            expected = {"x": xs, "dy": dys, **given, **BY_HAND[method, name](xs, dys, given, fault)}[step.symbol]
            if isinstance(expected, list) and step.value.ndim < 2:
                expected = expected[min(count, len(expected) - 1)]  # completed in a later step
            actual = step.value[..., c] if step.value.ndim else step.value
            expected, actual = np.atleast_1d(expected), np.atleast_1d(actual)
            assert expected.shape == actual.shape, step
            for e, v in zip(expected, actual, strict=True):
                assert figures.fraction(v) == str(e), (step.symbol, c, v, e)
                assert method != "kn" or F(float(v)) == e, "no rounding at all: denominators are powers of two"
                compared += 1
    return compared


@pytest.mark.parametrize(("method", "name"), BY_HAND)
def test_every_step_is_the_fraction_that_the_hand_finds(method, name):
    assert compare(method, name) > 50


@pytest.mark.parametrize(("method", "mistake"), PLANTED)
def test_a_mistake_of_the_hand_is_seen(method, mistake):
    with pytest.raises(AssertionError):
        compare(method, "exact", mistake)


def test_the_exact_example_of_kn_is_two_by_two_with_small_denominators():
    steps = run("kn", EXAMPLES["kn"]["exact"].arguments).steps
    assert steps[0].shape == (2, 2)
    assert max(F(float(v)).denominator for step in steps for v in step.value.ravel()) <= 8


@pytest.mark.parametrize("method", [m for m, named in EXAMPLES.items() if any(e.fractions for e in named.values())])
def test_examples_in_fractions_have_nothing_else(method):
    for name, example in EXAMPLES[method].items():
        if example.fractions:
            for step in run(method, example.arguments).steps:
                exact = all(figures.fraction(v) for v in step.value.ravel())
                assert exact or step.name in INEXACT, (name, step)
