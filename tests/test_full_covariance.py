"""Limits and identities of Kalman normalization with the full covariance: what it equals, and what it must refuse."""

import inspect

import numpy as np
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

import kalnorm_ref as kr
from kalnorm_ref import gradcheck

C, M, G, EPS = 3, 6, 2, 1e-3
rng = np.random.default_rng(37)
MIX = rng.standard_normal((C, C)) + 2 * np.eye(C)  # so that the channels are correlated
X = rng.normal(0, 2, (G, M, C)) @ MIX + [7, -4, 9]
DY = rng.standard_normal((G, M, C))
GAMMA, BETA = np.array([0.7, -1.6, 2.1]), np.array([1.5, -0.3, 0.4])
MEAN, COV = rng.normal(5, 2, C), MIX.T @ MIX + np.eye(C)
DMEAN, DCOV = rng.standard_normal((G, C)), rng.standard_normal((G, C, C))


def close(value, expected, tolerance=tolerances.IDENTITY):
    assert gradcheck.max_error(value, expected) <= tolerance


def norm(gain, mean=MEAN, cov=COV, x=X, dy=DY, above=(None, None)):
    """y, mean, cov and the six gradients."""
    y, *estimate, cache = kr.full.kalman_norm_forward(x, GAMMA, BETA, mean, cov, gain, EPS)
    return y, *estimate, kr.full.kalman_norm_backward(dy, *above, cache)


def covariance(x):
    """From the differences of all pairs of samples, none of which needs a mean."""
    pairs = x[..., :, None, :] - x[..., None, :, :]
    return np.einsum("...abi,...abj->...ij", pairs, pairs) / (2 * x.shape[-2] ** 2)


def least(cov):
    """Smallest eigenvalue over the largest, of a covariance that rounding has left a little asymmetric."""
    values = np.linalg.eigvalsh((cov + np.swapaxes(cov, -1, -2)) / 2)
    return (values[..., 0] / np.abs(values).max(axis=-1)).min()


@pytest.mark.parametrize("prior", [(MEAN, COV, 1.0), (None, None, 0.3)], ids=["gain 1", "no prior"])
def test_batch_norm_is_its_limit(prior):
    mean, cov, gain = prior
    y, mu, sigma, (*gradients, da, db, dgain) = norm(gain, mean, cov)
    expected, moments, cache = kr.batch_norm_forward(X, GAMMA, BETA, EPS)
    close((y, mu, sigma), (expected, moments.mean, covariance(X)))
    close(tuple(gradients), kr.batch_norm_backward(DY, cache))
    if mean is None:
        assert da is db is dgain is None
    else:
        np.testing.assert_array_equal(db, np.zeros((C, C)))
        assert np.abs(da).max() <= tolerances.IDENTITY and abs(dgain) > 1e-3


def test_gain_0_is_normalization_with_fixed_statistics():
    y, mu, sigma, (dx, _, _, da, db, _) = norm(0.0, above=(DMEAN, DCOV))
    rstd = 1 / np.sqrt(np.diag(COV) + EPS)
    close(y, GAMMA * (X - MEAN) * rstd + BETA)
    close((mu, sigma), (np.tile(MEAN, (G, 1)), np.tile(COV, (G, 1, 1))))
    close(dx, GAMMA * DY * rstd)
    _, cache = kr.standardize(X, kr.Moments(MEAN, np.diag(COV).copy()), GAMMA, BETA, EPS)
    _, dmoments, *_ = kr.standardize_backward(DY, cache)
    close((da, db), (dmoments.mean + DMEAN.sum(axis=0), np.diag(dmoments.var) + DCOV.sum(axis=0)))


def test_diagonal_covariance_and_one_transition_a_channel_are_the_diagonal_method():
    """Each new channel follows one old one, so that the prediction has no off-diagonals to drop."""
    transition = np.array([[0, 1.5, 0], [-0.7, 0, 0], [0, 0, 0.4], [0, -2.0, 0]])
    noise, var = rng.uniform(0.5, 2, 4), rng.uniform(2, 20, C)
    given, arguments = (MEAN, np.diag(var)), (transition, np.diag(noise))
    mean, cov = kr.full.predict(*given, *arguments)
    prior = kr.predict(kr.Moments(MEAN, var), transition, noise)
    close((mean, np.diag(cov)), (prior.mean, prior.var))
    dmean, dvar = rng.standard_normal((2, 4))
    dmean_in, dcov_in, dtransition, dnoise = kr.full.predict_backward(dmean, np.diag(dvar), *given, *arguments)
    expected = kr.predict_backward(kr.Moments(dmean, dvar), kr.Moments(MEAN, var), transition, noise)
    close((kr.Moments(dmean_in, np.diag(dcov_in)), dtransition, np.diag(dnoise)), expected)


@pytest.mark.parametrize("gain", [0.0, 0.35, 1.0])
def test_only_the_diagonal_standardizes(gain):
    """With nothing sent back to its off-diagonals, a full prior does what its diagonal does in the diagonal method."""
    prior, dvar = kr.Moments(MEAN, np.diag(COV).copy()), rng.standard_normal((G, C))
    y, mu, sigma, gradients = norm(gain, above=(DMEAN, dvar[..., None] * np.eye(C)))
    expected, estimate, cache = kr.kalman_norm_forward(X, GAMMA, BETA, prior, gain, EPS)
    dx, dgamma, dbeta, dprior, dgain = kr.kalman_norm_backward(DY, kr.Moments(DMEAN, dvar), cache)
    close((y, mu, sigma.diagonal(0, 1, 2)), (expected, *estimate))
    close(gradients, (dx, dgamma, dbeta, dprior.mean, np.diag(dprior.var), dgain))


def test_off_diagonals_reach_the_next_diagonal():
    """The moments of x A^T are predicted exactly; dropping the off-diagonals on the way is far off."""
    transition = rng.standard_normal((4, C))
    predicted = kr.full.predict(X.mean(axis=1), covariance(X), transition, np.zeros((4, 4)))
    close(predicted, (X.mean(axis=1) @ transition.T, covariance(X @ transition.T)))
    diagonal = kr.predict(kr.observe(X), transition, 0.0)
    assert gradcheck.max_error(diagonal.var, predicted[1].diagonal(0, 1, 2)) > 0.05


@pytest.mark.parametrize(("m", "n0"), [(8, 8), (5, 20), (30, 3), (1, 7)])
def test_estimate_pools_real_and_virtual_samples(m, n0):
    real, virtual = rng.normal(9, 4, (m, C)) @ MIX, rng.normal(2, 3, (n0, C))
    _, mean, cov, _ = norm(m / (m + n0), virtual.mean(axis=0), covariance(virtual), real, rng.standard_normal((m, C)))
    both = np.concatenate([virtual, real])
    close((mean, cov), (both.mean(axis=0), covariance(both)))


@pytest.mark.parametrize("c", [1, 3], ids=["inverse chi-square", "inverse Wishart"])
def test_estimate_is_the_normal_inverse_wishart_posterior(c):
    """Murphy 2007, Conjugate Bayesian analysis of the Gaussian distribution, section 9, kappa_0 = nu_0 = n0."""
    n0, x, a, b = 4.5, X[0][:, :c], MEAN[:c], COV[:c, :c]
    kappa = nu = n0 + M
    mean = (n0 * a + x.sum(axis=0)) / kappa
    scale = n0 * b + x.T @ x + n0 * np.outer(a, a) - kappa * np.outer(mean, mean)
    _, mu, sigma, _ = kr.full.kalman_norm_forward(x, None, None, a, b, M / (M + n0))
    close((mu, sigma), (mean, scale / nu))


@pytest.mark.parametrize("gain", [0.0, 0.25, 0.8, 1.0])
def test_estimate_has_the_moments_of_the_mixture(gain):
    """The prior as two points for each column of its Cholesky factor, the observation as its samples."""
    columns = np.sqrt(C) * np.linalg.cholesky(COV).T
    points = np.concatenate([MEAN + columns, MEAN - columns, X[0]])
    weights = np.repeat([(1 - gain) / (2 * C), gain / M], [2 * C, M])
    mean = weights @ points
    _, mu, sigma, _ = norm(gain, x=X[0], dy=DY[0])
    close((mu, sigma), (mean, (weights * (points - mean).T) @ (points - mean)))


sizes = st.integers(1, 5)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(c=sizes, m=sizes, rank=st.integers(0, 5), gain=st.floats(0, 1), scale=st.floats(-3, 3), seed=st.integers(0, 999))
def test_estimate_is_positive_semidefinite(c, m, rank, gain, scale, seed):
    """For a prior of any rank, a batch of any size and any gain; then through a transition and noise of any rank."""
    draw = np.random.default_rng(seed).standard_normal
    root, noise_root, transition = 10**scale * draw((c, rank)), draw((c, rank)), draw((c, c))
    _, mean, cov, _ = kr.full.kalman_norm_forward(draw((m, c)), None, None, draw(c), root @ root.T, gain)
    assert not cov.any() or least(cov) >= -tolerances.SEMIDEFINITE
    _, cov = kr.full.predict(mean, cov, transition, noise_root @ noise_root.T)
    assert not cov.any() or least(cov) >= -tolerances.SEMIDEFINITE
    _, mean, cov, _ = kr.full.kalman_norm_forward(draw((m, c)), None, None, mean, cov, gain)
    assert not cov.any() or least(cov) >= -tolerances.SEMIDEFINITE


def test_a_gain_above_1_is_indefinite_and_refused():
    x, a, b, q = X[0], MEAN, COV, 1.5
    delta = x.mean(axis=0) - a
    sigma = (1 - q) * b + q * covariance(x) + (1 - q) * q * np.outer(delta, delta)
    assert least(sigma) < -0.1
    with pytest.raises(ValueError, match=r"^gain has the value 1.5; expected a value in \[0, 1\]$"):
        kr.full.kalman_norm_forward(x, None, None, a, b, q)


def test_nothing_is_symmetrized():
    skew = COV + np.triu(np.ones((C, C)), 1)
    np.testing.assert_array_equal(norm(0.0, cov=skew)[2], np.tile(skew, (G, 1, 1)))
    np.testing.assert_array_equal(kr.full.predict(MEAN, skew, np.eye(C), np.zeros((C, C)))[1], skew)


def test_statistics_batches_are_independent_and_share_parameters():
    *outputs, gradients = norm(0.6, above=(DMEAN, DCOV))
    parts = [norm(0.6, x=X[g], dy=DY[g], above=(DMEAN[g], DCOV[g])) for g in range(G)]
    close(tuple(outputs), tuple(np.stack([part[k] for part in parts]) for k in range(3)))
    shared = (np.asarray(sum(part[3][k] for part in parts)) for k in range(1, 6))
    close(gradients, (np.stack([part[3][0] for part in parts]), *shared))


def test_eps_is_1e_5_unless_said_otherwise():
    arguments = X, GAMMA, BETA, MEAN, COV, 0.5
    given, default = (kr.full.kalman_norm_forward(*arguments, *eps)[0] for eps in ((1e-5,), ()))
    np.testing.assert_array_equal(given, default)
    assert inspect.signature(kr.full.kalman_norm_forward).parameters["eps"].default == 1e-5


def test_results_have_the_type_of_x():
    y, *estimate, cache = kr.full.kalman_norm_forward(X.astype(np.float32), GAMMA, BETA, MEAN, COV, 0.5)
    gradients = kr.full.kalman_norm_backward(DY, DMEAN, DCOV, cache)
    assert {a.dtype for a in (y, *estimate, *gradients)} == {np.dtype(np.float32)}


X2, DY2 = rng.normal(-3, 4, (G, M, 2)), rng.standard_normal((G, M, 2))
CHAIN = (
    *(MEAN, COV, rng.standard_normal((C, C)), COV[::-1, ::-1] / 4, X, GAMMA, BETA, 0.4),  # the first layer
    *(rng.standard_normal((2, C)), np.diag([0.6, 1.9]), X2, GAMMA[:2], BETA[1:], 0.7),  # the second
)


def chain(mean, cov, a1, r1, x1, gamma1, beta1, q1, a2, r2, x2, gamma2, beta2, q2):
    """Two predictions and two normalizers; each normalizer sends its estimate on."""
    y1, *estimate1, cache1 = kr.full.kalman_norm_forward(
        x1, gamma1, beta1, *kr.full.predict(mean, cov, a1, r1), q1, EPS
    )
    y2, mean2, cov2, cache2 = kr.full.kalman_norm_forward(
        x2, gamma2, beta2, *kr.full.predict(*estimate1, a2, r2), q2, EPS
    )
    return y1, y2, mean2, cov2, (*estimate1, cache1, cache2)


def chain_backward(dy1, dy2, dmean2, dcov2, arguments, keep=1.0):
    mean, cov, a1, r1, *_, a2, r2, _, _, _, _ = arguments
    *_, (mean1, cov1, cache1, cache2) = chain(*arguments)
    dx2, dgamma2, dbeta2, da, db, dq2 = kr.full.kalman_norm_backward(dy2, dmean2, dcov2, cache2)
    dmean1, dcov1, da2, dr2 = kr.full.predict_backward(da, db, mean1, cov1, a2, r2)
    dx1, dgamma1, dbeta1, da, db, dq1 = kr.full.kalman_norm_backward(dy1, dmean1, keep * dcov1, cache1)
    first = kr.full.predict_backward(da, db, mean, cov, a1, r1)
    return *first, dx1, dgamma1, dbeta1, dq1, da2, dr2, dx2, dgamma2, dbeta2, dq2


def test_gradient_through_a_chain_of_two_normalizers():
    upstream = DY, DY2, rng.standard_normal((G, 2)), rng.standard_normal((G, 2, 2))
    gradients, up = chain_backward(*upstream, CHAIN), (*upstream, None)
    gradcheck.check(chain, CHAIN, up, gradients, tolerances.COMPLEX_STEP)
    gradcheck.check(chain, CHAIN, up, gradients, tolerances.CENTRAL_DIFFERENCE, gradcheck.central_difference)
    with pytest.raises(AssertionError, match=r"gradient of argument 0 is off by .*; tolerance .*$"):
        gradcheck.check(chain, CHAIN, up, chain_backward(*upstream, CHAIN, keep=0.99), tolerances.CENTRAL_DIFFERENCE)


def test_noise_is_what_its_name_says():
    np.testing.assert_array_equal(kr.full.scalar_noise(0.0, 3), np.eye(3))
    close(kr.full.scalar_noise(np.log(0.1), 2), 0.1 * np.eye(2))
    close(kr.full.diagonal_noise(np.log([0.5, 3.0])), np.diag([0.5, 3.0]))
    factor = rng.standard_normal((C, C))
    close(kr.full.cholesky_noise(factor), np.tril(factor) @ np.tril(factor).T)
    close(kr.full.cholesky_noise(np.linalg.cholesky(COV)), COV)
    assert least(kr.full.cholesky_noise(factor)) > 0
