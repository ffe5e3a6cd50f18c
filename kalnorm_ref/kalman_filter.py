"""Normalization by a genuine Kalman filter on the mean: not what the paper does, but what its name leads one to expect.

    forward   xbar, S = observe(x) ;  N = S/m ;  K = P / (P + N) ;  mu = a + K (xbar - a) ;  P+ = (1 - K) P
              v = S + (xbar - mu)^2 = mean (x - mu)^2 ;  y = gamma (x - mu) r + beta ,  r = (v + eps)^(-1/2)
    backward  dv = - 1/2 r^2 sum(g x_hat) ;  dmu = G_mu - r sum g - 2 dv (xbar - mu)
              da = (1 - K) dmu ;  dP = (1 - K)^2 G_P + dmu (xbar - a) N / (P + N)^2
              dN = K^2 G_P - dmu (xbar - a) P / (P + N)^2 ;  dxbar = K dmu + 2 dv (xbar - mu) ;  dS = dv + dN/m
              dx = r g + dxbar/m + (2 dS/m)(x - xbar)                                                     (B7)

The state is the true mean of the channel, its prior N(a, P), and the batch mean an observation of it with the variance
S/m. A reviewer of the paper (NeurIPS 2018) asked for this state: if it is the activation instead, the update estimates
one activation, not the mean that normalization needs. Against kalman_norm:

- P is the error variance of the mean. It never exceeds the prior's, while the variance of kalman_norm is that of the
  data, which the disagreement of prior and batch increases.
- The gain is not a parameter. It follows from P, S and m, and grows with m by itself.
- The prior says nothing of the variance of the data: v is that of the batch, about the filtered mean.

The next normalizer's prior comes from predict: a' = A mu, P' = (A*A) P+ + Q, with Q as the noise.
"""

from typing import NamedTuple

import numpy as np

from . import _checks
from .backend import checked
from .moments import (
    Moments,
    StandardizeCache,
    observe,
    observe_backward,
    standardize,
    standardize_backward,
    sum_to_shape,
)


class KalmanFilterNormCache(NamedTuple):
    """What kalman_filter_norm_forward leaves for its backward. Statistics are float64 whatever the type of x."""

    x: np.ndarray  # (..., m, C), the caller's own array
    standardized: Moments  # mu, v: what x was standardized with, each (..., C)
    rstd: np.ndarray  # r = (v + eps)^(-1/2), (..., C)
    gamma: np.ndarray | None  # (C,)
    beta: np.ndarray | None  # (C,)
    observed: Moments  # xbar, S, each (..., C)
    prior: Moments | None  # a, P, each (..., C) or (C,)


@checked(_checks.kalman_filter_norm_forward, cache=True)
def kalman_filter_norm_forward(x, gamma, beta, prior, eps=1e-5):
    """Standardize with the Kalman filter's estimate of the mean, and the mean square about it.

    Equations: (B7), at the head of this file.
    Shapes: x (..., m, C), each leading index a statistics batch of its own; gamma, beta (C,) or None; prior
        Moments(a, P) each (..., C) or (C,), or None: then mu = xbar and P+ = S/m, the limit of a large P, and this is
        batch normalization; eps >= 0.
    Returns: y (..., m, C), estimate (Moments(mu, P+), each (..., C)), cache; cache.standardized is (mu, v).
    Raises: ValueError for mismatched shapes, m = 0, negative P or eps.
    Departs: from the paper in the state, see the head of this file. From the textbook filter: the variance of the
        observation is not known but taken from the batch. P = 0 is a certain prior: K = 0, also where S = 0.
    Reference: Kalman 1960, Journal of Basic Engineering 82(1), for one state observed directly.

    >>> import numpy as np, kalnorm_ref as kr
    >>> prior = kr.Moments(np.array([0.0]), np.array([0.5]))
    >>> _, estimate, cache = kr.kalman_filter_norm_forward(np.array([[1.0], [3.0]]), None, None, prior)
    >>> estimate.mean.tolist(), estimate.var.tolist(), cache.standardized.var.tolist()
    ([1.0], [0.25], [2.0])
    """
    observed = observe(x)
    xbar, s = observed
    noise = s / x.shape[-2]
    if prior is None:
        estimate, standardized = Moments(xbar, noise), observed
    else:
        gain, rest, _ = filter_gain(prior.var, noise)
        estimate = Moments(rest * prior.mean + gain * xbar, rest * prior.var)
        standardized = Moments(estimate.mean, s + (rest * (xbar - prior.mean)) ** 2)
    y, cache = standardize(x, standardized, gamma, beta, eps)
    return y, estimate, KalmanFilterNormCache(*cache, observed, prior)


@checked(_checks.kalman_filter_norm_backward)
def kalman_filter_norm_backward(dy, destimate, cache):
    """Gradient of kalman_filter_norm_forward.

    Equations: (B7), at the head of this file; G = destimate is what the next normalizer sends back.
    Shapes: dy (..., m, C); destimate Moments(dmu, dP+) each (..., C), or None for zeros (last normalizer of a chain).
    Returns: dx (..., m, C), dgamma, dbeta (C,), dprior (Moments), each with the shape of its argument and None where
        the argument was None.
    Raises: ValueError if dy or destimate has the wrong shape.
    Departs: nothing. Where P = S = 0 the gain jumps; there it is held at 0.
    Reference: the chain rule through (B7).
    """
    x, standardized, rstd, gamma, beta, observed, prior = cache
    m = x.shape[-2]
    dx, dmoments, dgamma, dbeta = standardize_backward(dy, StandardizeCache(x, standardized, rstd, gamma, beta))
    dmu, dv = dmoments
    above_mu, above_p = (0, 0) if destimate is None else destimate
    if prior is None:
        dxbar, ds, dprior = dmu + above_mu, dv + above_p / m, None
    else:
        a, p = prior
        xbar, s = observed
        noise = s / m
        gain, rest, total = filter_gain(p, noise)
        dmu = dmu + above_mu - 2 * dv * rest * (xbar - a)
        per_total = dmu * (xbar - a) / total  # the gradient of K through mu; through P+ it is in the squares below
        dp = rest**2 * above_p + per_total * (noise / total)
        dnoise = gain**2 * above_p - per_total * gain
        dprior = Moments(sum_to_shape(rest * dmu, a.shape), sum_to_shape(dp, p.shape))
        dxbar, ds = gain * dmu + 2 * dv * rest * (xbar - a), dv + dnoise / m
    return dx + observe_backward(Moments(dxbar, ds), x, observed), dgamma, dbeta, dprior


def filter_gain(var, noise):
    """K = P/(P + N), 1 - K = N/(P + N), P + N. Both quotients are formed, because 1 - K cancels where P is large.

    Where P = N = 0 nothing is uncertain: K = 0, and the sum is 1, to divide by.
    """
    total = var + noise
    certain = total == 0
    total = np.where(certain, 1, total)
    return var / total, np.where(certain, 1, noise / total), total
