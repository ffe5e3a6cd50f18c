"""Bad input to the full covariance is refused before any work; rounding and NaN are not bad input."""

import re

import numpy as np
import pytest
from test_full_covariance import COV, MEAN, C, G, X

import kalnorm_ref as kr

ONES = np.ones(C)
BN_CACHE = kr.batch_norm_forward(X, None, None)[-1]
CACHE = kr.full.kalman_norm_forward(X, None, None, MEAN, COV, 0.5)[-1]
BAD = np.diag([1.0, -0.5, 2.0])
VALID = {
    "predict": {"mean": MEAN, "cov": COV, "transition": np.ones((2, C)), "noise_cov": np.eye(2)},
    "predict_backward": {
        "dmean": np.ones(2), "dcov": np.eye(2), "mean": MEAN, "cov": COV, "transition": np.ones((2, C)),
        "noise_cov": np.eye(2),
    },
    "kalman_norm_forward": {
        "x": X, "gamma": ONES, "beta": ONES, "prior_mean": MEAN, "prior_cov": COV, "gain": 0.5, "eps": 0.1
    },
    "kalman_norm_backward": {"dy": X, "dmean": np.ones((G, C)), "dcov": np.ones((G, C, C)), "cache": CACHE},
    "scalar_noise": {"log_noise": 0.5, "channels": 3},
    "scalar_noise_backward": {"dnoise_cov": COV, "log_noise": 0.5, "channels": C},
    "diagonal_noise": {"log_noise": ONES},
    "diagonal_noise_backward": {"dnoise_cov": COV, "log_noise": ONES},
    "cholesky_noise": {"factor": COV},
    "cholesky_noise_backward": {"dnoise_cov": COV, "factor": COV},
}  # fmt: skip
PREDICTIONS = ("predict", "predict_backward")
VECTOR, MATRIX = " has shape (3,)", " has shape (3, 3)"
ERRORS = [
    *((f, "mean", np.array(1.0), "mean has shape (); expected (..., C), a value per channel") for f in PREDICTIONS),
    *(
        (f, "cov", np.eye(2), "cov has shape (2, 2); expected (3, 3), the shape of the covariance of mean")
        for f in PREDICTIONS
    ),
    *((f, "cov", BAD, "the diagonal of cov has the value -0.5; expected variances, >= 0") for f in PREDICTIONS),
    *(
        (f, "noise_cov", -np.eye(2), "the diagonal of noise_cov has the value -1; expected variances, >= 0")
        for f in PREDICTIONS
    ),
    *(
        (f, "noise_cov", COV, f"noise_cov{MATRIX}; expected (2, 2), the shape of the predicted cov of one batch")
        for f in PREDICTIONS
    ),
    *(
        (f, "transition", np.ones(c), f"transition has shape {c}; expected (C, 3), where the mean has 3 channels")
        for f in PREDICTIONS
        for c in ((C,), (C, 2), (1, 2, C))
    ),
    ("predict_backward", "dmean", ONES, "dmean has shape (3,); expected (2,), the shape of the predicted mean"),
    ("predict_backward", "dcov", COV, "dcov has shape (3, 3); expected (2, 2), the shape of the predicted cov"),
    ("kalman_norm_forward", "x", ONES, "x has shape (3,); expected (..., m, C): samples, then channels last"),
    ("kalman_norm_forward", "x", X[0, :0], "x has shape (0, 3), no sample (m = 0); expected (..., m, C) with m >= 1"),
    ("kalman_norm_forward", "gamma", ONES[:2], "gamma has shape (2,); expected (3,), one value per channel, or None"),
    ("kalman_norm_forward", "beta", COV, "beta has shape (3, 3); expected (3,), one value per channel, or None"),
    ("kalman_norm_forward", "prior_mean", ONES[:2], "prior_mean has shape (2,); expected (2, 3) or (3,)"),
    (
        "kalman_norm_forward", "prior_cov", np.stack([COV, COV]),
        "prior_cov has shape (2, 3, 3); expected (3, 3), the shape of the covariance of prior_mean",
    ),
    ("kalman_norm_forward", "prior_cov", BAD, "the diagonal of prior_cov has the value -0.5; expected variances, >= 0"),
    ("kalman_norm_forward", "gain", -0.1, "gain has the value -0.1; expected a value in [0, 1]"),
    ("kalman_norm_forward", "gain", np.float32(1.25), "gain has the value 1.25; expected a value in [0, 1]"),
    ("kalman_norm_forward", "gain", ONES / 2, "gain has shape (3,); expected a scalar"),
    ("kalman_norm_forward", "eps", -1e-5, "eps is -1e-05; expected at least 0"),
    ("kalman_norm_backward", "dy", X[0], "dy has shape (6, 3); expected (2, 6, 3), the shape of x"),
    ("kalman_norm_backward", "dmean", ONES, "dmean has shape (3,); expected (2, 3), the shape of mean"),
    ("kalman_norm_backward", "dcov", COV, "dcov has shape (3, 3); expected (2, 3, 3), the shape of cov"),
    ("scalar_noise", "log_noise", ONES, "log_noise has shape (3,); expected a scalar"),
    ("scalar_noise", "channels", 0, "channels is 0; expected at least 1"),
    ("scalar_noise_backward", "channels", 2, "dnoise_cov has shape (3, 3); expected (2, 2), the shape of the noise"),
    ("diagonal_noise", "log_noise", COV, "log_noise has shape (3, 3); expected (C,), one value per channel"),
    ("diagonal_noise_backward", "dnoise_cov", ONES, f"dnoise_cov{VECTOR}; expected (3, 3), the shape of the noise"),
    ("cholesky_noise", "factor", COV[:2], "factor has shape (2, 3); expected (C, C)"),
    ("cholesky_noise_backward", "dnoise_cov", ONES, f"dnoise_cov{VECTOR}; expected (3, 3), the shape of the noise"),
]  # fmt: skip
FORWARD = "expected the FullKalmanNormCache that full.kalman_norm_forward returned"
BOTH = "expected both, or None for both (no prior)"
NOT_FLOATING = "expected float32, float64, or complex128 with the NumPy backend (convert with {}.astype(np.float32))"
TYPE_ERRORS = [
    ("kalman_norm_forward", "prior_mean", None, f"prior_mean is None but prior_cov is not; {BOTH}"),
    ("kalman_norm_forward", "prior_cov", None, f"prior_cov is None but prior_mean is not; {BOTH}"),
    ("kalman_norm_forward", "gain", None, "gain is None; expected an array"),
    ("kalman_norm_forward", "x", X.astype(int), f"x has type int64; {NOT_FLOATING.format('x')}"),
    ("kalman_norm_backward", "cache", (1, 2), f"cache is tuple; {FORWARD}"),
    ("kalman_norm_backward", "cache", BN_CACHE, f"cache is StandardizeCache; {FORWARD}"),
    ("predict", "noise_cov", None, "noise_cov is None; expected an array"),
    ("scalar_noise", "log_noise", True, "log_noise is True; expected a number"),
    ("scalar_noise", "channels", 2.0, "channels is 2.0; expected an integer"),
    ("cholesky_noise", "factor", np.eye(2, dtype=int), f"factor has type int64; {NOT_FLOATING.format('factor')}"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "function", "name", "value", "message"),
    [(ValueError, *case) for case in ERRORS] + [(TypeError, *case) for case in TYPE_ERRORS],
)
def test_bad_argument(error, function, name, value, message):
    with pytest.raises(error, match=rf"^{re.escape(message)}$"):
        getattr(kr.full, function)(**VALID[function] | {name: value})


@pytest.mark.parametrize("function", VALID)
def test_the_arguments_are_otherwise_valid(function):
    getattr(kr.full, function)(**VALID[function])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(8))
def test_a_variance_that_rounding_made_negative_is_0(dtype, seed):
    """The channels add up to a constant, so that the variance of their sum is 0 before rounding."""
    x = np.random.default_rng(seed).normal(3, 2, (5, C))
    x[:, -1] = 1 - x[:, :-1].sum(axis=1)
    _, mean, cov, _ = kr.full.kalman_norm_forward(x.astype(dtype), None, None, None, None, None)
    prior = kr.full.predict(mean, cov, np.full((2, C), 0.7, dtype), np.zeros((2, 2), dtype))
    assert 0 <= prior[1][0, 0] <= 100 * np.finfo(dtype).eps
    y, *_ = kr.full.kalman_norm_forward(x[:, :2].astype(dtype), None, None, *prior, 0.5)
    assert np.isfinite(y).all()


def test_rounding_does_make_variances_negative():
    """Without the rule that the test above holds to 0, some of these come out below it."""
    x = np.random.default_rng(1).normal(3, 2, (200, 5, C))
    x[..., -1] = 1 - x[..., :-1].sum(axis=-1)
    *_, cov, _ = kr.full.kalman_norm_forward(x, None, None, None, None, None)
    row = np.full((1, C), 0.7)
    assert (row @ cov @ row.T).min() < 0
    assert kr.full.predict(np.zeros((200, C)), cov, row, np.zeros((1, 1)))[1].min() == 0


def test_a_variance_that_is_negative_beyond_rounding_stays_and_is_refused_next():
    indefinite = np.array([[1.0, -2.0], [-2.0, 1.0]])
    mean, cov = kr.full.predict(np.ones(2), indefinite, np.ones((1, 2)), np.zeros((1, 1)))
    np.testing.assert_array_equal(cov, [[-2.0]])
    with pytest.raises(ValueError, match=r"^the diagonal of prior_cov has the value -2; expected variances, >= 0$"):
        kr.full.kalman_norm_forward(X[0, :, :1], None, None, mean, cov, 0.5)


def test_nan_stays_in_its_statistics_batch():
    x = X.copy()
    x[0, 2, 1] = np.nan
    y, mean, cov, cache = kr.full.kalman_norm_forward(x, ONES, ONES, MEAN, COV, 0.4)
    np.testing.assert_array_equal(np.isnan(y), [[[False, True, False]] * X.shape[1], [[False] * C] * X.shape[1]])
    np.testing.assert_array_equal(np.isnan(mean), [[False, True, False], [False] * C])
    np.testing.assert_array_equal(np.isnan(cov[0]), [[False, True, False], [True] * C, [False, True, False]])
    assert not np.isnan(cov[1]).any()
    dx, *_ = kr.full.kalman_norm_backward(X, None, None, cache)
    assert np.isnan(dx[0]).all() and not np.isnan(dx[1]).any()
