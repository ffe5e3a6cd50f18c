"""The four primitives observe, predict, fuse and standardize; BN, BRN and diagonal KN are short compositions of them.

Notation: x has m samples (axis -2) and C channels (axis -1); axes before them are independent statistics batches.

    observe      xbar = mean x ;  S = mean (x - xbar)^2                                          (B1)
    predict      a = A mu' ;  b = (A*A) v' + rho                                                 (B5)
    fuse         mu = p a + q xbar ;  v = p b + q S + p q (xbar - a)^2 ,  p = 1 - q              (A1, B5)
    standardize  y = gamma x_hat + beta ,  x_hat = (x - mu) r ,  r = (v + eps)^(-1/2)            (B0)

The numbers in brackets name equations: docs/equations.md lists them all.
"""

from typing import NamedTuple

import numpy as np

from . import _checks
from .backend import twinned


class Moments(NamedTuple):
    """Mean and biased variance, each (..., C). The variance never contains eps."""

    mean: np.ndarray
    var: np.ndarray


class StandardizeCache(NamedTuple):
    """What standardize leaves for its backward. Statistics are float64 whatever the type of x."""

    x: np.ndarray  # (..., m, C), the caller's own array
    moments: Moments  # mean and var as given, broadcastable to (..., C)
    rstd: np.ndarray  # (var + eps)^(-1/2)
    gamma: np.ndarray | None  # (C,)
    beta: np.ndarray | None  # (C,)


def samples_sum(x):
    """Sum over the samples, (..., m, C) -> (..., C). Contiguous, because only there NumPy sums pairwise."""
    return np.ascontiguousarray(np.swapaxes(x, -1, -2)).sum(axis=-1)


def samples_mean(x):
    """Mean over the samples, (..., m, C) -> (..., C), summed pairwise."""
    return samples_sum(x) / x.shape[-2]


def per_sample(statistic):
    """Give a statistic (..., C) an axis of length 1 for the samples, so that it broadcasts against x."""
    return statistic[..., None, :]


def sum_to_shape(gradient, shape):
    """Sum `gradient` over the axes along which an argument of `shape` was broadcast to get there."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    stretched = tuple(extra + i for i, n in enumerate(shape) if n == 1 and gradient.shape[extra + i] != 1)
    return gradient.sum(axis=(*range(extra), *stretched), keepdims=True).reshape(shape)


def sum_outer(a, b):
    """Outer products of a (..., I) and b (..., J), summed over the axes before: (I, J)."""
    leading = tuple(range(a.ndim - 1))
    return np.tensordot(a, b, axes=(leading, leading))


def affine(x_hat, gamma, beta):
    """y = gamma x_hat + beta, where either may be None."""
    y = x_hat if gamma is None else gamma * x_hat
    return y if beta is None else y + beta


def affine_backward(dy, x_hat, gamma, beta):
    """Backward of affine: dx_hat, dgamma, dbeta; the last two are None where the parameter is."""
    channels = dy.shape[-1:]
    dgamma = None if gamma is None else sum_to_shape(samples_sum(dy * x_hat), channels)  # (B0)
    dbeta = None if beta is None else sum_to_shape(samples_sum(dy), channels)  # (B0)
    return dy if gamma is None else gamma * dy, dgamma, dbeta


@twinned(_checks.observe)
def observe(x):
    """Mean and biased variance of the samples, per channel.

    Equations: mean = 1/m sum_i x_i ; var = 1/m sum_i (x_i - mean)^2, in two passes (B1).
    Shapes: x (..., m, C), m >= 1.
    Returns: Moments, each (..., C).
    Raises: ValueError if x has fewer than 2 axes or no sample; TypeError if x is not floating.
    Departs: nothing. PyTorch's running variance is the unbiased one, m/(m-1) times this.
    Reference: Ioffe and Szegedy 2015, arXiv 1502.03167, Algorithm 1.
    """
    mean = samples_mean(x)
    var = samples_mean((x - per_sample(mean)) ** 2)
    return Moments(mean, var)


@twinned(_checks.observe_backward)
def observe_backward(dmoments, x, moments):
    """Gradient of observe.

    Equations: dx_i = dmean / m + 2 dvar (x_i - mean) / m. The mean inside var adds nothing: sum_i (x_i - mean) = 0.
    Shapes: dmoments (mean, var) each (..., C); x (..., m, C); moments = observe(x).
    Returns: dx (..., m, C).
    Raises: ValueError for mismatched shapes; TypeError for types that are not floating.
    Departs: nothing.
    Reference: the chain rule through (B1).
    """
    m = x.shape[-2]
    return per_sample(dmoments.mean) / m + per_sample(2 * dmoments.var / m) * (x - per_sample(moments.mean))


@twinned(_checks.fuse)
def fuse(prior, observed, gain):
    """Weigh a prior against an observation: the moments of the mixture of both.

    Equations: delta = xbar - a ; mean = p a + q xbar ; var = p b + q S + p q delta^2 , p = 1 - q (A1, B5).
    Shapes: prior = (a, b) and observed = (xbar, S), each (..., C), broadcast against each other; gain q scalar or (C,)
        in [0, 1]. Gain 1 returns the observation, gain 0 the prior.
    Returns: Moments (..., C).
    Raises: ValueError for mismatched shapes, a negative variance or a gain outside [0, 1].
    Departs: nothing from the paper; but it is not the posterior of a Kalman filter, whose variance never exceeds the
        prior's: here the variance of the data is estimated, so the disagreement p q delta^2 adds to it.
    Reference: Wang et al. 2018, arXiv 1802.03133, the update of mean and covariance, diagonal form.
    """
    a, b = prior
    xbar, s = observed
    p, q = 1 - gain, gain
    delta = xbar - a
    return Moments(p * a + q * xbar, p * b + q * s + p * q * delta**2)


@twinned(_checks.fuse_backward)
def fuse_backward(dmoments, prior, observed, gain):
    """Gradient of fuse to prior, observation and gain.

    Equations: ddelta = q dmean + 2 p q dvar delta ; dxbar = ddelta ; dS = q dvar ; da = dmean - ddelta ; db = p dvar ;
        dq = dmean delta + dvar (S - b + (1 - 2q) delta^2) (B5).
    Shapes: dmoments (mean, var) each (..., C), the shape of fuse's result; the rest as in fuse.
    Returns: dprior (Moments), dobserved (Moments), dgain, each with the shape of its argument.
    Raises: as fuse.
    Departs: nothing.
    Reference: derived from the update above.
    """
    a, b = prior
    xbar, s = observed
    p, q = 1 - gain, gain
    delta = xbar - a
    dmean, dvar = dmoments
    ddelta = q * dmean + 2 * p * q * dvar * delta
    dprior = Moments(sum_to_shape(dmean - ddelta, a.shape), sum_to_shape(p * dvar, b.shape))
    dobserved = Moments(sum_to_shape(ddelta, xbar.shape), sum_to_shape(q * dvar, s.shape))
    dgain = dmean * delta + dvar * (s - b + (1 - 2 * q) * delta**2)
    return dprior, dobserved, sum_to_shape(dgain, np.shape(gain))


@twinned(_checks.standardize, cache=True)
def standardize(x, moments, gamma, beta, eps):
    """Subtract a mean, divide by a standard deviation, scale and shift.

    Equations: r = (var + eps)^(-1/2) ; x_hat = (x - mean) r ; y = gamma x_hat + beta (B0).
    Shapes: x (..., m, C); moments each (..., C) or (C,); gamma, beta (C,) or None; eps >= 0, added to the variance.
    Returns: y (..., m, C), cache.
    Raises: ValueError for mismatched shapes, negative variance or eps; TypeError for types that are not floating.
    Departs: nothing.
    Reference: Ioffe and Szegedy 2015, arXiv 1502.03167, Algorithm 1.
    """
    rstd = 1 / np.sqrt(moments.var + eps)
    x_hat = (x - per_sample(moments.mean)) * per_sample(rstd)
    return affine(x_hat, gamma, beta), StandardizeCache(x, moments, rstd, gamma, beta)


@twinned(_checks.standardize_backward)
def standardize_backward(dy, cache):
    """Gradient of standardize with x and the moments as independent inputs.

    Equations: g = gamma dy ; dx = r g ; dmean = -r sum g ; dvar = -1/2 r^2 sum (g x_hat) ; dgamma = sum dy x_hat ;
        dbeta = sum dy (B0). Here dx is the direct path only: what reaches x through the moments is observe_backward's.
    Shapes: dy (..., m, C).
    Returns: dx (..., m, C), dmoments (Moments, with the moments' shapes), dgamma, dbeta (C,) or None.
    Raises: ValueError if dy and x differ in shape.
    Departs: nothing.
    Reference: the chain rule through (B0).
    """
    x, moments, rstd, gamma, beta = cache
    x_hat = (x - per_sample(moments.mean)) * per_sample(rstd)
    g, dgamma, dbeta = affine_backward(dy, x_hat, gamma, beta)
    dmean = -rstd * samples_sum(g)
    dvar = -(rstd**2) * samples_sum(g * x_hat) / 2
    dmoments = Moments(sum_to_shape(dmean, moments.mean.shape), sum_to_shape(dvar, moments.var.shape))
    return g * per_sample(rstd), dmoments, dgamma, dbeta


@twinned(_checks.predict)
def predict(estimate, transition, noise):
    """Prior for this normalizer from the estimate of the previous one, through a linear transition.

    Equations: mean = A mu' ; var = (A*A) v' + rho (B5). A vector of transitions stands for a diagonal matrix.
    Shapes: estimate (mu', v') each (..., C'); transition (C, C'), or (C,) when C' = C; noise rho scalar or (C,), a
        variance, >= 0.
    Returns: Moments, each (..., C).
    Raises: ValueError for mismatched shapes, negative noise or variance.
    Departs: the paper transports the full covariance A Sigma A^T + R; this drops what lies off its diagonal.
    Reference: Wang et al. 2018, arXiv 1802.03133, the prediction of mean and covariance.
    """
    if transition.ndim == 1:
        return Moments(transition * estimate.mean, transition**2 * estimate.var + noise)
    return Moments(estimate.mean @ transition.T, estimate.var @ (transition**2).T + noise)


@twinned(_checks.predict_backward)
def predict_backward(dprior, estimate, transition, noise):
    """Gradient of predict to the previous estimate, the transition and the noise.

    Equations: dmu' = A^T da ; dv' = (A*A)^T db ; dA = da mu'^T + 2 A * (db v'^T) ; drho = db (B5).
    Shapes: dprior (da, db) each (..., C); the rest as in predict.
    Returns: destimate (Moments), dtransition, dnoise, each with the shape of its argument.
    Raises: as predict.
    Departs: nothing.
    Reference: derived from the prediction above.
    """
    da, db = dprior
    mean, var = estimate
    dnoise = sum_to_shape(db, np.shape(noise))
    if transition.ndim == 1:
        dtransition = sum_to_shape(da * mean + 2 * transition * db * var, transition.shape)
        return Moments(da * transition, db * transition**2), dtransition, dnoise
    dtransition = sum_outer(da, mean) + 2 * transition * sum_outer(db, var)
    return Moments(da @ transition, db @ transition**2), dtransition, dnoise
