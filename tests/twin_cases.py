"""What the tests of the compiled backend share: every twinned function, and arguments for each."""

import importlib
import math
import os
import pkgutil

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import backend
from kalnorm_ref.gradcheck import leaves
from kalnorm_ref.group_norm import by_channel, by_group

core = backend._core
if core is None and os.environ.get("KALNORM_REQUIRE_EXT") != "1":
    pytest.skip("the compiled backend is not built", allow_module_level=True)


def twinned_functions():
    """Name -> function, of every function under the decorator `twinned` in the package."""
    found = {}
    for module in pkgutil.walk_packages(kr.__path__, "kalnorm_ref."):
        if not module.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(module.name)).items():
                if "compiled" in getattr(getattr(value, "__code__", None), "co_freevars", ()):
                    found[name] = value
    return found


TWINNED = twinned_functions()

# ---- arguments -----------------------------------------------------------------------------------------------------


class Values:
    """Random arguments; every array of them is passed through `lay`, which sets its layout or type."""

    def __init__(self, shape, lay=lambda a: a, dtype=np.float64, offset=3.0, seed=0):
        rng = np.random.default_rng(seed)
        lead, c = shape[:-2], shape[-1]
        self.shape, self.statistics, self.c, self.dtype = shape, (*lead, c), c, dtype
        self.array = lambda a: lay(np.asarray(a, dtype))
        self.normal = lambda *shape, mean=0.0, std=1.0: self.array(rng.normal(mean, std, shape))
        self.positive = lambda *shape: self.array(rng.uniform(0.5, 2.0, shape))
        self.rectified = lambda *shape: self.array(np.maximum(rng.normal(0, 1, shape), 0))
        self.unit = lambda *shape: self.array(rng.uniform(0.1, 0.9, shape))
        self.x = self.normal(*shape, mean=offset, std=1.5)
        self.dy, self.gamma, self.beta = self.normal(*shape), self.normal(c), self.normal(c)
        self.corrections = self.positive(c), self.normal(*lead, c)

    def pair(self, *shape):
        """Moments near those of x."""
        return kr.Moments(self.normal(*shape, mean=2.0), self.positive(*shape))

    def gradient(self, *shape):
        return kr.Moments(self.normal(*shape), self.normal(*shape))


def forwards(v):
    """Arguments of the normalizers' forward functions: with and without each optional part."""
    whole, row = v.pair(*v.statistics), v.pair(v.c)
    yield "batch_norm_forward", (v.x, v.gamma, v.beta)
    yield "batch_norm_forward", (v.x, None, None, 0.1)
    yield "batch_renorm_forward", (v.x, v.gamma, v.beta, *v.corrections)
    yield "batch_renorm_forward", (v.x, None, v.beta, 1.2, 0.3, 0.1)
    yield "kalman_norm_forward", (v.x, v.gamma, v.beta, whole, v.unit(v.c))
    yield "kalman_norm_forward", (v.x, v.gamma, None, row, 0.3, 0.1)
    yield "kalman_norm_forward", (v.x, v.gamma, v.beta, None, None)
    yield "standardize", (v.x, whole, v.gamma, v.beta, 1e-5)
    yield "standardize", (v.x, row, None, None, 0.0)


GEOMETRY = {
    "3x3": ((3, 6, 5, 4), (3, 3, 4, 3), 1, 1),
    "1x1": ((3, 6, 5, 4), (1, 1, 4, 3), 1, 0),
    "1x1 strided": ((2, 5, 4, 3), (1, 1, 3, 2), 2, 0),
    "stride 2": ((2, 7, 6, 3), (3, 2, 3, 5), 2, 1),
    "asymmetric": ((1, 5, 8, 2), (2, 3, 2, 3), 3, ((0, 2), (3, 1))),
    "padding beyond the kernel": ((2, 2, 3, 1), (2, 2, 1, 1), 1, 4),
    "several chunks": ((37, 16, 17, 7), (3, 3, 7, 5), 1, 1),
}


def convolutions(v):
    for x, weight, stride, padding in GEOMETRY.values():
        for bias in (None, v.normal(weight[3])):
            yield "conv2d_forward", (v.normal(*x, mean=1.0), v.normal(*weight), bias, stride, padding)


def groupings(v):
    """Arguments of the group forms: rows of two channels, of all and of one, in x (N, L, 2 C)."""
    n, length, c = math.prod(v.shape[:-2]), v.shape[-2], 2 * v.c
    x, gamma, beta = v.normal(n, length, c, mean=3.0), v.normal(c), v.normal(c)
    yield "group_norm_forward", (x, gamma, beta, v.c)
    yield "group_norm_forward", (x, None, beta, 1, 0.1)
    yield "group_kalman_norm_forward", (x, gamma, beta, v.pair(n, v.c), v.unit(v.c), v.c)
    yield "group_kalman_norm_forward", (x, gamma, None, v.pair(1), 0.3, 1, 0.1)
    yield "group_kalman_norm_forward", (x, gamma, beta, None, None, c)


def samplings(v):
    """Arguments of sampled and its backward: none to two leading axes, every geometry, and a variance of zero."""
    shapes = [((), "1x1"), ((1,), "3x3"), ((2, 2), "stride 2")]
    for lead, name in (*shapes, *(((GEOMETRY[name][0][0],), name) for name in GEOMETRY)):
        (_, *image), weight, stride, padding = GEOMETRY[name]
        estimate, rest = v.pair(*lead, image[-1]), (v.normal(*lead, *image), v.normal(*weight), stride, padding)
        certain = kr.Moments(estimate.mean, v.array(np.zeros(estimate.var.shape)))
        for arguments in ((estimate, *rest), (certain, *rest))[: 2 if lead == (1,) else 1]:
            yield "sampled", arguments
            yield "sampled_backward", (v.gradient(*lead, weight[3]), *arguments)


def mappings(v):
    """Arguments of what happens to maps: blocks of unequal sides, one block, enough numbers for several threads."""
    yield "relu_forward", (v.normal(*v.shape),)
    yield "relu_backward", (v.dy, v.rectified(*v.shape))
    yield "add", (v.x, v.dy)
    for n, c, high, wide in ((2, v.c, 2, 3), (1, v.c, 16, 18), (5, v.c, 1, 1), (17, 16, 4, 2)):
        yield "avg_pool_forward", (v.normal(n, 16, 18, c, mean=1.0), high, wide)
        yield "avg_pool_backward", (v.normal(n, 3, 11, c), high, wide)
    for before, after in ((2, 3), (0, 1), (0, 0)):
        yield "pad_channels_forward", (v.x, before, after)
        yield "pad_channels_backward", (v.normal(*v.shape[:-1], before + v.c + after), before, after)


def fusions(v):
    whole, row, one = v.pair(*v.statistics), v.pair(v.c), v.pair(*(1 for _ in v.statistics[1:]), v.c)
    for prior, observed, gain in ((row, whole, 0.3), (whole, row, v.unit(v.c)), (one, whole, 1.0)):
        yield "fuse", (prior, observed, gain)
        yield "fuse_backward", (v.gradient(*v.statistics), prior, observed, gain)


def transitions(v):
    lead, c = v.statistics[:-1], v.c
    for matrix, noise in ((v.normal(c), 0.1), (v.normal(c + 2, c), v.positive(c + 2)), (v.normal(2, c), 0.3)):
        yield "predict", (v.pair(*lead, c), matrix, noise)
        yield "predict_backward", (v.gradient(*lead, matrix.shape[0]), v.pair(*lead, c), matrix, noise)


def cases(v, made_by="numpy"):
    """(name, arguments) for every twinned function; the caches are made by the backend `made_by`."""
    whole = v.pair(*v.statistics)
    yield "observe", (v.x,)
    yield "observe_backward", (v.gradient(*v.statistics), v.x, v.pair(*v.statistics))
    yield "renorm_corrections", (whole, v.normal(v.c), v.positive(v.c), 1.4, 0.5)
    yield from (*fusions(v), *(transitions(v) if v.c else ()))
    yield from samplings(v)
    for name, arguments in (*forwards(v), *convolutions(v), *(groupings(v) if v.c else ())):
        yield name, arguments
        with kr.use_backend(made_by):
            y, *moments, cache = TWINNED[name](*arguments)
        dy, backward = v.normal(*y.shape), f"{name.removesuffix('_forward')}_backward"
        if "kalman" in name:
            yield backward, (dy, v.gradient(*moments[0].mean.shape), cache)
            yield backward, (dy, None, cache)
        else:
            yield backward, (dy, cache)
        if name == "conv2d_forward":
            yield "conv2d_weight_backward", (dy, cache)
    yield from mappings(v)


def run(name, arguments, which):
    with kr.use_backend(which):
        return TWINNED[name](*arguments)


def same_kind(a, b):
    """Equal classes, shapes and types all the way down; equal values of what is no array."""
    assert type(a) is type(b)
    if isinstance(a, tuple):
        assert len(a) == len(b)
        for i, j in zip(a, b, strict=True):
            same_kind(i, j)
    elif isinstance(a, np.ndarray):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    else:
        assert a == b


def same_bits(a, b):
    return all(np.array_equal(i, j, equal_nan=True) for i, j in zip(leaves(a), leaves(b), strict=True))


# Each shape is there for a reason: one sample; odd C; samples side by side, in several tiles with a tail; columns in
# several tiles; enough batches for the threads to share them out; no channel; no batch.
SHAPES = [(1, 3), (2, 37, 5), (4500, 3), (300, 300), (2, 10, 33, 7), (6, 0), (0, 4, 3)]

# ---- the error law of float32 ---------------------------------------------------------------------------------------

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
        tolerances.ERROR_LAW_VAR * 2.0**-24 * estimate + (cu * size) ** 2 + of_var,
        r * gamma / s * dx + r * of_delta,
        m * ((dy * r * e).mean(axis=0) + cu * (dy * (r * hat + np.abs(d))).mean(axis=0)),
        m * cu * dy.mean(axis=0),
        m * (2 * gamma / s * (cu + of_var / s**2) * dy.mean(axis=0) + of_delta),
        m * p * gamma / s**2 / 2 * (of_along + of_var / s**2 * along),
        m * gamma / s * dy.mean(axis=0) * (cu * (size + delta) + of_var / s**2 * delta)
        + m * gamma / s**2 / 2 * (of_along + of_var / s**2 * along) * (var + b + delta**2)
        + m * gamma / s**2 / 2 * along * (cu * (var + b + delta**2 + 2 * delta * size) + (cu * size) ** 2),
    ][: 9 if method == "KN" else 6]


def over_budget(method, v, given, eps):
    """By tensor: the largest error of the compiled float32 results over its budget; NumPy in float64 is right."""
    results = {}
    with np.errstate(all="ignore"):
        for which, widen in (("cython", lambda a: a), ("numpy", lambda a: a.astype(np.float64))):
            wide = [kr.Moments(*map(widen, a)) if isinstance(a, tuple) else widen(a) for a in given]
            results[which] = leaves(both_ways(method, *map(widen, (v.x, v.gamma, v.beta, v.dy)), wide, eps, which))
        budgets, found = error_law({"GN": "BN", "GKN": "KN"}.get(method, method), v, given, eps), {}
        for name, got, exact, budget in zip(TENSORS, results["cython"], results["numpy"], budgets, strict=False):
            assert got.dtype == np.float32
            right = (got == exact.astype(np.float32)) | (np.isnan(got) & np.isnan(exact))  # Inf, NaN, or no error
            error = np.abs(got - exact) / (budget + np.spacing(np.abs(got)) / 2)
            found[name] = np.where(right, 0, np.where(np.isnan(error), np.inf, error)).max()
    return found


TENSORS = "y", "mean", "var", "dx", "dgamma", "dbeta", "prior mean", "prior var", "gain"


# ---- tests ---------------------------------------------------------------------------------------------------------


def backwards(a):
    everywhere = (slice(None, None, -1),) * a.ndim
    return a[everywhere].copy()[everywhere]
