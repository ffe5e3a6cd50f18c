"""Every backward against three things that share nothing with it: complex step, central differences, scalar loops.

Each public pair runs on cases that differ in what broadcasts and what is absent. For each pair, every mistake that
MISTAKES of the loops can plant must be rejected by the same check that the right gradient passes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import batch_norm, batch_renorm, gradcheck, kalman_norm
from kalnorm_ref.gradproof.loops import normalizers as derivations

EPS = 1e-3
C, M, G = 3, 5, 2  # channels, samples, statistics batches


class Case(NamedTuple):
    """One pair on one set of arguments: `given` is what its backward receives from above."""

    pair: str
    label: str
    arguments: tuple
    given: tuple
    upstream: Any  # the same in the structure of the forward's result

    @property
    def forward(self) -> Callable:
        return getattr(kr, self.pair + FORWARD_SUFFIX[self.pair])


FORWARD_SUFFIX = dict.fromkeys(("observe", "fuse", "standardize", "predict"), "") | dict.fromkeys(
    ("batch_norm", "batch_renorm", "kalman_norm"), "_forward"
)
rng = np.random.default_rng(20)


def data(*lead):
    return rng.normal(7.0, 3.0, (*lead, M, C))


def dy(*lead):
    return rng.standard_normal((*lead, M, C))


def moments(*shape):
    return kr.Moments(rng.normal(5.0, 2.0, shape), rng.uniform(2.0, 20.0, shape))


def dmoments(*shape):
    return kr.Moments(rng.standard_normal(shape), rng.standard_normal(shape))


def parameter():
    return rng.uniform(0.5, 2.0, C) * [1, -1, 1]


GAMMA, BETA, GAINS = parameter(), parameter(), np.array([0.2, 0.65, 0.9])


def primitive(pair, label, arguments, shape):
    d = dmoments(*shape)
    return Case(pair, label, arguments, (d,), d)


def normalizer(pair, label, arguments, destimate=()):
    up = (dy(*arguments[0].shape[:-2]), *destimate)
    nones = (None,) * ((2 if pair == "standardize" else 3) - len(up))
    return Case(pair, label, arguments, up, up + nones)


CASES = [
    primitive("observe", "one batch", (data(),), (C,)),
    primitive("observe", "batches on two axes", (data(G, 2),), (G, 2, C)),
    primitive("fuse", "number gain", (moments(C), moments(C), 0.3), (C,)),
    primitive("fuse", "gain per channel", (moments(G, C), moments(G, C), GAINS), (G, C)),
    primitive("fuse", "one prior for all batches", (moments(C), moments(G, C), 0.7), (G, C)),
    primitive("fuse", "prior with an axis of length 1", (moments(G, 1, C), moments(G, 4, C), GAINS), (G, 4, C)),
    primitive("fuse", "one observation for many priors", (moments(G, C), moments(C), np.array(0.4)), (G, C)),
    primitive("predict", "full, number noise", (moments(C), rng.standard_normal((4, C)), 0.3), (4,)),
    primitive("predict", "full, noise per channel", (moments(G, C), rng.standard_normal((2, C)), GAINS[:2]), (G, 2)),
    primitive("predict", "full, two axes", (moments(G, 2, C), rng.standard_normal((4, C)), np.array(0.3)), (G, 2, 4)),
    primitive("predict", "diagonal, number noise", (moments(C), parameter(), 0.3), (C,)),
    primitive("predict", "diagonal, noise per channel", (moments(G, C), parameter(), GAINS), (G, C)),
    normalizer("standardize", "statistics per batch", (data(G), moments(G, C), GAMMA, BETA, EPS)),
    normalizer("standardize", "one statistic for all batches", (data(G), moments(C), GAMMA, BETA, EPS)),
    normalizer("standardize", "statistic with an axis of length 1", (data(G), moments(1, C), GAMMA, None, EPS)),
    normalizer("standardize", "no gamma", (data(), moments(C), None, BETA, EPS)),
    normalizer("standardize", "no parameters, no eps", (data(), moments(C), None, None, 0.0)),
    normalizer("batch_norm", "one batch", (data(), GAMMA, BETA, EPS)),
    normalizer("batch_norm", "batches on two axes", (data(G, 2), GAMMA, BETA, EPS)),
    normalizer("batch_norm", "no gamma", (data(G), None, BETA, EPS)),
    normalizer("batch_norm", "no beta", (data(G), GAMMA, None, EPS)),
    normalizer("batch_norm", "no parameters, no eps", (data(), None, None, 0.0)),
    normalizer("batch_renorm", "number corrections", (data(G), GAMMA, BETA, 1.7, -0.4, EPS)),
    normalizer("batch_renorm", "per channel", (data(G), GAMMA, BETA, np.array([0.4, 1.0, 3.0]), GAINS - 0.5, EPS)),
    normalizer("batch_renorm", "per batch", (data(G), GAMMA, None, moments(G, C).var, moments(G, C).mean, EPS)),
    normalizer("batch_renorm", "no gamma", (data(), None, BETA, 0.6, np.array([-5.0, 0.1, 5.0]), EPS)),
    normalizer("kalman_norm", "last of a chain", (data(), GAMMA, BETA, moments(C), 0.4, EPS), (None,)),
    normalizer("kalman_norm", "number gain", (data(), GAMMA, BETA, moments(C), 0.4, EPS), (dmoments(C),)),
    normalizer("kalman_norm", "one prior", (data(G), GAMMA, BETA, moments(C), GAINS, EPS), (dmoments(G, C),)),
    normalizer("kalman_norm", "a prior each", (data(G), GAMMA, BETA, moments(G, C), GAINS, EPS), (dmoments(G, C),)),
    normalizer("kalman_norm", "axis of 1", (data(G), GAMMA, BETA, moments(1, C), 0.8, EPS), (dmoments(G, C),)),
    normalizer("kalman_norm", "two axes", (data(G, 2), None, BETA, moments(2, C), 0.6, EPS), (dmoments(G, 2, C),)),
    normalizer("kalman_norm", "no beta", (data(G), GAMMA, None, moments(G, C), 0.1, EPS), (None,)),
    normalizer("kalman_norm", "no prior", (data(G), GAMMA, BETA, None, None, EPS), (dmoments(G, C),)),
    normalizer("kalman_norm", "nothing but x", (data(), None, None, None, None, EPS), (None,)),
    normalizer("kalman_norm", "gain 1", (data(), GAMMA, BETA, moments(C), 1.0, EPS), (dmoments(C),)),
    normalizer("kalman_norm", "gain 0", (data(), GAMMA, BETA, moments(C), 0.0, EPS), (dmoments(C),)),
]


def ids(case):
    return f"{case.pair}: {case.label}" if isinstance(case, Case) else None


each_case = pytest.mark.parametrize("case", CASES, ids=ids)


def gradients(case):
    """What the package's own backward returns, one gradient an argument."""
    match case.pair:
        case "observe":
            (x,) = case.arguments
            return (kr.observe_backward(*case.given, x, kr.observe(x)),)
        case "fuse" | "predict":
            return getattr(kr, f"{case.pair}_backward")(*case.given, *case.arguments)
    *_, cache = case.forward(*case.arguments)
    return getattr(kr, f"{case.pair}_backward")(*case.given, cache)


@each_case
def test_complex_step(case, backend):
    gradcheck.check(case.forward, case.arguments, case.upstream, gradients(case), tolerances.COMPLEX_STEP)


@pytest.mark.parametrize("case", [c for c in CASES if c.label not in ("gain 0", "gain 1")], ids=ids)
def test_central_difference(case, backend):
    method = gradcheck.central_difference
    gradcheck.check(case.forward, case.arguments, case.upstream, gradients(case), tolerances.CENTRAL_DIFFERENCE, method)


@each_case
def test_forward_agrees_with_loops(case, backend):
    result, expected = case.forward(*case.arguments), getattr(derivations, case.pair)(*case.arguments)
    if isinstance(result, kr.Moments):
        result = tuple(result)
    elif case.pair == "standardize":
        result = result[0]
    else:
        result = result[:2]
    assert gradcheck.max_error(result, expected) <= tolerances.LOOPS


@each_case
def test_backward_agrees_with_loops(case, backend):
    expected = getattr(derivations, f"{case.pair}_backward")(*case.given, *case.arguments)
    assert gradcheck.max_error(gradients(case), expected) <= tolerances.LOOPS


CONTRAST = {  # the case of each pair on which every mistake shows
    "observe": "batches on two axes",
    "fuse": "gain per channel",
    "predict": "full, noise per channel",
    "standardize": "statistics per batch",
    "batch_norm": "batches on two axes",
    "batch_renorm": "per channel",
    "kalman_norm": "one prior",
}
PLANTED = [
    (case, mistake)
    for case in CASES
    if CONTRAST[case.pair] == case.label
    for mistake in derivations.MISTAKES[case.pair].split()
]


@pytest.mark.parametrize(("case", "mistake"), PLANTED, ids=[f"{c.pair}: {m}" for c, m in PLANTED])
def test_loops_tell_a_planted_mistake(case, mistake, backend):
    wrong = getattr(derivations, f"{case.pair}_backward")(*case.given, *case.arguments, mistake=mistake)
    assert gradcheck.max_error(gradients(case), wrong) > tolerances.LOOPS


@pytest.mark.parametrize("method", [gradcheck.complex_step, gradcheck.central_difference], ids=["step", "difference"])
@pytest.mark.parametrize(("case", "mistake"), PLANTED, ids=[f"{c.pair}: {m}" for c, m in PLANTED])
def test_planted_mistake_is_rejected(case, mistake, method):
    backward = getattr(derivations, f"{case.pair}_backward")
    tolerance = tolerances.COMPLEX_STEP if method is gradcheck.complex_step else tolerances.CENTRAL_DIFFERENCE
    arguments = case.forward, case.arguments, case.upstream
    gradcheck.check(*arguments, backward(*case.given, *case.arguments), tolerance, method)
    with pytest.raises(AssertionError, match=r"gradient of argument \d is off by .*; tolerance .*$"):
        gradcheck.check(*arguments, backward(*case.given, *case.arguments, mistake=mistake), tolerance, method)


STAGED = {
    "batch_norm": batch_norm.batch_norm_backward_staged,
    "batch_renorm": batch_renorm.batch_renorm_backward_staged,
    "kalman_norm": kalman_norm.kalman_norm_backward_staged,
}


@pytest.mark.parametrize("case", [c for c in CASES if c.pair in STAGED], ids=ids)
def test_staged_backward_equals_the_simplified_one(case, backend):
    *_, cache = case.forward(*case.arguments)
    assert gradcheck.max_error(STAGED[case.pair](*case.given, cache), gradients(case)) <= tolerances.STAGED


def frozen(value):
    if isinstance(value, tuple):
        return type(value)(*map(frozen, value)) if hasattr(value, "_fields") else tuple(map(frozen, value))
    if not isinstance(value, np.ndarray):
        return value
    value = value.copy()
    value.flags.writeable = False
    return value


@each_case
def test_read_only_arguments_stay_as_they_are(case, backend):
    before = gradients(case)
    locked = case._replace(arguments=frozen(case.arguments), given=frozen(case.given))
    after = gradients(locked)
    for a, b in zip(gradcheck.leaves(after), gradcheck.leaves(before), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(gradcheck.leaves(locked.arguments), gradcheck.leaves(case.arguments), strict=True):
        np.testing.assert_array_equal(a, b)


@each_case
def test_gradients_have_the_shapes_of_their_arguments(case, backend):
    for gradient, argument in zip(gradients(case), case.arguments, strict=False):
        for a, b in zip(gradcheck.leaves(gradient), gradcheck.leaves(argument), strict=True):
            assert a.shape == b.shape and a.dtype == np.float64


def single(value):
    if isinstance(value, tuple):
        return type(value)(*map(single, value)) if hasattr(value, "_fields") else tuple(map(single, value))
    return value.astype(np.float32) if isinstance(value, np.ndarray) else value


@each_case
def test_float32_in_float32_out(case, backend):
    narrow = case._replace(arguments=single(case.arguments), given=single(case.given))
    result, expected = gradients(narrow), gradients(case)
    assert all(leaf.dtype == np.float32 for leaf in gradcheck.leaves(result))
    assert gradcheck.max_error(result, expected) <= tolerances.FLOAT32_INPUT
