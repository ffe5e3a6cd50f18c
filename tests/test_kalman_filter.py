"""What makes the filter on the mean a Kalman filter, its limits, and where it differs from Kalman normalization."""

import inspect
import re
from fractions import Fraction

import numpy as np
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

import kalnorm_ref as kr
from kalnorm_ref import gradcheck

C, M, G, EPS = 3, 6, 2, 1e-3
rng = np.random.default_rng(41)
X = rng.normal(7, 3, (G, M, C))
DY = rng.standard_normal((G, M, C))
GAMMA, BETA = np.array([0.7, -1.6, 2.1]), np.array([1.5, -0.3, 0.4])
PRIOR = kr.Moments(rng.normal(5, 2, C), rng.uniform(0.3, 3, C))
DESTIMATE = kr.Moments(rng.standard_normal((G, C)), rng.standard_normal((G, C)))


def close(value, expected, tolerance=tolerances.IDENTITY):
    assert gradcheck.max_error(value, expected) <= tolerance


def normalize(prior, x=X, dy=DY, destimate=None, eps=EPS):
    """y, estimate, what x was standardized with, and the gradients."""
    y, estimate, cache = kr.kalman_filter_norm_forward(x, GAMMA, BETA, prior, eps)
    return y, estimate, cache.standardized, kr.kalman_filter_norm_backward(dy, destimate, cache)


def one_channel(mean, var):
    return kr.Moments(np.array([mean]), np.array([var]))


def posterior(x, prior):
    """mu and P+ alone."""
    return kr.kalman_filter_norm_forward(x, None, None, prior)[1]


@pytest.mark.parametrize("prior", [None, kr.Moments(PRIOR.mean, np.full(C, 1e40))], ids=["no prior", "large P"])
def test_batch_norm_is_its_limit(prior, backend):
    y, estimate, standardized, (*gradients, dprior) = normalize(prior, destimate=None)
    expected, moments, cache = kr.batch_norm_forward(X, GAMMA, BETA, EPS)
    close((y, tuple(gradients)), (expected, kr.batch_norm_backward(DY, cache)))
    close((standardized, estimate.mean), (moments, moments.mean))
    close(estimate.var, moments.var / M)
    assert dprior is None if prior is None else max(np.abs(d).max() for d in dprior) <= 1e-30


def test_certain_prior_is_kept(backend):
    """P = 0: the mean is the prior's, whatever the batch says, and the variance is the mean square about it."""
    prior = kr.Moments(PRIOR.mean, np.zeros(C))
    y, estimate, standardized, (_, _, _, dprior) = normalize(prior, destimate=DESTIMATE)
    square = ((X - PRIOR.mean) ** 2).mean(axis=1)
    np.testing.assert_array_equal(estimate.mean, np.tile(PRIOR.mean, (G, 1)))
    np.testing.assert_array_equal(estimate.var, np.zeros((G, C)))
    close(standardized.var, square)
    close(y, GAMMA * (X - PRIOR.mean) / np.sqrt(square + EPS)[:, None] + BETA)
    assert np.abs(dprior.var).min() > 1e-3


@pytest.mark.parametrize("m", [1, 4], ids=["one sample", "equal samples"])
def test_certain_prior_is_kept_where_the_batch_has_no_variance(m, backend):
    x, prior = np.full((m, 2), 3.5), kr.Moments(np.array([1.0, 3.5]), np.array([0.0, 0.0]))
    y, estimate, cache = kr.kalman_filter_norm_forward(x, None, None, prior, EPS)
    np.testing.assert_array_equal(estimate, [[1.0, 3.5], [0.0, 0.0]])
    close(y, np.tile([2.5 / np.sqrt(2.5**2 + EPS), 0.0], (m, 1)))
    dy, destimate = rng.standard_normal((m, 2)), kr.Moments(*rng.standard_normal((2, 2)))
    dx, _, _, dprior = kr.kalman_filter_norm_backward(dy, destimate, cache)
    assert np.isfinite(dx).all()
    close(dprior.var, destimate.var)  # P+ = (1 - K) P with K held at 0


def test_batch_without_variance_is_believed(backend):
    """S = 0 against a prior that is not certain: K = 1, and nothing is uncertain afterwards."""
    estimate = posterior(np.full((4, C), 3.5), PRIOR)
    np.testing.assert_array_equal(estimate, [np.full(C, 3.5), np.zeros(C)])


def test_estimate_is_the_gaussian_posterior(backend):
    """Precisions add, and means are weighed with them."""
    precision = 1 / PRIOR.var, M / X.var(axis=1)
    total = precision[0] + precision[1]
    mean = (precision[0] * PRIOR.mean + precision[1] * X.mean(axis=1)) / total
    close(posterior(X, PRIOR), kr.Moments(mean, 1 / total))


def test_estimate_is_the_textbook_filter_run_over_the_samples(backend):
    """One scalar update a sample, each with the variance S of one sample; the batch mean with S/m sums them up."""
    for c in range(C):
        mu, p, noise = PRIOR.mean[c], PRIOR.var[c], X[0, :, c].var()
        for sample in X[0, :, c]:
            gain = p / (p + noise)
            mu, p = mu + gain * (sample - mu), (1 - gain) * p
        estimate = posterior(X[0], PRIOR)
        close((estimate.mean[c], estimate.var[c]), (mu, p))


def test_variance_is_the_mean_square_about_the_mean(backend):
    _, estimate, standardized, _ = normalize(PRIOR)
    close(standardized, kr.Moments(estimate.mean, ((X - estimate.mean[:, None]) ** 2).mean(axis=1)))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(a=st.floats(-1e3, 1e3), p=st.floats(0, 1e6), x=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6))
def test_posterior_variance_exceeds_neither_the_priors_nor_the_observations(a, p, x):
    x = np.array(x)[:, None]
    mean, var = posterior(x, one_channel(a, p))
    assert 0 <= var[0] <= p
    assert var[0] <= kr.observe(x).var[0] / len(x) * (1 + tolerances.IDENTITY)
    low, high = sorted((a, kr.observe(x).mean[0]))
    assert low - tolerances.IDENTITY * abs(low) <= mean[0] <= high + tolerances.IDENTITY * abs(high)


def test_kalman_normalization_has_a_variance_above_both():
    """The contrast: a batch that contradicts its prior makes the fused variance larger than either."""
    x, prior = np.array([[9.0], [11.0]]), one_channel(0.0, 1.0)
    _, fused, _ = kr.kalman_norm_forward(x, None, None, prior, 0.5)
    assert fused.var[0] == 26.0
    close(posterior(x, prior), one_channel(20 / 3, 1 / 3))


def test_gain_grows_with_the_number_of_samples_by_itself(backend):
    """K = m / (m + n0) with n0 = S/P: the pseudo-count that pools m samples with n0 virtual ones."""
    gains = []
    for repeat in (1, 2, 8, 64):
        x = np.tile(X[0], (repeat, 1))
        estimate, (xbar, s) = posterior(x, PRIOR), kr.observe(x)
        gains.append((estimate.mean - PRIOR.mean) / (xbar - PRIOR.mean))
        close(gains[-1], len(x) / (len(x) + s / PRIOR.var))
    assert (np.diff(gains, axis=0) > 0).all()


@pytest.mark.parametrize("p", [1e-20, 1.0, 1e20])
def test_nothing_cancels_where_one_variance_is_far_larger(p, backend):
    x = np.array([[1.0], [4.0]])
    noise, exact = Fraction(9, 8), Fraction(p)
    _, var = posterior(x, one_channel(0.5, p))
    assert abs(Fraction(float(var[0])) / (exact * noise / (exact + noise)) - 1) <= tolerances.IDENTITY


def test_statistics_batches_are_independent_and_share_parameters(backend):
    y, estimate, standardized, gradients = normalize(PRIOR, destimate=DESTIMATE)
    parts = [normalize(PRIOR, X[g], DY[g], kr.Moments(*(d[g] for d in DESTIMATE))) for g in range(G)]
    close(y, np.stack([part[0] for part in parts]))
    for k, pair in ((1, estimate), (2, standardized)):
        close(pair, kr.Moments(*(np.stack([part[k][i] for part in parts]) for i in (0, 1))))
    close(gradients[0], np.stack([part[3][0] for part in parts]))
    close(gradients[1:3], tuple(np.asarray(sum(part[3][k] for part in parts)) for k in (1, 2)))
    close(gradients[3], kr.Moments(*(sum(part[3][3][i] for part in parts) for i in (0, 1))))


TRANSITION, X2, DY2 = rng.standard_normal((2, C)), rng.normal(-3, 4, (G, M, 2)), rng.standard_normal((G, M, 2))


def chain(x1, prior, transition, noise, x2):
    y1, estimate, cache1 = kr.kalman_filter_norm_forward(x1, GAMMA, BETA, prior, EPS)
    predicted = kr.predict(estimate, transition, noise)
    y2, last, cache2 = kr.kalman_filter_norm_forward(x2, GAMMA[:2], BETA[1:], predicted, EPS)
    return y1, y2, last, (estimate, cache1, cache2)


def test_gradient_through_a_chain_of_two_filters(backend):
    """The prior of the second is predicted from the estimate of the first."""
    arguments = X, PRIOR, TRANSITION, np.array([0.3, 1.2]), X2
    above = kr.Moments(*rng.standard_normal((2, G, 2)))
    *_, (estimate, cache1, cache2) = chain(*arguments)
    dx2, _, _, dpredicted = kr.kalman_filter_norm_backward(DY2, above, cache2)
    destimate, dtransition, dnoise = kr.predict_backward(dpredicted, estimate, TRANSITION, arguments[3])
    upstream = DY, DY2, above, None
    for sent, right in ((destimate, True), (kr.Moments(destimate.mean, 0.99 * destimate.var), False)):
        dx1, _, _, dprior = kr.kalman_filter_norm_backward(DY, sent, cache1)
        gradients = dx1, dprior, dtransition, dnoise, dx2
        if right:
            gradcheck.check(chain, arguments, upstream, gradients, tolerances.COMPLEX_STEP)
        else:
            with pytest.raises(AssertionError, match=r"gradient of argument 0 is off by .*; tolerance .*$"):
                gradcheck.check(chain, arguments, upstream, gradients, tolerances.COMPLEX_STEP)


def test_nan_stays_in_its_channel_and_batch(backend):
    x = X.copy()
    x[1, 0, 2] = np.nan
    y, estimate, _, (dx, *_) = normalize(PRIOR, x)
    affected = np.zeros((G, C), bool)
    affected[1, 2] = True
    for statistic in estimate:
        np.testing.assert_array_equal(np.isnan(statistic), affected)
    for data in (y, dx):
        np.testing.assert_array_equal(np.isnan(data), np.broadcast_to(affected[:, None], X.shape))


def test_eps_is_1e_5_unless_said_otherwise(backend):
    given, default = (kr.kalman_filter_norm_forward(X, GAMMA, BETA, PRIOR, *eps)[0] for eps in ((1e-5,), ()))
    np.testing.assert_array_equal(given, default)
    assert inspect.signature(kr.kalman_filter_norm_forward).parameters["eps"].default == 1e-5


CACHE = kr.kalman_filter_norm_forward(X, None, None, PRIOR)[-1]
FORWARD = {"x": X, "gamma": GAMMA, "beta": BETA, "prior": PRIOR, "eps": 0.1}
BACKWARD = {"dy": DY, "destimate": DESTIMATE, "cache": CACHE}


@pytest.mark.parametrize(
    ("error", "name", "value", "message"),
    [
        (ValueError, "x", X[0, :0], "x has shape (0, 3), no sample (m = 0); expected (..., m, C) with m >= 1"),
        (ValueError, "gamma", GAMMA[:2], "gamma has shape (2,); expected (3,), one value per channel, or None"),
        (ValueError, "beta", BETA[:2], "beta has shape (2,); expected (3,), one value per channel, or None"),
        (ValueError, "prior", kr.Moments(BETA[:2], BETA[:2]), "prior.mean has shape (2,); expected (2, 3) or (3,)"),
        (ValueError, "prior", kr.Moments(BETA, BETA), "prior.var has the value -0.3; expected a variance, >= 0"),
        (TypeError, "prior", 1.0, "prior is float; expected Moments(mean, var)"),
        (ValueError, "eps", -0.5, "eps is -0.5; expected at least 0"),
        (ValueError, "dy", DY[0], "dy has shape (6, 3); expected (2, 6, 3), the shape of x"),
        (ValueError, "destimate", PRIOR, "destimate.mean has shape (3,); expected (2, 3), the shape of the estimate"),
        (
            TypeError,
            "cache",
            kr.batch_norm_forward(X, None, None)[-1],
            "cache is StandardizeCache; expected the KalmanFilterNormCache that kalman_filter_norm_forward returned",
        ),
    ],
)
def test_bad_argument(error, name, value, message, backend):
    function, valid = (kr.kalman_filter_norm_forward, FORWARD) if name in FORWARD else (
        kr.kalman_filter_norm_backward, BACKWARD
    )  # fmt: skip
    with pytest.raises(error, match=rf"^{re.escape(message)}$"):
        function(**valid | {name: value})
    function(**valid)


def test_complex_data_need_the_numpy_backend(backend):
    if backend == "numpy":
        assert kr.kalman_filter_norm_forward(X + 0j, None, None, PRIOR)[0].dtype == np.complex128
    else:
        with pytest.raises(TypeError, match=r'use_backend\("numpy"\)$'):
            kr.kalman_filter_norm_forward(X + 0j, None, None, PRIOR)
