"""Batch Kalman normalization with the full covariance, as the paper writes it: prediction, normalizer, noise.

    predict   a = A mu' ;  B = A Sigma' A^T + R
    observe   xbar = mean x ;  S = mean (x - xbar)(x - xbar)^T
    fuse      delta = xbar - a ;  mu = a + q delta ;  Sigma = p B + q S + p q delta delta^T ,  p = 1 - q
              y = gamma (x - mu) r + beta ,  r = (diag Sigma + eps)^(-1/2)                                      (B3)
    backward  dmu = G_mu - r sum g ;  U = G_Sigma + diag( -1/2 r^2 sum(g x_hat) ) ;  W = U + U^T
              ddelta = q dmu + p q W delta ;  dx_i = r g_i + ddelta/m + (q/m) W (x_i - xbar)
              dq = delta . dmu + <U, S - B + (1 - 2q) delta delta^T> ;  da = dmu - ddelta ;  dB = p U
              dA = da mu'^T + dB A Sigma'^T + dB^T A Sigma' ;  dmu' = A^T da ;  dSigma' = A^T dB A ;  dR = dB   (B4)

Only the diagonal of Sigma standardizes x, but what lies off it reaches the next diagonal through A. The gradient of a
matrix is that of each element by itself, as if it could move alone: nothing is symmetrized, forwards or backwards.
There is no compiled twin: the work is matrix products, which NumPy hands to BLAS. Through these, NaN in one channel
reaches the gradients of every channel of its statistics batch.
"""

from typing import NamedTuple

import numpy as np

from . import _full_checks
from .backend import checked
from .moments import (
    Moments,
    StandardizeCache,
    affine,
    affine_backward,
    per_sample,
    samples_mean,
    samples_sum,
    standardize_backward,
    sum_outer,
    sum_to_shape,
)

ROUNDING = np.finfo(np.float32).eps  # relative; of float32 in float64 too, because Sigma' may have been float32 before


class FullKalmanNormCache(NamedTuple):
    """What kalman_norm_forward leaves for its backward. Statistics are float64 whatever the type of x."""

    x: np.ndarray  # (..., m, C), the caller's own array
    mean: np.ndarray  # mu, (..., C)
    cov: np.ndarray  # Sigma, (..., C, C); x was standardized with its diagonal
    rstd: np.ndarray  # r = (diag Sigma + eps)^(-1/2), (..., C)
    gamma: np.ndarray | None  # (C,)
    beta: np.ndarray | None  # (C,)
    observed_mean: np.ndarray  # xbar, (..., C)
    observed_cov: np.ndarray  # S, (..., C, C)
    prior_mean: np.ndarray | None  # a, (..., C) or (C,)
    prior_cov: np.ndarray | None  # B, (..., C, C) or (C, C)
    gain: np.ndarray | None  # q, a scalar


@checked(_full_checks.predict)
def predict(mean, cov, transition, noise_cov):
    """Prior for this normalizer from the estimate of the previous one, through a linear transition.

    Equations: a = A mu' ; B = A Sigma' A^T + R (B3).
    Shapes: mean mu' (..., C'); cov Sigma' (..., C', C'); transition A (C, C'); noise_cov R (C, C).
    Returns: mean (..., C), cov (..., C, C).
    Raises: ValueError for mismatched shapes or a negative variance on a diagonal; an asymmetric matrix is taken as is.
    Departs: a variance that rounding alone has made negative (A Sigma' A^T of a singular Sigma') is returned as 0. The
        paper says of R that it is the identity, that it is trained, and that all layers share it, whatever their width;
        only a multiple of the identity can be near all of these, see scalar_noise.
    Reference: Wang et al. 2018, arXiv 1802.03133, the prediction of mean and covariance.
    """
    prior_cov = transition @ cov @ transition.T + noise_cov
    # A Sigma' A^T of a singular Sigma' can come out a rounding error below 0: such variances, and no others, become 0
    largest = (np.sqrt(np.abs(_variances(cov))) @ np.abs(transition).T) ** 2  # any Sigma' of this diagonal gives less
    rounding = ROUNDING * mean.shape[-1] * largest
    var = np.einsum("...ii->...i", prior_cov)  # a view
    var[(var.real < 0) & (var.real >= -rounding)] = 0
    return mean @ transition.T, prior_cov


@checked(_full_checks.predict_backward)
def predict_backward(dmean, dcov, mean, cov, transition, noise_cov):
    """Gradient of predict to the previous mean and covariance, the transition and the noise.

    Equations: dmu' = A^T da ; dSigma' = A^T dB A ; dA = da mu'^T + dB A Sigma'^T + dB^T A Sigma' ; dR = dB (B4).
    Shapes: dmean da (..., C); dcov dB (..., C, C); the rest as in predict.
    Returns: dmean_in, dcov_in, dtransition, dnoise_cov, each with the shape of its argument.
    Raises: as predict.
    Departs: nothing.
    Reference: derived from the prediction above.
    """
    both = dcov @ transition @ _transpose(cov) + _transpose(dcov) @ transition @ cov
    dtransition = sum_outer(dmean, mean) + sum_to_shape(both, transition.shape)
    dcov_in = transition.T @ dcov @ transition
    return dmean @ transition, dcov_in, dtransition, sum_to_shape(dcov, noise_cov.shape)


@checked(_full_checks.kalman_norm_forward, cache=True)
def kalman_norm_forward(x, gamma, beta, prior_mean, prior_cov, gain, eps=1e-5):
    """Batch Kalman normalization with a given prior and gain, and the full covariance.

    Equations: (B3), at the head of this file.
    Shapes: x (..., m, C), each leading index a statistics batch of its own; gamma, beta (C,) or None; prior_mean
        (..., C) and prior_cov (..., C, C), or (C,) and (C, C) for all batches, or None: then there is nothing to fuse,
        gain is ignored and this is batch normalization; gain a scalar in [0, 1]; eps >= 0.
    Returns: y (..., m, C), mean (..., C) and cov (..., C, C) for the next normalizer, cache. The covariance is positive
        semidefinite where prior_cov is; with a gain above 1, which is refused, it need not be.
    Raises: ValueError for mismatched shapes, m = 0, a negative variance or eps, gain outside [0, 1]; TypeError for
        half a prior.
    Departs: the paper does not say how its gain stays in range; here it is the caller's, as in kalman_norm_forward.
    Reference: Wang et al. 2018, arXiv 1802.03133, Algorithm 1.
    """
    xbar, s = _observe(x)
    mean, cov = (xbar, s) if prior_mean is None else _fuse(prior_mean, prior_cov, xbar, s, gain)
    rstd = 1 / np.sqrt(_variances(cov) + eps)
    y = affine((x - per_sample(mean)) * per_sample(rstd), gamma, beta)
    return y, mean, cov, FullKalmanNormCache(x, mean, cov, rstd, gamma, beta, xbar, s, prior_mean, prior_cov, gain)


@checked(_full_checks.kalman_norm_backward)
def kalman_norm_backward(dy, dmean, dcov, cache):
    """Gradient of batch Kalman normalization with the full covariance, simplified.

    Equations: (B4), at the head of this file; G = (dmean, dcov) is what the next normalizer sends back.
    Shapes: dy (..., m, C); dmean (..., C) and dcov (..., C, C), or None for zeros (last normalizer of a chain).
    Returns: dx (..., m, C), dgamma, dbeta (C,), dprior_mean, dprior_cov, dgain, each with the shape of its argument and
        None where the argument was None or, for dgain, ignored.
    Raises: ValueError if dy, dmean or dcov has the wrong shape.
    Departs: the paper's gradients are said to stand in an appendix that we did not find; these are derived.
    Reference: the chain rule through (B3); kalman_norm_backward_staged has the steps.
    """
    x, mean, _, rstd, gamma, beta, xbar, s, a, b, gain = cache
    m = x.shape[-2]
    x_hat = (x - per_sample(mean)) * per_sample(rstd)
    g, dgamma, dbeta = affine_backward(dy, x_hat, gamma, beta)
    dmu = _add(-rstd * samples_sum(g), dmean)
    u = _add(_diagonal(-(rstd**2) * samples_sum(g * x_hat) / 2), dcov)
    w = u + _transpose(u)
    if a is None:
        q, ddelta, da, db, dgain = 1, dmu, None, None, None  # without a prior the gain is 1
    else:
        p, q, delta = 1 - gain, gain, xbar - a
        ddelta = q * dmu + p * q * _apply(w, delta)
        da, db = sum_to_shape(dmu - ddelta, a.shape), sum_to_shape(p * u, b.shape)
        dgain = np.sum(delta * dmu) + np.sum(u * (s - b + (1 - 2 * q) * _square(delta)))
    dx = per_sample(rstd) * g + per_sample(ddelta / m) + (x - per_sample(xbar)) @ (q / m * w)
    return dx, dgamma, dbeta, da, db, dgain


def kalman_norm_backward_staged(dy, dmean, dcov, cache):
    """The same gradient step by step along the chain rule: through standardize, fuse, then observe."""
    x, mean, cov, rstd, gamma, beta, xbar, s, a, b, gain = cache
    moments = Moments(mean, _variances(cov))
    dx, dmoments, dgamma, dbeta = standardize_backward(dy, StandardizeCache(x, moments, rstd, gamma, beta))
    dxbar, ds = _add(dmoments.mean, dmean), _add(_diagonal(dmoments.var), dcov)
    da, db, dgain = None, None, None
    if a is not None:
        da, db, dxbar, ds, dgain = _fuse_backward(dxbar, ds, a, b, xbar, s, gain)
    return dx + _observe_backward(dxbar, ds, x, xbar), dgamma, dbeta, da, db, dgain


def _observe(x):
    """Mean and covariance of the samples: xbar (..., C), S (..., C, C)."""
    mean = samples_mean(x)
    centred = x - per_sample(mean)
    return mean, _transpose(centred) @ centred / x.shape[-2]


def _observe_backward(dmean, dcov, x, mean):
    """dx_i = dxbar/m + (dS + dS^T)(x_i - xbar)/m; the mean inside S adds nothing: sum_i (x_i - xbar) = 0."""
    m = x.shape[-2]
    return per_sample(dmean) / m + (x - per_sample(mean)) @ (dcov + _transpose(dcov)) / m


def _fuse(a, b, xbar, s, gain):
    """Mean and covariance of the mixture of prior (a, B) and observation (xbar, S)."""
    p, q = 1 - gain, gain
    return p * a + q * xbar, p * b + q * s + p * q * _square(xbar - a)


def _fuse_backward(dmean, dcov, a, b, xbar, s, gain):
    """da, dB, dxbar, dS, dq: delta reaches mu as q delta, and Sigma as p q delta delta^T."""
    p, q, delta = 1 - gain, gain, xbar - a
    ddelta = q * dmean + p * q * (_apply(dcov, delta) + _apply(_transpose(dcov), delta))
    dgain = np.sum(dmean * delta) + np.sum(dcov * (s - b + (p - q) * _square(delta)))
    return sum_to_shape(dmean - ddelta, a.shape), sum_to_shape(p * dcov, b.shape), ddelta, q * dcov, dgain


def _transpose(matrix):
    """Transpose of each matrix (..., I, J)."""
    return np.swapaxes(matrix, -1, -2)


def _apply(matrix, vector):
    """Each matrix (..., I, J) times its vector (..., J)."""
    return (matrix @ vector[..., None])[..., 0]


def _square(vector):
    """Each vector (..., C) times its transpose: (..., C, C)."""
    return vector[..., :, None] * vector[..., None, :]


def _variances(cov):
    """The diagonal of each matrix (..., C, C)."""
    return cov.diagonal(0, -2, -1)


def _diagonal(vector):
    """The diagonal matrix (..., C, C) of each vector (..., C)."""
    matrix = np.zeros((*vector.shape, vector.shape[-1]), vector.dtype)
    np.einsum("...ii->...i", matrix)[...] = vector
    return matrix


def _add(gradient, above):
    """`gradient` and what comes from above, where None is zero."""
    return gradient if above is None else gradient + above


@checked(_full_checks.scalar_noise)
def scalar_noise(log_noise, channels):
    """R = e^w I (channels, channels) of a scalar w: the noise that layers of any width can share."""
    return np.exp(log_noise) * np.eye(channels)


@checked(_full_checks.scalar_noise_backward)
def scalar_noise_backward(dnoise_cov, log_noise, channels):
    """Gradient of scalar_noise: dw = e^w tr(dR)."""
    return np.exp(log_noise) * np.trace(dnoise_cov)


@checked(_full_checks.diagonal_noise)
def diagonal_noise(log_noise):
    """R = diag(e^w) (C, C) of a vector w (C,)."""
    return _diagonal(np.exp(log_noise))


@checked(_full_checks.diagonal_noise_backward)
def diagonal_noise_backward(dnoise_cov, log_noise):
    """Gradient of diagonal_noise: dw = e^w diag(dR)."""
    return np.exp(log_noise) * _variances(dnoise_cov)


@checked(_full_checks.cholesky_noise)
def cholesky_noise(factor):
    """R = L L^T (C, C), where L is the lower triangle of factor (C, C): any noise, and no other matrix."""
    lower = np.tril(factor)
    return lower @ lower.T


@checked(_full_checks.cholesky_noise_backward)
def cholesky_noise_backward(dnoise_cov, factor):
    """Gradient of cholesky_noise: the lower triangle of (dR + dR^T) L."""
    return np.tril((dnoise_cov + dnoise_cov.T) @ np.tril(factor))
