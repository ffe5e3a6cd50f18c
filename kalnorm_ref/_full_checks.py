"""Argument checks of the functions in full_covariance, in the manner of _checks: one a function, with its signature.

A covariance need not be symmetric: its gradients are element by element, and a check of them moves one element at a
time. Only a negative variance on its diagonal is refused.
"""

import numpy as np

from ._arguments import (
    array,
    cast,
    channels,
    common_type,
    number,
    same_shape,
    samples,
    scalar_or_array,
    statistic,
    whole,
    widest_type,
    within,
)


def _covariance(name, value, shape, what):
    """A covariance of exactly `shape` (..., C, C), with no negative variance."""
    value = same_shape(name, value, shape, what)
    within(f"the diagonal of {name}", value.diagonal(0, -2, -1), 0, np.inf, "variances, >= 0")
    return value


def _pair(mean_name, mean, cov_name, cov, shape=None):
    """A mean (..., C) and its covariance (..., C, C); with `shape`, the mean broadcasts to it."""
    mean = array(mean_name, mean) if shape is None else statistic(mean_name, mean, shape)
    if mean.ndim == 0:
        raise ValueError(f"{mean_name} has shape (); expected (..., C), a value per channel")
    return mean, _covariance(cov_name, cov, (*mean.shape, mean.shape[-1]), f"the covariance of {mean_name}")


def predict(mean, cov, transition, noise_cov):
    mean, cov = _pair("mean", mean, "cov", cov)
    transition, c_from = array("transition", transition), mean.shape[-1]
    if transition.ndim != 2 or transition.shape[1] != c_from:
        raise ValueError(
            f"transition has shape {transition.shape}; expected (C, {c_from}), where the mean has {c_from} channels"
        )
    c = transition.shape[0]
    noise_cov = _covariance("noise_cov", noise_cov, (c, c), "the predicted cov of one batch")
    return widest_type(mean, cov, transition, noise_cov), (mean, cov, transition, noise_cov)


def predict_backward(dmean, dcov, mean, cov, transition, noise_cov):
    dtype, args = predict(mean, cov, transition, noise_cov)
    shape = args[0].shape[:-1] + args[2].shape[:1]
    dmean = same_shape("dmean", dmean, shape, "the predicted mean")
    dcov = same_shape("dcov", dcov, (*shape, shape[-1]), "the predicted cov")
    return np.result_type(dtype, dmean, dcov).type, (dmean, dcov, *args)


def kalman_norm_forward(x, gamma, beta, prior_mean, prior_cov, gain, eps=1e-5):
    x = samples("x", x)
    if (prior_mean is None) != (prior_cov is None):
        absent, given = ("prior_mean", "prior_cov") if prior_mean is None else ("prior_cov", "prior_mean")
        raise TypeError(f"{absent} is None but {given} is not; expected both, or None for both (no prior)")
    if prior_mean is None:
        gain = None
    else:
        shape = x.shape[:-2] + x.shape[-1:]
        prior_mean, prior_cov = _pair("prior_mean", prior_mean, "prior_cov", prior_cov, shape)
        gain = _number("gain", gain)
        within("gain", gain, 0, 1, "a value in [0, 1]")
    gamma, beta = channels("gamma", gamma, x.shape[-1]), channels("beta", beta, x.shape[-1])
    dtype = common_type(x, prior_mean, prior_cov, gain, gamma, beta)
    x, gamma, beta = np.asarray(x, dtype), cast(dtype, gamma), cast(dtype, beta)
    return dtype, (x, gamma, beta, prior_mean, prior_cov, gain, number("eps", eps, 0))


def kalman_norm_backward(dy, dmean, dcov, cache):
    if type(cache).__name__ != "FullKalmanNormCache":
        forward = "full.kalman_norm_forward"
        raise TypeError(f"cache is {type(cache).__name__}; expected the FullKalmanNormCache that {forward} returned")
    dy = same_shape("dy", dy, cache.x.shape, "x")
    if dmean is not None:
        dmean = same_shape("dmean", dmean, cache.mean.shape, "mean")
    if dcov is not None:
        dcov = same_shape("dcov", dcov, cache.cov.shape, "cov")
    return common_type(cache.x, dy, dmean, dcov), (dy, dmean, dcov, cache)


def _number(name, value):
    """A number, or an array of no axes; complex too, for the complex step."""
    value = scalar_or_array(name, value)
    if value.ndim:
        raise ValueError(f"{name} has shape {value.shape}; expected a scalar")
    return value


def scalar_noise(log_noise, channels):
    log_noise = _number("log_noise", log_noise)
    return log_noise.dtype.type, (log_noise, whole("channels", channels, 1))


def scalar_noise_backward(dnoise_cov, log_noise, channels):
    dtype, (log_noise, c) = scalar_noise(log_noise, channels)
    dnoise_cov = same_shape("dnoise_cov", dnoise_cov, (c, c), "the noise")
    return np.result_type(dtype, dnoise_cov).type, (dnoise_cov, log_noise, c)


def diagonal_noise(log_noise):
    log_noise = array("log_noise", log_noise)
    if log_noise.ndim != 1:
        raise ValueError(f"log_noise has shape {log_noise.shape}; expected (C,), one value per channel")
    return log_noise.dtype.type, (log_noise,)


def diagonal_noise_backward(dnoise_cov, log_noise):
    dtype, (log_noise,) = diagonal_noise(log_noise)
    dnoise_cov = same_shape("dnoise_cov", dnoise_cov, log_noise.shape * 2, "the noise")
    return np.result_type(dtype, dnoise_cov).type, (dnoise_cov, log_noise)


def cholesky_noise(factor):
    factor = array("factor", factor)
    if factor.ndim != 2 or factor.shape[0] != factor.shape[1]:
        raise ValueError(f"factor has shape {factor.shape}; expected (C, C)")
    return factor.dtype.type, (factor,)


def cholesky_noise_backward(dnoise_cov, factor):
    dtype, (factor,) = cholesky_noise(factor)
    dnoise_cov = same_shape("dnoise_cov", dnoise_cov, factor.shape, "the noise")
    return np.result_type(dtype, dnoise_cov).type, (dnoise_cov, factor)
