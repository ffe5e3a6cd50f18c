"""Holds every variant and option of KalmanNorm, in a chain, to the complex step and to the limits that it has."""

import copy

import numpy as np
import pytest
import tolerances
from test_layers import as_function, images, scattered

import kalnorm_ref as kr
from kalnorm_ref import gradcheck, inference
from kalnorm_ref.layers import Estimate
from kalnorm_ref.layers.gain import Gain
from kalnorm_ref.layers.transition import Transition

rng = np.random.default_rng(73)
pytestmark = pytest.mark.usefixtures("reseeded")
C, PREVIOUS = 3, 2
F64 = {"dtype": np.float64}
FULL = {"covariance": "full"}

KALMAN = {
    "full": {"transition": "full"},
    "full, gain per channel": {"gain_kind": "learned_per_channel", "statistics_batch_size": 2},
    "diagonal, constant gain": {"transition": "diagonal", "gain_kind": "constant", "gain": 0.3},
    "diagonal, noise per channel": {"transition": "diagonal", "noise_form": "diagonal", "gain": 0.3},
    "noise per channel": {"noise_form": "diagonal", "gain": 0.6, "statistics_batch_size": 2},
    "shrink": {"transition": "zero", "statistics_batch_size": 2},
    "shrink, noise per channel": {"transition": "zero", "noise_form": "diagonal", "statistics_batch_size": 3},
    "pseudo-count": {"gain_kind": "pseudo_count", "statistics_batch_size": 3},
    "covariance": {"gain": 0.4, "statistics_batch_size": 2, **FULL},
    "covariance, constant gain": {"gain": 0.7, "gain_kind": "constant", "noise_form": "diagonal", **FULL},
    "covariance, diagonal": {"transition": "diagonal", "noise_form": "cholesky", "statistics_batch_size": 3, **FULL},
    "covariance, shrink": {"transition": "zero", "noise_form": "cholesky", "statistics_batch_size": 3, **FULL},
    "covariance, pseudo-count": {"noise_form": "cholesky", "gain_kind": "pseudo_count", "gain": 0.2, **FULL},
    "belief": {"variant": "analytic", "gain": 0.4, "statistics_batch_size": 3},
    "observed": {"variant": "analytic", "push": "observed", "gain": 0.4, "gain_kind": "learned"},
    "observed, prior kept": {"variant": "analytic", "push": "observed", "shortcut": "prior", "gain": 0.6},
    "released push": {"variant": "analytic", "push": "released", "gain_kind": "learned_per_channel", "gain": 0.8},
    "belief, prior kept": {"variant": "analytic", "shortcut": "prior", "gain": 0.2, "statistics_batch_size": 2},
    "belief, pseudo-count": {"variant": "analytic", "gain_kind": "pseudo_count", "statistics_batch_size": 2},
    "released": {"variant": "released", "gain": 0.4, "statistics_batch_size": 3},
    "released, prior kept": {"variant": "released", "shortcut": "prior", "gain_kind": "learned_per_channel"},
    "released, guarded": {"variant": "released", "guard": 50, "gain_kind": "pseudo_count", "gain": 0.7},
    "filter": {"variant": "filter", "statistics_batch_size": 2},
    "filter, diagonal": {"variant": "filter", "transition": "diagonal", "noise_form": "diagonal", "noise": 0.7},
}


def arriving(options, groups):
    """The layer's previous channels and what arrives there: off-diagonal covariances too."""
    same = options.get("variant", "learned") in ("analytic", "released") or options.get("transition") == "diagonal"
    previous = C if same else PREVIOUS
    mean, var = rng.normal(3, 2, (groups, previous)), rng.uniform(2, 9, (groups, previous))
    if options.get("covariance") == "full":
        factor = rng.normal(0, 1.5, (groups, previous, previous))
        var = factor @ np.swapaxes(factor, 1, 2) + var[..., None] * np.eye(previous)
    return previous, kr.Moments(mean, var)


def in_a_chain(options, training=True):
    """A layer of these options, x, what arrives, and its forward to everything that leaves."""
    x, inference = (images(), "running") if training else (images(7), "batch")
    size = options.get("statistics_batch_size", len(x))
    previous, arrives = arriving(options, -(-len(x) // size))
    layer = scattered(kr.KalmanNorm(C, previous, eps=0.1, inference=inference, **options, **F64))
    if not training:
        whole = options.get("statistics_batch_size", 1)
        layer.forward(x[: len(x) // whole * whole], training=True)  # the step, the draws
    travel = {"analytic": "closed", "released": "sampled"}.get(layer.variant, "held")

    def run(layer, x, moments):
        y, main, kept = layer.fork(x, Estimate(moments, travel), training)
        assert main.travel == travel
        return y, main.moments, kept and kept.moments

    return layer, x, arrives, run


def gradients_of(layer, x, arrives, run):
    """Arguments, upstream gradients and the gradients of one backward."""
    outputs = run(layer, x, arrives)
    dy, *up = (a if a is None else kr.Moments(*map(random, a)) if isinstance(a, tuple) else random(a) for a in outputs)
    gradients = (*layer.fork_backward(dy, *up), *(layer.grads[key] for key in layer.params))
    return (x, arrives, *layer.params.values()), (dy, *up), gradients


def complete(arguments, up, gradients):
    """The same with zeros for a gradient of None to the moments that arrive."""
    darrives = kr.Moments(*map(np.zeros_like, arguments[1])) if gradients[1] is None else gradients[1]
    return arguments, up, (gradients[0], darrives, *gradients[2:])


def random(like):
    return rng.standard_normal(like.shape)


@pytest.mark.parametrize("training", [True, False], ids=["training", "batch inference"])
@pytest.mark.parametrize("name", KALMAN)
def test_gradient_of_a_kalman_layer_in_a_chain(name, training, backend):
    """To x, to the moments that arrive and to every parameter, from y and from both estimates that leave."""
    layer, *rest, run = in_a_chain(KALMAN[name], training)
    function = as_function(copy.deepcopy(layer), run=run)
    arguments, up, gradients = gradients_of(layer, *rest, run)
    held = KALMAN[name].get("variant", "learned") not in ("analytic", "released")
    assert (up[-1] is None) == held
    assert (gradients[1] is None) == (KALMAN[name].get("transition") == "zero")  # which knows no other layer
    gradcheck.check(function, *complete(arguments, up, gradients), tolerances.COMPLEX_STEP)


@pytest.mark.parametrize("name", ["pseudo-count", "covariance, diagonal", "observed", "released", "filter"])
def test_central_difference_of_a_kalman_layer(name, backend):
    layer, *rest, run = in_a_chain(KALMAN[name])
    function = as_function(copy.deepcopy(layer), run=run, dtype=np.float64)
    case = gradients_of(layer, *rest, run)
    gradcheck.check(function, *case, tolerances.CENTRAL_DIFFERENCE, gradcheck.central_difference)


def observed_ignored(self, dy, y, destimate, dobserved, kept, right=kr.KalmanNorm.normalize_backward):
    return right(self, dy, y, destimate, None, kept)


def shortcut_ignored(self, dy, dmain, dside, right=kr.KalmanNorm.fork_backward):
    return right(self, dy, dmain, None)


def changed(name, change):
    """The backward of Transition with one of its gradients to parameters changed."""

    def backward(self, *arguments, right=Transition.backward):
        destimate, grads = right(self, *arguments)
        return destimate, grads | {name: change(grads[name])}

    return backward


MISTAKES = {
    "logit for gain": ("full", Gain, "backward", lambda self, d, q: {"gain_logit": d}),
    "pseudo-count with the sign of a logit": (
        *("pseudo-count", Gain, "backward"),
        lambda self, d, q: {"log_pseudo_count": q * (1 - q) * d},
    ),
    "noise for its logarithm": ("noise per channel", Transition, "backward", changed("log_noise", lambda d: d / 0.1)),
    "transition without its matrix": ("covariance", Transition, "backward", changed("transition", np.transpose)),
    "factor above its diagonal": (
        *("covariance, shrink", Transition, "backward"),
        changed("noise_factor", lambda d: d + np.triu(np.ones_like(d), 1)),
    ),
    "observed moments ignored": ("observed", kr.KalmanNorm, "normalize_backward", observed_ignored),
    "shortcut's posterior ignored": ("released", kr.KalmanNorm, "fork_backward", shortcut_ignored),
    "shortcut's prior ignored": ("belief, prior kept", kr.KalmanNorm, "fork_backward", shortcut_ignored),
    "push without gamma": (
        *("belief", kr.KalmanNorm, "add_grads"),
        lambda self, gamma=None, beta=None: None if beta is None else self.grads["beta"].__iadd__(beta),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistake_is_found(mistake, monkeypatch):
    name, owner, method, wrong = MISTAKES[mistake]
    layer, *rest, run = in_a_chain(KALMAN[name])
    function = as_function(copy.deepcopy(layer), run=run)
    monkeypatch.setattr(owner, method, wrong)
    with pytest.raises(AssertionError, match=r"^gradient of argument \d is off by .*; tolerance 1e-12$"):
        gradcheck.check(function, *complete(*gradients_of(layer, *rest, run)), tolerances.COMPLEX_STEP)


# ---- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["learned", "covariance", "analytic", "released"])
def test_constant_gain_1_is_batch_norm(variant, backend):
    """Forward, backward and running averages, whatever prior arrives."""
    x, dy = images(), rng.standard_normal((6, 2, 2, C))
    plain = scattered(kr.BatchNorm(C, statistics_batch_size=3, **F64))
    options = {"covariance": "full"} if variant == "covariance" else {"variant": variant}
    kalman = kr.KalmanNorm(C, C, gain=1, gain_kind="constant", statistics_batch_size=3, **options, **F64)
    for key in ("gamma", "beta"):
        kalman.params[key][...] = plain.params[key]
    _, arrives = arriving({**options, "transition": "diagonal"}, 2)
    y, _ = kalman.carry(x, Estimate(arrives), training=True)
    assert gradcheck.max_error(y, plain.forward(x, training=True)) <= tolerances.LOOPS
    dx, darrives = kalman.carry_backward(dy, None)
    assert gradcheck.max_error(dx, plain.backward(dy)) <= tolerances.LOOPS
    assert not darrives.var.any() and np.abs(darrives.mean).max() <= tolerances.LOOPS * np.abs(dx).max()
    for key, value in {**plain.grads, **plain.running}.items():
        assert gradcheck.max_error({**kalman.grads, **kalman.running}[key], value) <= tolerances.LOOPS


@pytest.mark.parametrize("options", KALMAN.values(), ids=KALMAN)
def test_without_a_prior_every_variant_is_batch_norm(options, backend):
    """The first of a chain, and one that nothing arrives at; only a transition of zero needs no other layer."""
    x, size = images(12), options.get("statistics_batch_size")
    plain = scattered(kr.BatchNorm(C, statistics_batch_size=size, **F64))
    dy = rng.standard_normal(x.shape)
    y, dx = plain.forward(x, training=True), plain.backward(dy)
    for previous in (None, C):
        layer = kr.KalmanNorm(C, previous, **options, **F64)
        layer.params["gamma"][...], layer.params["beta"][...] = plain.params.values()
        error = gradcheck.max_error(layer.forward(x, training=True), y)
        if previous and options.get("transition") == "zero":
            assert error > 0.01
        else:
            assert error <= tolerances.LOOPS and gradcheck.max_error(layer.backward(dy), dx) <= tolerances.LOOPS
            assert not any(layer.grads[key].any() for key in layer.grads.keys() - {"gamma", "beta"})
            assert gradcheck.max_error(layer.running["running_var"], plain.running["running_var"]) <= tolerances.LOOPS


def filtering(noise, x, arrives):
    """The filter at an identity transition: output, what it sends on, and what it has Seen, beside batch norm."""
    layer = scattered(kr.KalmanNorm(C, C, "filter", transition="diagonal", noise=noise, **F64))
    layer.params["transition"][...], layer.params["log_noise"][...] = 1, np.log(noise)
    seen = []
    with inference.watch(layer, lambda path, one: seen.append(one)):
        y, sent = layer.carry(x, Estimate(arrives), training=True)
    return layer, y, sent.moments, seen[0]


def test_limits_of_the_filter(backend):
    """A prior that knows nothing is batch normalization; one that is certain keeps its mean, about which v is taken."""
    x, dy, (_, arrives) = images(), rng.standard_normal((6, 2, 2, C)), arriving({"transition": "diagonal"}, 1)
    layer, y, sent, seen = filtering(1e30, x, arrives)
    plain = kr.BatchNorm(C, **F64)
    plain.params["gamma"][...], plain.params["beta"][...] = layer.params["gamma"], layer.params["beta"]
    assert gradcheck.max_error(y, plain.forward(x, training=True)) <= tolerances.LOOPS
    assert gradcheck.max_error(layer.carry_backward(dy, None)[0], plain.backward(dy)) <= tolerances.LOOPS
    rows = x.reshape(-1, C)
    assert gradcheck.max_error(sent.var[0], rows.var(axis=0) / len(rows)) <= tolerances.LOOPS
    _, y, sent, seen = filtering(1e-300, x, arrives._replace(var=np.zeros((1, C))))
    around = ((rows - arrives.mean) ** 2).mean(axis=0)
    expected = (x - arrives.mean) / np.sqrt(around + 1e-5) * layer.params["gamma"] + layer.params["beta"]
    assert gradcheck.max_error(y, expected) <= tolerances.LOOPS
    assert gradcheck.max_error((sent.mean, seen.used.var[0]), (arrives.mean, around)) <= tolerances.LOOPS
    assert sent.var.max() <= 2e-300


def test_the_filter_computes_its_gain(backend):
    """K = m / (m + S/P): it grows with the batch by itself, and the error of the mean never exceeds the prior's."""
    _, arrives = arriving({"transition": "diagonal"}, 1)
    gains = []
    for n in (1, 4, 64):
        x = images(n)
        _, _, sent, seen = filtering(0.2, x, arrives)
        m, s, p = seen.m, x.reshape(-1, C).var(axis=0), arrives.var[0] + 0.2
        assert m == 4 * n and gradcheck.max_error(seen.gain[0], m / (m + s / p)) <= tolerances.LOOPS
        assert gradcheck.max_error((seen.prior.var[0], sent.var[0]), (p, (1 - seen.gain[0]) * p)) <= tolerances.LOOPS
        assert (sent.var < seen.prior.var).all() and (seen.used.var >= seen.observed.var).all()
        gains.append(seen.gain.mean())
    assert gains == sorted(gains) and gains[0] < 0.9 < gains[-1]
