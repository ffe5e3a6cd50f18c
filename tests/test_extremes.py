"""Inputs at the edge: constant channels, one sample, offsets of a million sigma, huge values, NaN and Inf."""

import mpmath
import numpy as np
import pytest
import tolerances

import kalnorm_ref as kr

C, M, G = 3, 6, 2
rng = np.random.default_rng(12)
GAMMA, BETA = np.array([0.7, -1.6, 2.1]), np.array([1.5, -0.3, 0.4])


def bn(x, dy, gamma=GAMMA, beta=BETA, eps=1e-5):
    y, moments, cache = kr.batch_norm_forward(x, gamma, beta, eps)
    return y, moments, kr.batch_norm_backward(dy, cache)


def test_one_sample_gives_beta_and_no_gradient(backend):
    x, dy = rng.normal(7, 3, (G, 1, C)), rng.standard_normal((G, 1, C))
    y, moments, (dx, dgamma, dbeta) = bn(x, dy)
    np.testing.assert_array_equal(y, np.broadcast_to(BETA, y.shape))
    assert np.abs(dx).max() <= tolerances.IDENTITY * np.abs(GAMMA * dy).max() / np.sqrt(1e-5)
    np.testing.assert_array_equal(dgamma, np.zeros(C))
    np.testing.assert_allclose(dbeta, dy.sum(axis=(0, 1)), rtol=tolerances.IDENTITY)
    np.testing.assert_array_equal(moments.var, np.zeros((G, C)))


def test_one_sample_still_reaches_the_estimate_of_kn(backend):
    x, dy = rng.normal(7, 3, (1, C)), rng.standard_normal((1, C))
    prior = kr.Moments(np.full(C, 5.0), np.full(C, 4.0))
    y, estimate, cache = kr.kalman_norm_forward(x, GAMMA, BETA, prior, 0.5)
    np.testing.assert_allclose(estimate.var, 2 + (x[0] - 5) ** 2 / 4, rtol=tolerances.IDENTITY)
    assert (np.abs(kr.kalman_norm_backward(dy, None, cache)[0]) > 1e-3).all()
    assert (np.abs(y - BETA) > 1e-3).all()


@pytest.mark.parametrize("constant", [0.0, 7.3, -1e4])
def test_constant_channel_gives_beta(constant, backend):
    x, dy = rng.normal(7, 3, (M, C)), rng.standard_normal((M, C))
    x[:, 1] = constant
    y, _, (dx, *_) = bn(x, dy)
    slack = tolerances.IDENTITY * abs(constant) / np.sqrt(1e-5)
    np.testing.assert_allclose(y[:, 1], BETA[1], rtol=0, atol=slack)
    expected = GAMMA[1] * (dy[:, 1] - dy[:, 1].mean()) / np.sqrt(1e-5)
    np.testing.assert_allclose(dx[:, 1], expected, rtol=0, atol=np.abs(expected).max() * (tolerances.IDENTITY + slack))


@pytest.mark.parametrize(
    ("dtype", "offset"), [(np.float64, 0), (np.float64, 1e6), (np.float64, 1e9), (np.float32, 0), (np.float32, 300)]
)
def test_bn_keeps_the_error_law_at_any_offset(dtype, offset, backend):
    """y and dx against 50 digits, element by element, within budgets that grow with kappa = rms(x) / s."""
    m, eps = 130, 1e-5
    x, dy = (rng.normal(mean, 1, (m, C)).astype(dtype) for mean in (offset, 0))
    gamma, beta = GAMMA.astype(dtype), BETA.astype(dtype)
    y, _, (dx, *_) = bn(x, dy, gamma, beta, eps)
    with mpmath.workdps(50):
        exact_x, exact_dy, g = (
            np.vectorize(lambda v: mpmath.mpf(float(v)), otypes=[object])(a) for a in (x, dy, gamma)
        )
        mean = exact_x.mean(axis=0)
        root = np.array([mpmath.sqrt(v) for v in ((exact_x - mean) ** 2).mean(axis=0) + mpmath.mpf(eps)])
        x_hat = (exact_x - mean) / root
        along = (exact_dy * x_hat).mean(axis=0)
        exact_dx = g / root * (exact_dy - exact_dy.mean(axis=0) - x_hat * along)
        y_error = np.abs(y - (g * x_hat + beta)).astype(float)
        dx_error = np.abs(dx - exact_dx).astype(float)
        s, hat = root.astype(float), np.abs(x_hat).astype(float)
    cu = tolerances.ERROR_LAW_C * np.finfo(dtype).eps / 2
    kappa = np.sqrt((x.astype(float) ** 2).mean(axis=0)) / s
    e, a, p = cu * (kappa + hat), np.abs(dy).mean(axis=0), (np.abs(dy) * hat).mean(axis=0)
    scale = np.abs(gamma)
    y_budget = scale * e + cu * (scale * hat + np.abs(beta))
    dx_budget = scale / s * (cu * (np.abs(dy) + a + hat * p) + e * p + hat * ((np.abs(dy) * e).mean(axis=0) + cu * p))
    assert (y_error / (y_budget + np.spacing(np.abs(y)) / 2)).max() <= 1
    assert (dx_error / (dx_budget + np.spacing(np.abs(dx)) / 2)).max() <= 1


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (np.float64, 1e150),
        (np.float32, 1e15),
        (np.float32, 1e30),
    ],
)
def test_huge_values_are_normalized_like_small_ones(dtype, size, backend):
    x, dy = rng.normal(7, 3, (M, C)), rng.standard_normal((M, C)).astype(dtype)
    y, moments, (dx, *_) = bn((x * size).astype(dtype), dy, eps=0.0)
    expected, small, (small_dx, *_) = bn(x, dy.astype(float), eps=0.0)
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    np.testing.assert_allclose(moments.mean / size, small.mean, rtol=tolerance)
    np.testing.assert_allclose(dx * dtype(size), small_dx, rtol=0, atol=tolerance * np.abs(small_dx).max())


def kalman(x, gamma, beta, prior_mean, prior_var, gain, dy, destimate_mean, destimate_var):
    y, (mean, var), cache = kr.kalman_norm_forward(x, gamma, beta, kr.Moments(prior_mean, prior_var), gain)
    destimate = kr.Moments(destimate_mean, destimate_var)
    dx, dgamma, dbeta, dprior, dgain = kr.kalman_norm_backward(dy, destimate, cache)
    return {
        "y": y, "mean": mean, "var": var, "dx": dx, "dgamma": dgamma, "dbeta": dbeta,
        "dprior_mean": dprior.mean, "dprior_var": dprior.var, "dgain": dgain,
    }  # fmt: skip


def renorm(x, gamma, beta, corr_r, corr_d, dy):
    y, (mean, var), cache = kr.batch_renorm_forward(x, gamma, beta, corr_r, corr_d)
    dx, dgamma, dbeta = kr.batch_renorm_backward(dy, cache)
    return {"y": y, "mean": mean, "var": var, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}


def batch(x, gamma, beta, dy):
    y, (mean, var), (dx, dgamma, dbeta) = bn(x, dy, gamma, beta)
    return {"y": y, "mean": mean, "var": var, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}


VALUES = {
    "x": rng.normal(7, 3, (G, M, C)),
    "dy": rng.standard_normal((G, M, C)),
    "gamma": GAMMA,
    "beta": BETA,
    "prior_mean": np.full(C, 5.0),
    "prior_var": np.full(C, 9.0),
    "gain": np.array([0.3, 0.5, 0.8]),
    "destimate_mean": rng.standard_normal((G, C)),
    "destimate_var": rng.standard_normal((G, C)),
    "corr_r": np.array([0.5, 1.2, 3.0]),
    "corr_d": rng.standard_normal((G, C)),
}
REACH = {
    batch: {"x": "y mean var dx dgamma", "gamma": "y dx", "beta": "y", "dy": "dx dgamma dbeta"},
    renorm: {
        "x": "y mean var dx dgamma",
        "gamma": "y dx",
        "beta": "y",
        "corr_r": "y dx dgamma",
        "corr_d": "y dgamma",
        "dy": "dx dgamma dbeta",
    },
    kalman: {
        "x": "y mean var dx dgamma dprior_mean dprior_var dgain",
        "gamma": "y dx dprior_mean dprior_var dgain",
        "beta": "y",
        "prior_mean": "y mean var dx dgamma dprior_mean dprior_var dgain",
        "prior_var": "y var dx dgamma dprior_mean dprior_var dgain",
        "gain": "y mean var dx dgamma dprior_mean dprior_var dgain",
        "dy": "dx dgamma dbeta dprior_mean dprior_var dgain",
        "destimate_mean": "dx dprior_mean dgain",
        "destimate_var": "dx dprior_mean dprior_var dgain",
    },
}


NONFINITE = [
    pytest.param(function, name, reached.split(), value, id=f"{function.__name__}: {value} in {name}")
    for function, table in REACH.items()
    for name, reached in table.items()
    # Inf in data only: of a parameter the limit may be finite, an infinite prior variance gives y = beta
    for value in ((np.nan, np.inf) if name in ("x", "dy") else (np.nan,))
]


@pytest.mark.parametrize(("function", "name", "reached", "value"), NONFINITE)
def test_one_bad_value_reaches_exactly_what_depends_on_it(function, name, reached, value, backend):
    """A bad value stands in channel 1, and in batch 1 where the input has batches."""
    given = {key: VALUES[key].copy() for key in REACH[function]}
    per_batch = given[name].ndim > 1
    given[name][{1: (1,), 2: (1, 1), 3: (1, 2, 1)}[given[name].ndim]] = value
    for key, result in function(**given).items():
        expected = np.zeros(result.shape, bool)
        if key in reached:
            batches = 1 if per_batch else slice(None)
            expected[(batches, ..., 1) if result.ndim > 1 else 1] = True
        np.testing.assert_array_equal(~np.isfinite(result), expected, err_msg=key)
