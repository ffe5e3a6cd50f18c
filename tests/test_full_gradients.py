"""Gradients of the full covariance, its noise and the filter: complex step, central differences and scalar loops.

As test_gradients does for the other pairs. Covariances are not symmetric here, so that a transposed one shows.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck
from kalnorm_ref.gradproof.loops import full as full_loops
from kalnorm_ref.gradproof.loops import kalman_filter as filter_loops

EPS = 1e-3
C, M, G = 3, 5, 2  # channels, samples, statistics batches
rng = np.random.default_rng(31)


class Case(NamedTuple):
    """One pair on one set of arguments: `given` is what its backward receives from above."""

    pair: str
    label: str
    arguments: tuple
    given: tuple

    @property
    def forward(self) -> Callable:
        return kr.kalman_filter_norm_forward if self.pair in FILTER else getattr(kr.full, self.name("_forward"))

    @property
    def backward(self) -> Callable:
        return getattr(kr if self.pair in FILTER else kr.full, self.pair + "_backward")

    @property
    def loops(self) -> ModuleType:
        return filter_loops if self.pair in FILTER else full_loops

    @property
    def cached(self) -> bool:
        return self.pair in ("kalman_norm", *FILTER)

    @property
    def upstream(self) -> Any:
        """`given` in the structure of the forward's result."""
        return (*self.given, None) if self.cached else self.given if self.pair == "predict" else self.given[0]

    def name(self, suffix):
        return self.pair + suffix * self.cached


FILTER = ("kalman_filter_norm",)


def normal(*shape):
    return rng.standard_normal(shape)


def data(*lead):
    return rng.normal(7.0, 3.0, (*lead, M, C))


def mean(*shape):
    return rng.normal(5.0, 2.0, shape)


def cov(*shape):
    """Covariances with positive variances, but not symmetric."""
    return normal(*shape, shape[-1]) + 8 * np.eye(shape[-1])


def moments(*shape):
    return kr.Moments(mean(*shape), rng.uniform(0.3, 3.0, shape))


def dmoments(*shape):
    return kr.Moments(normal(*shape), normal(*shape))


GAMMA, BETA = np.array([0.7, -1.6, 2.1]), np.array([1.5, -0.3, 0.4])


def prediction(label, c, *shape):
    arguments = mean(*shape), cov(*shape), normal(c, shape[-1]), cov(c)
    return Case("predict", label, arguments, (normal(*shape[:-1], c), normal(*shape[:-1], c, c)))


def norm(label, x, gamma, beta, prior, gain, above=(True, True)):
    prior_mean, prior_cov = (None, None) if prior is None else (mean(*prior), cov(*prior))
    lead = x.shape[:-2]
    dmean, dcov = (
        normal(*lead, *shape) if present else None for present, shape in zip(above, ((C,), (C, C)), strict=True)
    )
    return Case(
        "kalman_norm", label, (x, gamma, beta, prior_mean, prior_cov, gain, EPS), (normal(*x.shape), dmean, dcov)
    )


def kalman_filter(label, x, gamma, beta, prior, destimate=True):
    above = dmoments(*x.shape[:-2], C) if destimate else None
    return Case("kalman_filter_norm", label, (x, gamma, beta, prior, EPS), (normal(*x.shape), above))


CASES = [
    prediction("one batch", 4, C),
    prediction("batches on two axes", 2, G, 2, C),
    prediction("one channel", 1, 1),
    norm("one batch", data(), GAMMA, BETA, (C,), 0.4),
    norm("one prior for all batches", data(G), GAMMA, BETA, (C,), 0.3),
    norm("a prior each", data(G), GAMMA, BETA, (G, C), np.array(0.8)),
    norm("axis of 1", data(G), GAMMA, BETA, (1, C), 0.6),
    norm("two axes", data(G, 2), None, BETA, (2, C), 0.7),
    norm("last of a chain", data(G), GAMMA, None, (C,), 0.4, (False, False)),
    norm("mean from above", data(G), GAMMA, BETA, (C,), 0.4, (True, False)),
    norm("covariance from above", data(G), GAMMA, BETA, (C,), 0.4, (False, True)),
    norm("no prior", data(G), GAMMA, BETA, None, None),
    norm("nothing but x", data(), None, None, None, None, (False, False)),
    norm("gain 1", data(G), GAMMA, BETA, (C,), 1.0),
    norm("gain 0", data(G), GAMMA, BETA, (C,), 0.0),
    Case("scalar_noise", "number", (-0.7, C), (normal(C, C),)),
    Case("scalar_noise", "array of no axes", (np.array(0.4), 2), (normal(2, 2),)),
    Case("diagonal_noise", "three channels", (normal(C),), (normal(C, C),)),
    Case("cholesky_noise", "whole square", (normal(C, C),), (normal(C, C),)),
    kalman_filter("one batch", data(), GAMMA, BETA, moments(C)),
    kalman_filter("one prior for all batches", data(G), GAMMA, BETA, moments(C)),
    kalman_filter("a prior each", data(G), GAMMA, BETA, moments(G, C)),
    kalman_filter("axis of 1", data(G), GAMMA, BETA, moments(1, C)),
    kalman_filter("two axes", data(G, 2), None, BETA, moments(2, C)),
    kalman_filter("last of a chain", data(G), GAMMA, None, moments(C), destimate=False),
    kalman_filter("certain prior", data(G), GAMMA, BETA, kr.Moments(mean(C), np.zeros(C))),
    kalman_filter("no prior", data(G), GAMMA, BETA, None),
    kalman_filter("nothing but x", data(), None, None, None, destimate=False),
]
AT_THE_END_OF_ITS_RANGE = ("gain 0", "gain 1", "certain prior")


def ids(case):
    return f"{case.pair}: {case.label}" if isinstance(case, Case) else None


each_case = pytest.mark.parametrize("case", CASES, ids=ids)


def gradients(case):
    """What the package's own backward returns, one gradient an argument."""
    last = case.forward(*case.arguments)[-1:] if case.cached else case.arguments
    result = case.backward(*case.given, *last)
    return result if isinstance(result, tuple) else (result,)


@each_case
def test_complex_step(case, backend):
    gradcheck.check(case.forward, case.arguments, case.upstream, gradients(case), tolerances.COMPLEX_STEP)


@pytest.mark.parametrize("case", [c for c in CASES if c.label not in AT_THE_END_OF_ITS_RANGE], ids=ids)
def test_central_difference(case, backend):
    method = gradcheck.central_difference
    gradcheck.check(case.forward, case.arguments, case.upstream, gradients(case), tolerances.CENTRAL_DIFFERENCE, method)


@each_case
def test_forward_agrees_with_loops(case, backend):
    result = case.forward(*case.arguments)
    result = result[:-1] if case.cached else result
    assert gradcheck.max_error(result, getattr(case.loops, case.pair)(*case.arguments)) <= tolerances.LOOPS


@each_case
def test_backward_agrees_with_loops(case, backend):
    expected = getattr(case.loops, f"{case.pair}_backward")(*case.given, *case.arguments)
    assert gradcheck.max_error(gradients(case), expected) <= tolerances.LOOPS


CONTRAST = {  # the case of each pair on which every mistake shows
    "predict": "batches on two axes",
    "kalman_norm": "one prior for all batches",
    "scalar_noise": "number",
    "diagonal_noise": "three channels",
    "cholesky_noise": "whole square",
    "kalman_filter_norm": "one prior for all batches",
}
PLANTED = [
    (case, mistake)
    for case in CASES
    if CONTRAST[case.pair] == case.label
    for mistake in case.loops.MISTAKES[case.pair].split()
]
each_mistake = pytest.mark.parametrize(("case", "mistake"), PLANTED, ids=[f"{c.pair}: {m}" for c, m in PLANTED])


@each_mistake
def test_loops_tell_a_planted_mistake(case, mistake, backend):
    wrong = getattr(case.loops, f"{case.pair}_backward")(*case.given, *case.arguments, mistake=mistake)
    assert gradcheck.max_error(gradients(case), wrong) > tolerances.LOOPS


@pytest.mark.parametrize("method", [gradcheck.complex_step, gradcheck.central_difference], ids=["step", "difference"])
@each_mistake
def test_planted_mistake_is_rejected(case, mistake, method):
    backward = getattr(case.loops, f"{case.pair}_backward")
    tolerance = tolerances.COMPLEX_STEP if method is gradcheck.complex_step else tolerances.CENTRAL_DIFFERENCE
    arguments = case.forward, case.arguments, case.upstream
    gradcheck.check(*arguments, backward(*case.given, *case.arguments), tolerance, method)
    with pytest.raises(AssertionError, match=r"gradient of argument \d is off by .*; tolerance .*$"):
        gradcheck.check(*arguments, backward(*case.given, *case.arguments, mistake=mistake), tolerance, method)


@pytest.mark.parametrize("case", [c for c in CASES if c.pair == "kalman_norm"], ids=ids)
def test_staged_backward_equals_the_simplified_one(case, backend):
    *_, cache = case.forward(*case.arguments)
    staged = kr.full.kalman_norm_backward_staged(*case.given, cache)
    assert gradcheck.max_error(staged, gradients(case)) <= tolerances.STAGED


def mapped(function, value):
    """`function` of every array in nested tuples."""
    if isinstance(value, tuple):
        items = [mapped(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return function(value) if isinstance(value, np.ndarray) else value


def frozen(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def single(array):
    return array.astype(np.float32)


def double(array):
    return array.astype(np.float64)


@each_case
def test_read_only_arguments_stay_as_they_are(case, backend):
    before = gradients(case)
    locked = case._replace(arguments=mapped(frozen, case.arguments), given=mapped(frozen, case.given))
    for a, b in zip(gradcheck.leaves(gradients(locked)), gradcheck.leaves(before), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(gradcheck.leaves(locked.arguments), gradcheck.leaves(case.arguments), strict=True):
        np.testing.assert_array_equal(a, b)


@each_case
def test_gradients_have_the_shapes_of_their_arguments(case, backend):
    for gradient, argument in zip(gradients(case), case.arguments, strict=False):
        for a, b in zip(gradcheck.leaves(gradient), gradcheck.leaves(argument), strict=True):
            assert a.shape == b.shape and a.dtype == np.float64


@pytest.mark.parametrize("case", [c for c in CASES if c.label != "number"], ids=ids)
def test_float32_in_float32_out(case, backend):
    """The package computes in float64: what it returns is the gradient at the rounded arguments, rounded once."""
    narrow = case._replace(arguments=mapped(single, case.arguments), given=mapped(single, case.given))
    wide = case._replace(arguments=mapped(double, narrow.arguments), given=mapped(double, narrow.given))
    result, expected = gradients(narrow), gradients(wide)
    assert all(leaf.dtype == np.float32 for leaf in gradcheck.leaves(result))
    assert gradcheck.max_error(result, expected) <= tolerances.ROUNDED_TO_FLOAT32


def test_results_are_no_views_of_the_arguments():
    factor, mean_in, cov_in = np.eye(C), mean(C), cov(C)
    for result in (kr.full.cholesky_noise(factor), *kr.full.predict(mean_in, cov_in, np.eye(C), np.zeros((C, C)))):
        assert not any(np.shares_memory(result, a) for a in (factor, mean_in, cov_in))
