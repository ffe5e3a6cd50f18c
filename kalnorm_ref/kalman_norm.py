"""Batch Kalman normalization: fuse the batch statistics with a prior from the previous normalizer, then standardize.

    forward   (xbar, S) = observe(x) ;  (mu, v) = fuse((a, b), (xbar, S), q) ;  y = gamma (x - mu) r + beta
    backward  dmu = G_mu - r sum g ;  dv = G_v - 1/2 r^2 sum(g x_hat) ;  ddelta = q dmu + 2 p q dv delta
              dx = r g + ddelta/m + (2 q dv/m)(x - xbar) ;  da = dmu - ddelta ;  db = p dv
              dq = dmu delta + dv (S - b + (1 - 2q) delta^2) ,  delta = xbar - a                       (B5)

Diagonal covariance: one variance per channel. The prior (a, b) comes from predict, or from the functions in transport.
"""

from typing import NamedTuple

import numpy as np

from . import _checks
from .backend import twinned
from .moments import (
    Moments,
    StandardizeCache,
    affine_backward,
    fuse,
    fuse_backward,
    observe,
    observe_backward,
    per_sample,
    samples_sum,
    standardize,
    standardize_backward,
    sum_to_shape,
)


class KalmanNormCache(NamedTuple):
    """What kalman_norm_forward leaves for its backward. Statistics are float64 whatever the type of x."""

    x: np.ndarray  # (..., m, C), the caller's own array
    estimate: Moments  # mu, v: what x was standardized with, each (..., C)
    rstd: np.ndarray  # r = (v + eps)^(-1/2), (..., C)
    gamma: np.ndarray | None  # (C,)
    beta: np.ndarray | None  # (C,)
    observed: Moments  # xbar, S, each (..., C)
    prior: Moments | None  # a, b, each (..., C) or (C,)
    gain: np.ndarray | None  # q, scalar or (C,)


@twinned(_checks.kalman_norm_forward, cache=True)
def kalman_norm_forward(x, gamma, beta, prior, gain, eps=1e-5):
    """Batch Kalman normalization with a given prior and gain.

    Equations: estimate = fuse(prior, observe(x), gain) ; y = standardize(x, estimate, gamma, beta, eps) (B5).
    Shapes: x (..., m, C); gamma, beta (C,) or None; prior Moments each (..., C) or (C,), or None: then there is nothing
        to fuse, gain is ignored and this is batch normalization; gain scalar or (C,) in [0, 1]; eps >= 0.
    Returns: y (..., m, C), estimate (Moments, each (..., C)) for the next normalizer, cache.
    Raises: ValueError for mismatched shapes, m = 0, negative variance or eps, gain outside [0, 1].
    Departs: keeps the diagonal of the paper's covariance. The authors' released code has a constant gain and samples
        its prior.
    Reference: Wang et al. 2018, arXiv 1802.03133, Algorithm 1.
    """
    observed = observe(x)
    estimate = observed if prior is None else fuse(prior, observed, gain)
    y, cache = standardize(x, estimate, gamma, beta, eps)
    return y, estimate, KalmanNormCache(*cache, observed, prior, None if prior is None else gain)


@twinned(_checks.kalman_norm_backward)
def kalman_norm_backward(dy, destimate, cache):
    """Gradient of batch Kalman normalization, simplified.

    Equations: (B5), at the head of this file; G = destimate is what the next normalizer sends back.
    Shapes: dy (..., m, C); destimate Moments each (..., C), or None for zeros (last normalizer of a chain).
    Returns: dx (..., m, C), dgamma, dbeta (C,), dprior (Moments), dgain, each with the shape of its argument and None
        where the argument was None or, for dgain, ignored.
    Raises: ValueError if dy or destimate has the wrong shape.
    Departs: the paper's gradients are said to stand in an appendix that we did not find; these are derived.
    Reference: the chain rule through (B5); kalman_norm_backward_staged has the steps.
    """
    x, estimate, rstd, gamma, beta, observed, prior, gain = cache
    m = x.shape[-2]
    x_hat = (x - per_sample(estimate.mean)) * per_sample(rstd)
    g, dgamma, dbeta = affine_backward(dy, x_hat, gamma, beta)
    dmu = -rstd * samples_sum(g)
    dv = -(rstd**2) * samples_sum(g * x_hat) / 2
    if destimate is not None:
        dmu, dv = dmu + destimate.mean, dv + destimate.var
    xbar, s = observed
    if prior is None:
        q, ddelta, dprior, dgain = 1, dmu, None, None
    else:
        (a, b), p, q = prior, 1 - gain, gain
        delta = xbar - a
        ddelta = q * dmu + 2 * p * q * dv * delta
        dprior = Moments(sum_to_shape(dmu - ddelta, a.shape), sum_to_shape(p * dv, b.shape))
        dgain = sum_to_shape(dmu * delta + dv * (s - b + (1 - 2 * q) * delta**2), np.shape(gain))
    dx = per_sample(rstd) * g + per_sample(ddelta / m) + per_sample(2 * q * dv / m) * (x - per_sample(xbar))
    return dx, dgamma, dbeta, dprior, dgain


def kalman_norm_backward_staged(dy, destimate, cache):
    """The same gradient step by step along the chain rule: through standardize, fuse, then observe."""
    x, estimate, rstd, gamma, beta, observed, prior, gain = cache
    dx, dmoments, dgamma, dbeta = standardize_backward(dy, StandardizeCache(x, estimate, rstd, gamma, beta))
    if destimate is not None:
        dmoments = Moments(dmoments.mean + destimate.mean, dmoments.var + destimate.var)
    dprior, dobserved, dgain = None, dmoments, None
    if prior is not None:
        dprior, dobserved, dgain = fuse_backward(dmoments, prior, observed, gain)
    return dx + observe_backward(dobserved, x, observed), dgamma, dbeta, dprior, dgain
