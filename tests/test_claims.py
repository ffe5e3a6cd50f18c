"""Holds the Kalman variants, in whole networks, to the claims of docs/equations.md: what a belief forgets, what no
rescaling changes, what stays a covariance, and when the covariance is its diagonal."""

import copy

import numpy as np
import pytest
import tolerances
from test_layers import images, scattered

import kalnorm_ref as kr
from kalnorm_ref import full_covariance, gradcheck, inference
from kalnorm_ref.layers import Estimate

rng = np.random.default_rng(83)
pytestmark = pytest.mark.usefixtures("reseeded")
C, PREVIOUS = 3, 2
F64 = {"dtype": np.float64}
X = np.random.default_rng(1).normal(3.0, 2.0, (6, 8, 8, 2))
TINY = {"eps": 1e-12}


def chain(push):
    """Three normalizers with convolutions between them, and no residual stream."""
    draw, layers = np.random.default_rng(3), []
    for before, after in ((2, 4), (4, 4), (4, 5)):
        norm = kr.KalmanNorm(after, before if layers else None, "analytic", 0.4, eps=1e-12, push=push, **F64)
        layers += [kr.ReLU()] if layers else []
        layers += [kr.Conv2d(before, after, 3, padding=1, rng=draw, **F64), scattered(norm, seed=len(layers))]
    return kr.Sequential(*layers)


def priors(net, x):
    """The prior of each normalizer in one training forward, by path."""
    found = {}
    with inference.watch(net, lambda path, seen: found.update({path: seen.prior})):
        net.forward(x, training=True)
    return found


@pytest.mark.parametrize(("push", "forgets"), [("belief", True), ("observed", False), ("released", False)])
def test_a_belief_forgets_the_data(push, forgets):
    """Without residual streams the next prior is a function of gamma, beta and the weights (C4)."""
    before_last = kr.Sequential(*chain(push).layers[:-1])
    first, second = (before_last.carry(x, None, training=True)[1].moments for x in (X, 9 * X**2 - 4))
    error = gradcheck.max_error(first, second)
    assert error <= tolerances.FORGOTTEN if forgets else error > 1e-3


@pytest.mark.parametrize(
    ("model", "forgets"),
    [(kr.models.cnn5, True), (kr.models.mlp, True), (lambda **k: kr.models.resnet(8, **k), False)],
    ids=["cnn5", "mlp", "resnet"],
)
def test_every_belief_of_a_network_forgets_the_data(model, forgets):
    """Every prior after the first layer stays when the data are replaced, unless a residual stream carries them on."""
    net = scattered(model(norm="kn-analytic", in_channels=2, classes=3, gain=0.3, **TINY, **F64))
    first, second = (priors(net, x) for x in (X, 9 * X**2 - 4))
    assert first.keys() == second.keys() and [prior for prior in first.values() if prior is None] == [None]
    errors = [gradcheck.max_error(second[path], prior) for path, prior in first.items() if prior is not None]
    assert len(errors) >= 1 and (max(errors) <= tolerances.FORGOTTEN if forgets else max(errors) > 1e-3)


# ---- what no rescaling changes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("push", "invariant"), [("belief", True), ("observed", True), ("released", False)])
def test_scale_of_the_weights(push, invariant):
    net, scaled = chain(push), chain(push)
    scaled.params["3.weight"][...] *= 7
    y, z = (n.forward(X, training=True) for n in (net, scaled))
    assert (y.std(axis=(0, 1, 2)) > 0.05).all()  # no dead channel, which nothing would change
    error = gradcheck.max_error(z, y)
    assert error <= tolerances.SCALED_WEIGHTS if invariant else error > 0.1


HALF = {"gain": 0.5, "gain_kind": "constant"}


@pytest.mark.parametrize("scaled", ["weight", "data"])
@pytest.mark.parametrize(
    ("norm", "options", "invariant"),
    [
        ("bn", {}, True),
        ("kn-analytic", {"push": "belief", **HALF}, True),
        ("kn-analytic", {"push": "observed", **HALF}, True),
        ("kn-analytic", {"push": "released", **HALF}, False),
        ("kn-released", HALF, False),
        ("kn-learned", HALF, False),
    ],
)
def test_scale_of_the_weights_and_the_data_of_a_network(norm, options, invariant, scaled):
    """Four rectified layers, p = 0.5: W2 -> 7 W2, x -> 20 x."""
    made = {"in_channels": 2, "image_size": (8, 8), **TINY, **F64, **options}
    net = scattered(kr.models.mlp((32, 32, 32, 32), norm, **made), seed=1)
    x = rng.normal(0.5, 1.0, (64, 8, 8, 2))
    y = net.forward(x, training=True)
    if scaled == "weight":
        net.params["4.weight"][...] *= 7
    z = net.forward(20 * x if scaled == "data" else x, training=True)
    error = gradcheck.max_error(z, y)
    assert error <= tolerances.SCALED_WEIGHTS if invariant else error > 0.1


def test_the_guard_stands_between_a_rescaled_weight_and_the_prior():
    """Un-normalized moments grow with the weights; the released guard of 100 then leaves batch normalization."""
    made = {"in_channels": 2, "image_size": (8, 8), **TINY, **F64, **HALF}
    x, ratios = rng.normal(0.5, 1.0, (64, 8, 8, 2)), []
    for factor, guard in ((1, None), (7, None), (7, 100.0)):
        net = kr.models.mlp((32, 32, 32, 32), "kn-released", guard=guard, **made)
        net.params["4.weight"][...] *= factor
        seen = []
        with inference.watch(net, lambda path, one, seen=seen: seen.append(one)):
            net.forward(x, training=True)
        assert [one.prior is None for one in seen] == [True, False, False, guard is not None]
        ratios.append([one.prior and np.mean(one.prior.var / one.observed.var) for one in seen])
    assert ratios[0][3] < 10 and 10 < ratios[1][2] == ratios[2][2] < 100 < ratios[1][3]


def test_shrink_knows_no_other_layer(backend):
    layer, x = kr.KalmanNorm(C, PREVIOUS, transition="zero", gain=0.2, **F64), images()
    outputs = []
    for mean in (0.0, 1e6):
        arrives = kr.Moments(np.full((1, PREVIOUS), mean), np.full((1, PREVIOUS), mean + 1))
        outputs.append(copy.deepcopy(layer).carry(x, Estimate(arrives), training=True)[0])
    outputs.append(copy.deepcopy(layer).forward(x, training=True))
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])


# ---- covariances -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("noise_form", ["scalar", "cholesky"])
def test_every_estimate_of_a_network_is_a_covariance(gain, noise_form):
    """Symmetric and positive semidefinite, with 64 channels from 12 samples, whose S is singular."""
    options = {"covariance": "full", "noise_form": noise_form, "gain": gain, "gain_kind": "constant"}
    net = kr.models.cnn5("kn-learned", in_channels=2, statistics_batch_size=3, **options, **F64)
    scattered(net)
    x, estimate, ranks = X, None, []
    for layer in net.layers:
        x, estimate = layer.carry(x, estimate, training=True)
        if isinstance(layer, kr.KalmanNorm):
            cov = estimate.moments.var
            values = np.linalg.eigvalsh(cov)
            assert cov.shape == (2, x.shape[-1], x.shape[-1]) and np.allclose(cov, np.swapaxes(cov, 1, 2))
            assert values.min() >= -tolerances.SEMIDEFINITE * values.max()
            ranks.append(np.linalg.matrix_rank(cov[0]))
    assert len(ranks) == 5 and (ranks[-1] < 64) == (gain == 1)


def uncorrelated(n=8):
    """Samples (n, C) whose sample covariance is exactly diagonal."""
    q, _ = np.linalg.qr(np.hstack([np.ones((n, 1)), rng.normal(size=(n, C))]))
    return q[:, 1:] * np.sqrt(n) * [1.0, 2.0, 3.0] + [5.0, -4.0, 7.0]


@pytest.mark.parametrize("transition", ["full", "diagonal"])
def test_full_covariance_is_the_diagonal_where_nothing_is_correlated(transition, backend):
    """The first layer's covariance is diagonal: the second one predicts, normalizes and learns the same."""
    x, results = (uncorrelated(), rng.normal(2, 3, (8, C))), []
    dy, draw = rng.standard_normal((8, C)), np.random.default_rng(6)
    values = draw.normal(0.3, 0.6, (C, C) if transition == "full" else C)
    for covariance in ("diagonal", "full"):
        first = scattered(kr.KalmanNorm(C, covariance=covariance, **F64))
        second = kr.KalmanNorm(C, C, transition=transition, covariance=covariance, gain=0.3, noise=0.7, **F64)
        second.params["transition"][...] = values
        _, estimate = first.carry(x[0], None, training=True)
        y, sent = second.carry(x[1], estimate, training=True)
        dx, _ = second.carry_backward(dy, None)
        var = sent.moments.var.diagonal(0, 1, 2) if covariance == "full" else sent.moments.var
        grads = [second.grads[key] for key in ("gamma", "transition", "log_noise", "gain_logit")]
        results.append((y, sent.moments.mean, var, dx, *grads, *second.running.values()))
    assert gradcheck.max_error(results[1], results[0]) <= tolerances.LOOPS


@pytest.mark.parametrize("transition", ["full", "diagonal"])
def test_what_lies_off_the_diagonal_counts_through_a_full_transition(transition):
    """A diagonal A takes variances to variances; a full one mixes in the covariances."""
    factor, x = rng.normal(0, 2, (C, C)), images()
    cov = factor @ factor.T + np.eye(C)
    outputs = []
    for var in (cov, np.diag(np.diag(cov))):
        layer = kr.KalmanNorm(C, C, transition=transition, covariance="full", gain=0.3, **F64)
        layer.params["transition"] += 0.4 if transition == "full" else 0
        moments = kr.Moments(np.zeros((1, C)), var[None])
        outputs.append(layer.carry(x, Estimate(moments), training=True)[0])
    error = gradcheck.max_error(*outputs)
    assert error > 1e-2 if transition == "full" else error <= tolerances.LOOPS


def test_a_full_noise_is_any_covariance():
    layer = scattered(
        kr.KalmanNorm(C, 2, covariance="full", transition="zero", noise_form="cholesky", noise=0.4, **F64)
    )
    factor = np.tril(layer.params["noise_factor"])
    prior = layer.prior(None, 2)
    assert not prior.mean.any() and prior.var.shape == (2, C, C)
    assert gradcheck.max_error(prior.var[1], factor @ factor.T) <= tolerances.IDENTITY
    fresh = kr.KalmanNorm(C, 2, covariance="full", noise_form="cholesky", noise=0.4, **F64).params
    assert (
        gradcheck.max_error(full_covariance.cholesky_noise(fresh["noise_factor"]), 0.4 * np.eye(C))
        <= tolerances.IDENTITY
    )
    np.testing.assert_array_equal(fresh["transition"], np.full((C, 2), 0.5))
