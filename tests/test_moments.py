"""Identities of the four primitives: what fuse means as a mixture, as pooling and as a posterior, and their limits."""

from fractions import Fraction

import numpy as np
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st

import kalnorm_ref as kr
from kalnorm_ref.gradcheck import max_error

C = 4
rng = np.random.default_rng(3)
PRIOR = kr.Moments(rng.normal(6, 3, C), rng.uniform(2, 20, C))
OBSERVED = kr.Moments(rng.normal(6, 3, C), rng.uniform(2, 20, C))

mean_value = st.floats(-1e3, 1e3)
var_value = st.floats(0, 1e3)
gain_value = st.floats(0, 1)
one_case = settings(deadline=None, derandomize=True, max_examples=60)


def close(value, expected, tolerance=tolerances.IDENTITY):
    assert max_error(value, expected) <= tolerance


def one_channel(mean, var):
    return kr.Moments(np.array([mean]), np.array([var]))


@pytest.mark.parametrize("gain", [0.0, 0.25, 0.8, 1.0, np.array([0.1, 0.3, 0.6, 0.95])], ids=str)
def test_fuse_gives_the_moments_of_the_mixture(gain, backend):
    """Prior and observation as two points each, at mean -+ sd: the mixture has four points with weights p/2 and q/2."""
    points = [f.mean + sign * np.sqrt(f.var) for f in (PRIOR, OBSERVED) for sign in (-1, 1)]
    weights = [(1 - gain) / 2, (1 - gain) / 2, gain / 2, gain / 2]
    mean = sum(w * p for w, p in zip(weights, points, strict=True))
    var = sum(w * (p - mean) ** 2 for w, p in zip(weights, points, strict=True))
    close(kr.fuse(PRIOR, OBSERVED, gain), kr.Moments(mean, var))


@pytest.mark.parametrize(("m", "n0"), [(8, 8), (5, 20), (30, 3), (1, 7)])
def test_fuse_pools_real_and_virtual_samples(m, n0, backend):
    real, virtual = rng.normal(9, 4, (m, C)), rng.normal(2, 3, (n0, C))
    fused = kr.fuse(kr.observe(virtual), kr.observe(real), m / (m + n0))
    close(fused, kr.observe(np.concatenate([virtual, real])))


def test_pooling_does_not_depend_on_the_order(backend):
    a, b, c = (kr.observe(rng.normal(8, 3, (n, C))) for n in (3, 10, 6))
    close(kr.fuse(kr.fuse(a, b, 10 / 13), c, 6 / 19), kr.fuse(a, kr.fuse(c, b, 10 / 16), 16 / 19))


def test_fuse_is_the_normal_inverse_chi_square_posterior(backend):
    """Murphy 2007, Conjugate Bayesian analysis of the Gaussian distribution, section 5, with kappa_0 = nu_0 = n0."""
    m, n0 = 6, 4.5
    x = rng.normal(9, 4, (m, C))
    kappa = nu = n0 + m
    mean = (n0 * PRIOR.mean + x.sum(axis=0)) / kappa
    scatter = ((x - x.mean(axis=0)) ** 2).sum(axis=0)
    var = (n0 * PRIOR.var + scatter + n0 * m / (n0 + m) * (PRIOR.mean - x.mean(axis=0)) ** 2) / nu
    close(kr.fuse(PRIOR, kr.observe(x), m / (m + n0)), kr.Moments(mean, var))


@one_case
@given(a=mean_value, b=var_value, xbar=mean_value, s=var_value, gain=gain_value)
def test_fuse_stays_between_and_never_below_the_mixed_variance(a, b, xbar, s, gain):
    fused = kr.fuse(one_channel(a, b), one_channel(xbar, s), gain)
    slack = tolerances.IDENTITY * max(1, abs(a), abs(xbar), b, s)
    assert min(a, xbar) - slack <= fused.mean[0] <= max(a, xbar) + slack
    assert fused.var[0] >= (1 - gain) * b + gain * s - slack


@one_case
@given(a=mean_value, b=var_value, xbar=mean_value, s=var_value, gain=gain_value)
def test_fuse_is_symmetric(a, b, xbar, s, gain):
    forth = kr.fuse(one_channel(a, b), one_channel(xbar, s), gain)
    back = kr.fuse(one_channel(xbar, s), one_channel(a, b), 1 - gain)
    slack = tolerances.IDENTITY * max(1, abs(a), abs(xbar), b, s, (a - xbar) ** 2)
    np.testing.assert_allclose(forth, back, rtol=0, atol=slack)


def test_gain_ends_return_one_side(backend):
    close(kr.fuse(PRIOR, OBSERVED, 1.0), OBSERVED)
    close(kr.fuse(PRIOR, OBSERVED, 0.0), PRIOR)


def test_gain_ends_send_the_gradient_to_one_side(backend):
    up = kr.Moments(rng.standard_normal(C), rng.standard_normal(C))
    zero = kr.Moments(np.zeros(C), np.zeros(C))
    for gain, prior_share, observed_share in ((1.0, zero, up), (0.0, up, zero)):
        dprior, dobserved, dgain = kr.fuse_backward(up, PRIOR, OBSERVED, gain)
        np.testing.assert_array_equal(dprior, prior_share)
        np.testing.assert_array_equal(dobserved, observed_share)
        assert dgain != 0


@pytest.mark.parametrize("far", [1e8, 1e17])
def test_gain_1_forgets_even_a_far_prior(far, backend):
    close(kr.fuse(kr.Moments(np.full(C, far), PRIOR.var), OBSERVED, 1.0), OBSERVED)


def test_predict_with_transition_zero_is_the_noise_alone(backend):
    prior = kr.predict(PRIOR, np.zeros((3, C)), 1.0)
    np.testing.assert_array_equal(prior.mean, np.zeros(3))
    np.testing.assert_array_equal(prior.var, np.ones(3))
    up = kr.Moments(rng.standard_normal(3), rng.standard_normal(3))
    destimate, dtransition, dnoise = kr.predict_backward(up, PRIOR, np.zeros((3, C)), 1.0)
    np.testing.assert_array_equal(destimate, np.zeros((2, C)))
    close(dtransition, np.outer(up.mean, PRIOR.mean))
    close(dnoise, np.asarray(up.var.sum()))


def test_predict_without_change_hands_on_the_estimate(backend):
    np.testing.assert_array_equal(kr.predict(PRIOR, np.ones(C), 0.0), PRIOR)
    np.testing.assert_array_equal(kr.predict(PRIOR, np.eye(C), 0), PRIOR)


def test_diagonal_predict_is_the_full_one_with_a_diagonal_matrix(backend):
    diagonal, noise = rng.uniform(-2, 2, C), rng.uniform(0, 2, C)
    estimate = kr.Moments(rng.normal(6, 3, (2, C)), rng.uniform(2, 20, (2, C)))
    up = kr.Moments(rng.standard_normal((2, C)), rng.standard_normal((2, C)))
    close(kr.predict(estimate, diagonal, noise), kr.predict(estimate, np.diag(diagonal), noise))
    destimate, dtransition, dnoise = kr.predict_backward(up, estimate, diagonal, noise)
    full = kr.predict_backward(up, estimate, np.diag(diagonal), noise)
    close((destimate, dtransition, dnoise), (full[0], np.diag(full[1]), full[2]))


def test_predict_is_what_a_linear_map_does_to_independent_samples(backend):
    """Every combination of two-point channels, once each: the channels are then independent, exactly."""
    signs = np.array([[(k >> c & 1) * 2 - 1 for c in range(C)] for k in range(2**C)])
    samples = PRIOR.mean + signs * np.sqrt(PRIOR.var)
    weight = rng.standard_normal((3, C))
    close(kr.predict(PRIOR, weight, 0.0), kr.observe(samples @ weight.T))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_observe_at_an_offset_of_a_million_sigma(dtype, backend):
    offset = 1e6 if dtype == np.float64 else 300.0
    x = rng.normal(offset, 1, (257, C)).astype(dtype)
    mean, var = kr.observe(x)
    unit = np.finfo(dtype).eps / 2
    for c in range(C):
        column = [Fraction(float(v)) for v in x[:, c]]
        exact_mean = sum(column) / len(column)
        exact_var = float(sum((v - exact_mean) ** 2 for v in column) / len(column))
        assert abs(float(Fraction(float(mean[c])) - exact_mean)) <= tolerances.ERROR_LAW_C * unit * offset
        bound = tolerances.ERROR_LAW_C * unit * 2 * exact_var + (tolerances.ERROR_LAW_C * unit * offset) ** 2
        assert abs(float(var[c]) - exact_var) <= bound


def test_observe_of_a_constant_channel(backend):
    mean, var = kr.observe(np.full((7, 2), [0.1, -3e5]))
    close(mean, np.array([0.1, -3e5]))
    assert (np.sqrt(var) <= tolerances.IDENTITY * np.abs(mean)).all()


def test_one_sample_is_its_own_mean(backend):
    x = rng.normal(7, 3, (3, 1, C))
    mean, var = kr.observe(x)
    np.testing.assert_array_equal(mean, x[:, 0])
    np.testing.assert_array_equal(var, np.zeros((3, C)))


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8"])
def test_byte_order_changes_nothing(kind, backend):
    x = rng.normal(300, 1, (40, C)).astype(kind)
    swapped, native = kr.observe(x), kr.observe(x.astype(x.dtype.newbyteorder("=")))
    np.testing.assert_array_equal(swapped, native)
    assert swapped.mean.dtype.isnative


def test_standardize_inverts_and_its_cache_keeps_the_callers_x(backend):
    x = rng.normal(7, 3, (2, 5, C))
    gamma, beta = rng.uniform(0.5, 2, C), rng.normal(0, 1, C)
    y, cache = kr.standardize(x, PRIOR, gamma, beta, 0.1)
    close((y - beta) / gamma * np.sqrt(PRIOR.var + 0.1) + PRIOR.mean, x)
    assert cache.x is x


def channels_not_finite(moments):
    return [np.flatnonzero(~np.isfinite(part)).tolist() for part in moments]


def test_nan_reaches_exactly_what_depends_on_it(backend):
    spoiled = PRIOR.mean.copy()
    spoiled[1] = np.nan
    bad_mean, bad_var = PRIOR._replace(mean=spoiled), PRIOR._replace(var=abs(spoiled))
    assert channels_not_finite(kr.fuse(bad_mean, OBSERVED, 0.3)) == [[1], [1]]
    assert channels_not_finite(kr.fuse(bad_var, OBSERVED, 0.3)) == [[], [1]]
    assert channels_not_finite(kr.fuse(PRIOR, bad_mean, 0.3)) == [[1], [1]]
    assert channels_not_finite(kr.predict(bad_mean, np.ones(C), 0.3)) == [[1], []]
    assert channels_not_finite(kr.predict(bad_var, np.ones(C), 0.3)) == [[], [1]]
    assert channels_not_finite(kr.predict(bad_mean, np.ones((2, C)), 0.3)) == [[0, 1], []]
    assert channels_not_finite(kr.predict(PRIOR, np.ones(C), abs(spoiled))) == [[], [1]]
    x = rng.normal(7, 3, (5, C))
    for value in (np.nan, np.inf, -np.inf):
        x[3, 2] = value
        assert channels_not_finite(kr.observe(x)) == [[2], [2]]
