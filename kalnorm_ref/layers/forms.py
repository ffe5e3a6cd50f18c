"""The three computations that KalmanNorm can be built around, behind one signature.

    diagonal   one variance a channel: kalman_norm.py                  (B5)
    full       the covariance of all channels: full_covariance.py      (B3, B4)
    filter     the Kalman filter of the true mean: kalman_filter.py    (B7)

forward(run, x, gamma, beta, prior, gain, eps) -> Fused
backward(run, dy, destimate, cache) -> dx, dgamma, dbeta, dprior, dgain

run(function, *arguments) calls the pure function, as it is or with a ReLU behind it.
"""

from typing import Any, NamedTuple

import numpy as np

from .. import full_covariance
from ..kalman_filter import filter_gain, kalman_filter_norm_backward, kalman_filter_norm_forward
from ..kalman_norm import kalman_norm_backward, kalman_norm_forward
from ..moments import Moments


class Fused(NamedTuple):
    """What a forward returns."""

    y: np.ndarray  # (G, m, C)
    estimate: Moments  # to send on; its second part is (G, C, C) with full covariance
    observed: Moments  # of the batches, each (G, C)
    used: Moments  # what x was standardized with, each (G, C)
    gain: Any  # weight of the observation, None without a prior
    cache: Any


def diagonal_forward(run, x, gamma, beta, prior, gain, eps):
    y, estimate, cache = run(kalman_norm_forward, x, gamma, beta, prior, gain, eps)
    return Fused(y, estimate, cache.observed, estimate, gain, cache)


def full_forward(run, x, gamma, beta, prior, gain, eps):
    a, b = (None, None) if prior is None else prior
    y, mean, cov, cache = run(full_covariance.kalman_norm_forward, x, gamma, beta, a, b, gain, eps)
    observed = Moments(cache.observed_mean, variances(cache.observed_cov))
    return Fused(y, Moments(mean, cov), observed, Moments(mean, variances(cov)), gain, cache)


def diagonal_backward(run, dy, destimate, cache):
    return run(kalman_norm_backward, dy, destimate, cache)


def full_backward(run, dy, destimate, cache):
    dmean, dcov = (None, None) if destimate is None else destimate
    dx, dgamma, dbeta, da, db, dgain = run(full_covariance.kalman_norm_backward, dy, dmean, dcov, cache)
    return dx, dgamma, dbeta, None if da is None else Moments(da, db), dgain


def filter_forward(run, x, gamma, beta, prior, gain, eps):
    y, estimate, cache = run(kalman_filter_norm_forward, x, gamma, beta, prior, eps)
    gain = None if prior is None else filter_gain(prior.var, cache.observed.var / x.shape[1])[0]
    return Fused(y, estimate, cache.observed, cache.standardized, gain, cache)


def filter_backward(run, dy, destimate, cache):
    return *run(kalman_filter_norm_backward, dy, destimate, cache), None


def variances(cov):
    """The diagonal of (..., C, C)."""
    return np.diagonal(cov, axis1=-2, axis2=-1)


FORMS = {
    "diagonal": (diagonal_forward, diagonal_backward),
    "full": (full_forward, full_backward),
    "filter": (filter_forward, filter_backward),
}
