"""Limits and identities of BN, BRN and KN: where one method becomes another, and what each is invariant to."""

import inspect

import numpy as np
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

import kalnorm_ref as kr
from kalnorm_ref import gradcheck
from kalnorm_ref.gradproof.loops import normalizers as derivations

C, M, G = 3, 6, 2
rng = np.random.default_rng(11)
X = rng.normal(7, 3, (G, M, C))
DY = rng.standard_normal((G, M, C))
GAMMA, BETA = np.array([0.7, -1.6, 2.1]), np.array([1.5, -0.3, 0.4])
PRIOR = kr.Moments(rng.normal(5, 2, C), rng.uniform(2, 20, C))
DESTIMATE = kr.Moments(rng.standard_normal((G, C)), rng.standard_normal((G, C)))


def close(value, expected, tolerance=tolerances.IDENTITY):
    assert gradcheck.max_error(value, expected) <= tolerance


def bn(x=X, eps=1e-3, dy=DY):
    """y and the gradients (dx, dgamma, dbeta) of batch normalization."""
    y, _, cache = kr.batch_norm_forward(x, GAMMA, BETA, eps)
    return y, kr.batch_norm_backward(dy, cache)


def brn(corr_r, corr_d, eps=1e-3):
    y, _, cache = kr.batch_renorm_forward(X, GAMMA, BETA, corr_r, corr_d, eps)
    return y, kr.batch_renorm_backward(DY, cache)


def kn(gain, prior=PRIOR, x=X, destimate=None, eps=1e-3):
    y, estimate, cache = kr.kalman_norm_forward(x, GAMMA, BETA, prior, gain, eps)
    return y, estimate, kr.kalman_norm_backward(DY, destimate, cache)


@pytest.mark.parametrize(
    ("forward", "arguments"),
    [
        (kr.batch_norm_forward, (X, GAMMA, BETA)),
        (kr.batch_renorm_forward, (X, GAMMA, BETA, 1.5, 0.2)),
        (kr.kalman_norm_forward, (X, GAMMA, BETA, PRIOR, 0.5)),
        (kr.renorm_corrections, (PRIOR, BETA, np.abs(GAMMA), 10.0, 10.0)),
    ],
)
def test_eps_is_1e_5_unless_said_otherwise(forward, arguments, backend):
    np.testing.assert_array_equal(forward(*arguments)[0], forward(*arguments, eps=1e-5)[0])
    assert inspect.signature(forward).parameters["eps"].default == 1e-5


def test_gain_1_is_batch_norm(backend):
    y, estimate, (*gradients, dprior, dgain) = kn(1.0)
    close((y, tuple(gradients)), bn())
    close(estimate, kr.observe(X))
    np.testing.assert_array_equal(dprior.var, np.zeros(C))
    assert np.abs(dprior.mean).max() <= tolerances.IDENTITY and np.abs(dgain) > 1e-3


def test_no_prior_is_batch_norm(backend):
    y, estimate, (*gradients, dprior, dgain) = kn(0.3, prior=None)
    close((y, tuple(gradients)), bn())
    close(estimate, kr.observe(X))
    assert dprior is None and dgain is None


def test_gain_0_is_normalization_with_fixed_statistics(backend):
    y, estimate, (dx, dgamma, dbeta, dprior, _) = kn(0.0, destimate=DESTIMATE)
    expected, cache = kr.standardize(X, PRIOR, GAMMA, BETA, 1e-3)
    fixed_dx, dmoments, *parameters = kr.standardize_backward(DY, cache)
    close(y, expected)
    close(estimate, kr.Moments(*(np.broadcast_to(s, (G, C)) for s in PRIOR)))
    close(dx, GAMMA * DY / np.sqrt(PRIOR.var + 1e-3))
    close((dx, dgamma, dbeta), (fixed_dx, *parameters))
    close(dprior, kr.Moments(*(d + up.sum(axis=0) for d, up in zip(dmoments, DESTIMATE, strict=True))))


def test_kn_whose_prior_ignores_other_layers(backend):
    """Transition 0 and noise 1: the statistics shrink towards the standard normal."""
    prior = kr.predict(kr.Moments(np.full(5, 9.0), np.full(5, 4.0)), np.zeros((C, 5)), 1.0)
    _, estimate, _ = kn(0.7, prior)
    mean, var = kr.observe(X)
    close(estimate, kr.Moments(0.7 * mean, 0.3 + 0.7 * var + 0.21 * mean**2))


def test_brn_without_corrections_is_batch_norm(backend):
    close(brn(1.0, 0.0), bn())
    corrections = kr.renorm_corrections(kr.observe(X), np.full(C, 3.0), np.full(C, 2.0), 1, 0)
    np.testing.assert_array_equal(corrections, [np.ones((G, C)), np.zeros((G, C))])


def test_unclipped_brn_is_its_inference_formula(backend):
    running_mean, running_std = np.array([5.0, 9.0, 6.5]), np.array([2.0, 5.0, 3.0])
    corrections = kr.renorm_corrections(kr.observe(X), running_mean, running_std, 1e6, 1e6, 1e-3)
    y, _ = brn(*corrections)
    close(y, GAMMA * (X - running_mean) / running_std + BETA)
    close(y, kr.standardize(X, kr.Moments(running_mean, running_std**2), GAMMA, BETA, 0.0)[0])


REGIMES = [(r, d) for r in ("low", "inside", "high") for d in ("low", "inside", "high")]


def test_brn_with_a_channel_in_every_clip_regime(backend):
    """Compares y, corrections and gradients: y alone would cancel most mistakes in the batch statistics."""
    r_max, d_max, eps = 2.0, 1.5, 1e-3
    x = rng.normal(7, 3, (8, 9))
    mean, var = derivations.observe(x)
    s = np.sqrt(var + eps)
    running_std = s / [{"low": 0.2, "inside": 1.3, "high": 6.0}[r] for r, _ in REGIMES]
    running_mean = mean - running_std * [{"low": -4.0, "inside": 0.6, "high": 4.0}[d] for _, d in REGIMES]
    corrections = kr.renorm_corrections(kr.observe(x), running_mean, running_std, r_max, d_max, eps)
    close(corrections[0], np.array([{"low": 0.5, "inside": 1.3, "high": 2.0}[r] for r, _ in REGIMES]))
    close(corrections[1], np.array([{"low": -1.5, "inside": 0.6, "high": 1.5}[d] for _, d in REGIMES]))
    gamma, beta, dy = rng.uniform(0.5, 2, 9), rng.standard_normal(9), rng.standard_normal((8, 9))
    y, moments, cache = kr.batch_renorm_forward(x, gamma, beta, *corrections, eps)
    arguments = (x, gamma, beta, *corrections, eps)
    close((y, tuple(moments)), derivations.batch_renorm(*arguments))
    gradients = kr.batch_renorm_backward(dy, cache)
    close(gradients, derivations.batch_renorm_backward(dy, *arguments))
    wrong = derivations.batch_renorm_backward(dy, *arguments, mistake="x_hat_projector")
    assert gradcheck.max_error(gradients, wrong) > 1e-3


@pytest.mark.parametrize("step", [-1, 0, 1], ids=["below", "on", "above"])
def test_corrections_exactly_on_a_clip_boundary(step, backend):
    """s / Sg is 3, then 1/4, and (mu - M) / Sg is 5, then -5, without rounding; one ulp to both sides."""

    def nudge(value):
        return np.nextafter(value, step * np.inf) if step else value

    pair = kr.Moments(np.array([nudge(5.0), nudge(-5.0)]), np.array([9.0, 9.0]))
    corr_r, corr_d = kr.renorm_corrections(pair, np.zeros(2), np.ones(2), 3.0, 5.0, 0.0)
    np.testing.assert_array_equal(corr_r, [3.0, 3.0])
    np.testing.assert_array_equal(corr_d, [min(nudge(5.0), 5.0), max(nudge(-5.0), -5.0)])
    corr_r, _ = kr.renorm_corrections(pair, np.zeros(2), np.array([12.0, nudge(12.0)]), 4.0, 5.0, 0.0)
    np.testing.assert_array_equal(corr_r, [0.25, max(3.0 / nudge(12.0), 0.25)])


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    mean=st.floats(-1e3, 1e3),
    var=st.floats(0, 1e6),
    running_mean=st.floats(-1e3, 1e3),
    running_std=st.floats(1e-3, 1e3),
    r_max=st.floats(1, 10),
    d_max=st.floats(0, 10),
)
def test_corrections_agree_with_loops_anywhere(mean, var, running_mean, running_std, r_max, d_max):
    arguments = (kr.Moments(np.array([mean]), np.array([var])), np.array([running_mean]), np.array([running_std]))
    result = kr.renorm_corrections(*arguments, r_max, d_max, 1e-5)
    np.testing.assert_allclose(
        result, derivations.renorm_corrections(*arguments, r_max, d_max, 1e-5), rtol=tolerances.IDENTITY, atol=0
    )


def test_no_derivative_passes_through_the_corrections():
    """The complex step of corrections and forward together equals the backward, which holds them constant."""

    def composite(x):
        corrections = kr.renorm_corrections(kr.observe(x), np.full(C, 6.0), np.full(C, 2.5), 3.0, 5.0, 1e-3)
        return kr.batch_renorm_forward(x, GAMMA, BETA, *corrections, 1e-3)

    with kr.use_backend("numpy"):
        *_, cache = composite(X)
        dx = (kr.batch_renorm_backward(DY, cache)[0],)
        upstream = (DY, None, None)
        gradcheck.check(composite, (X,), upstream, dx, tolerances.COMPLEX_STEP)
        with pytest.raises(AssertionError, match=r"gradient of argument 0 is off by .*; tolerance .*$"):
            gradcheck.check(composite, (X,), upstream, dx, 1e-3, gradcheck.central_difference)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.5, 30.0])
def test_bn_gradient_has_no_mean_and_what_eps_leaves_along_x_hat(eps, backend):
    _, (dx, *_) = bn(eps=eps)
    mean, var = kr.observe(X)
    rstd = 1 / np.sqrt(var + eps)
    x_hat = (X - mean[:, None]) * rstd[:, None]
    scale = np.abs(dx).sum()
    assert np.abs(dx.sum(axis=1)).max() <= tolerances.IDENTITY * scale
    left = rstd * (GAMMA * DY * x_hat).sum(axis=1) * eps / (var + eps)
    assert np.abs((dx * x_hat).sum(axis=1) - left).max() <= tolerances.IDENTITY * scale


def test_bn_is_invariant_to_the_scale_and_offset_of_each_channel(backend):
    scale, offset = np.array([1e-3, 1.0, 50.0]), np.array([4.0, -20.0, 300.0])
    y, (dx, *parameters) = bn(eps=0.0)
    scaled_y, (scaled_dx, *scaled_parameters) = bn(scale * X + offset, eps=0.0)
    close(scaled_y, y, tolerances.RESCALED)
    close(scaled_dx * scale, dx, tolerances.RESCALED)
    close(tuple(scaled_parameters), tuple(parameters), tolerances.RESCALED)


def test_kn_loses_scale_invariance_unless_its_prior_scales_too(backend):
    y, *_ = kn(0.6, eps=0.0)
    alone, *_ = kn(0.6, x=10 * X, eps=0.0)
    along, *_ = kn(0.6, kr.Moments(10 * PRIOR.mean, 100 * PRIOR.var), 10 * X, eps=0.0)
    assert gradcheck.max_error(alone, y) > 0.05
    close(along, y)


def test_statistics_batches_are_independent_and_share_parameters(backend):
    y, estimate, gradients = kn(0.6, destimate=DESTIMATE)
    parts = []
    for g in range(G):
        y_g, estimate_g, cache = kr.kalman_norm_forward(X[g], GAMMA, BETA, PRIOR, 0.6, 1e-3)
        parts.append(kr.kalman_norm_backward(DY[g], kr.Moments(*(d[g] for d in DESTIMATE)), cache))
        close((y[g], tuple(s[g] for s in estimate)), (y_g, tuple(estimate_g)))
    close(gradients[0], np.stack([p[0] for p in parts]))
    for k in (1, 2, 4):
        close(gradients[k], np.asarray(sum(p[k] for p in parts)))
    close(gradients[3], kr.Moments(*(sum(p[3][k] for p in parts) for k in (0, 1))))


def test_samples_may_come_in_any_order(backend):
    order = rng.permutation(M)
    y, _, (dx, *_) = kn(0.6)
    shuffled, _, cache = kr.kalman_norm_forward(X[:, order], GAMMA, BETA, PRIOR, 0.6, 1e-3)
    close(shuffled, y[:, order])
    close(kr.kalman_norm_backward(DY[:, order], None, cache)[0], dx[:, order])


def test_bn_agrees_with_pytorch_in_float64(backend):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed", exc_type=ImportError)
    x, gamma, beta = (torch.tensor(a, requires_grad=True) for a in (X[0], GAMMA, BETA))
    y = torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3)
    y.backward(torch.tensor(DY[0]))
    expected = y.detach().numpy(), tuple(t.grad.numpy() for t in (x, gamma, beta))
    close(bn(X[0], dy=DY[0]), expected)
