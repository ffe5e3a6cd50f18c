"""Every backward of the group forms against complex step, central differences and scalar loops."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, group_kalman_norm, group_norm
from kalnorm_ref.gradproof.loops import group as group_loops

EPS = 1e-3
N, L, C, G = 2, 3, 6, 3  # samples, positions, channels, groups
rng = np.random.default_rng(33)


class Case(NamedTuple):
    """One pair on one set of arguments: `given` is what its backward receives from above."""

    pair: str
    label: str
    arguments: tuple
    given: tuple
    upstream: Any  # the same in the structure of the forward's result

    @property
    def forward(self) -> Callable:
        return getattr(kr, self.pair if self.pair == "collapse" else f"{self.pair}_forward")


def data(*shape):
    return rng.normal(7.0, 3.0, shape or (N, L, C))


def moments(*shape):
    return kr.Moments(rng.normal(5.0, 2.0, shape), rng.uniform(2.0, 20.0, shape))


def dmoments(*shape):
    return kr.Moments(rng.standard_normal(shape), rng.standard_normal(shape))


X = data()
GAMMA, BETA = (rng.uniform(0.5, 2.0, C) * [1, -1, 1, 1, -1, 1] for _ in range(2))
GAINS = np.array([0.2, 0.65, 0.9])
PRIOR, PRIORS, DESTIMATE = moments(G), moments(N, G), dmoments(N, G)


def collapsed(label, arguments):
    up = dmoments(*arguments[0].mean.shape[:-1], arguments[1])
    return Case("collapse", label, arguments, (up,), up)


def plain(label, gamma, beta, groups, eps=EPS, x=X):
    dy = rng.standard_normal(x.shape)
    return Case("group_norm", label, (x, gamma, beta, groups, eps), (dy,), (dy, None, None))


def kalman(label, gamma, beta, prior, gain, groups=G, destimate=DESTIMATE, x=X):
    dy, arguments = rng.standard_normal(x.shape), (x, gamma, beta, prior, gain, groups, EPS)
    return Case("group_kalman_norm", label, arguments, (dy, destimate), (dy, destimate, None))


CASES = [
    collapsed("no batch", (moments(C), G)),
    collapsed("batches on two axes", (moments(N, 2, C), 2)),
    collapsed("a group each", (moments(N, C), C)),
    plain("three groups", GAMMA, BETA, G),
    plain("one group", GAMMA, BETA, 1),
    plain("a group per channel", GAMMA, BETA, C),
    plain("one position", GAMMA, BETA, 2, x=data(N, 1, C)),
    plain("no gamma", None, BETA, 2),
    plain("no beta", GAMMA, None, 2),
    plain("no parameters, no eps", None, None, G, 0.0),
    kalman("a prior for each sample", GAMMA, BETA, PRIORS, GAINS),
    kalman("one prior", GAMMA, BETA, PRIOR, GAINS),
    kalman("number gain, last of a chain", GAMMA, BETA, PRIORS, 0.4, destimate=None),
    kalman("one group", GAMMA, BETA, moments(N, 1), 0.7, 1, dmoments(N, 1)),
    kalman("a group per channel", GAMMA, BETA, moments(N, C), 0.1, C, dmoments(N, C)),
    kalman("one position", GAMMA, BETA, PRIORS, GAINS, x=data(N, 1, C)),
    kalman("no gamma", None, BETA, PRIORS, np.array(0.6)),
    kalman("no beta", GAMMA, None, PRIOR, GAINS),
    kalman("no prior", GAMMA, BETA, None, None),
    kalman("nothing but x", None, None, None, None, destimate=None),
    kalman("gain 1", GAMMA, BETA, PRIORS, 1.0),
    kalman("gain 0", GAMMA, BETA, PRIORS, 0.0),
]


def ids(case):
    return f"{case.pair}: {case.label}" if isinstance(case, Case) else None


each_case = pytest.mark.parametrize("case", CASES, ids=ids)


def gradients(case, backward=None):
    """What the package's own backward returns, one gradient an argument."""
    if case.pair == "collapse":
        return (kr.collapse_backward(*case.given, *case.arguments),)
    *_, cache = case.forward(*case.arguments)
    return (backward or getattr(kr, f"{case.pair}_backward"))(*case.given, cache)


@each_case
def test_complex_step(case, backend):
    gradcheck.check(case.forward, case.arguments, case.upstream, gradients(case), tolerances.COMPLEX_STEP)


@pytest.mark.parametrize("case", [c for c in CASES if c.label not in ("gain 0", "gain 1")], ids=ids)
def test_central_difference(case, backend):
    method = gradcheck.central_difference
    gradcheck.check(case.forward, case.arguments, case.upstream, gradients(case), tolerances.CENTRAL_DIFFERENCE, method)


@each_case
def test_agrees_with_loops(case, backend):
    result, loops = case.forward(*case.arguments), getattr(group_loops, case.pair)
    result = tuple(result) if case.pair == "collapse" else (result[0], tuple(result[1]))
    assert gradcheck.max_error(result, loops(*case.arguments)) <= tolerances.LOOPS
    expected = getattr(group_loops, f"{case.pair}_backward")(*case.given, *case.arguments)
    assert gradcheck.max_error(gradients(case), expected) <= tolerances.LOOPS


CONTRAST = ("batches on two axes", "three groups", "one prior")  # the case of each pair on which every mistake shows
PLANTED = [(c, mistake) for c in CASES if c.label in CONTRAST for mistake in group_loops.MISTAKES[c.pair].split()]
each_planted = pytest.mark.parametrize(("case", "mistake"), PLANTED, ids=[f"{c.pair}: {m}" for c, m in PLANTED])


@each_planted
def test_loops_tell_a_planted_mistake(case, mistake, backend):
    wrong = getattr(group_loops, f"{case.pair}_backward")(*case.given, *case.arguments, mistake=mistake)
    assert gradcheck.max_error(gradients(case), wrong) > tolerances.LOOPS


@each_planted
@pytest.mark.parametrize("method", [gradcheck.complex_step, gradcheck.central_difference], ids=["step", "difference"])
def test_planted_mistake_is_rejected(case, mistake, method):
    backward = getattr(group_loops, f"{case.pair}_backward")
    tolerance = tolerances.COMPLEX_STEP if method is gradcheck.complex_step else tolerances.CENTRAL_DIFFERENCE
    arguments = case.forward, case.arguments, case.upstream
    gradcheck.check(*arguments, backward(*case.given, *case.arguments), tolerance, method)
    with pytest.raises(AssertionError, match=r"gradient of argument \d is off by .*; tolerance .*$"):
        gradcheck.check(*arguments, backward(*case.given, *case.arguments, mistake=mistake), tolerance, method)


STAGED = {
    "group_norm": group_norm.group_norm_backward_staged,
    "group_kalman_norm": group_kalman_norm.group_kalman_norm_backward_staged,
}


@pytest.mark.parametrize("case", [c for c in CASES if c.pair in STAGED], ids=ids)
def test_staged_backward_equals_the_simplified_one(case, backend):
    assert gradcheck.max_error(gradients(case, STAGED[case.pair]), gradients(case)) <= tolerances.STAGED


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
