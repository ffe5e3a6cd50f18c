"""Moments after pooling, after the join of two branches, and after channels of zeros are added (C3)."""

import functools

import numpy as np
from scipy.integrate import quad
from scipy.special import ndtr

from .. import _transport_checks
from ..backend import checked
from ..moments import Moments, sum_to_shape
from .activation import SMALLEST_VAR


@checked(_transport_checks.avg_pool)
def avg_pool(estimate, size, correlation=0.0):
    """Mean and variance after averaging size x size positions of one pairwise correlation.

    Equations: mean the same ; var = v (1 + (K - 1) c) / K , c the correlation, K = size^2 (C3). The authors' released
        code leaves the variance as it is, which is c = 1.
    """
    return Moments(estimate.mean, estimate.var * _averaging(size, correlation))


@checked(_transport_checks.avg_pool_backward)
def avg_pool_backward(doutput, estimate, size, correlation=0.0):
    """Gradient of avg_pool to the estimate: dmu = dmean ; dv = dvar (1 + (K - 1) c) / K (C3)."""
    return Moments(doutput.mean, doutput.var * _averaging(size, correlation))


def _averaging(size, correlation):
    k = size**2
    return (1 + (k - 1) * correlation) / k


@checked(_transport_checks.max_pool)
def max_pool(estimate, size):
    """Mean and variance of the maximum of size x size independent Gaussians of equal moments.

    Equations: mean = mu + s c_K ; var = v d_K, with the mean c_K and the variance d_K of the largest of K standard
        normal values (C3); c_4 = 1.0294, d_4 = 0.4917.
    """
    c, d = largest_of(size**2)
    return Moments(estimate.mean + c * np.sqrt(estimate.var), d * estimate.var)


@checked(_transport_checks.max_pool_backward)
def max_pool_backward(doutput, estimate, size):
    """Gradient of max_pool to the estimate: dmu = dmean ; dv = dmean c_K / (2 s) + d_K dvar (C3)."""
    c, d = largest_of(size**2)
    s = np.sqrt(np.where(estimate.var.real < SMALLEST_VAR, SMALLEST_VAR, estimate.var))
    return Moments(doutput.mean, doutput.mean * c / (2 * s) + doutput.var * d)


@functools.lru_cache(maxsize=64)
def largest_of(k):
    """Mean and variance of the largest of k independent standard normal values, by quadrature of its density."""
    density = lambda z: k * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * ndtr(z) ** (k - 1)  # noqa: E731
    moment = lambda n: quad(lambda z: z**n * density(z), -12, 12, epsabs=1e-14, epsrel=1e-13, limit=200)[0]  # noqa: E731
    mean = moment(1)
    return mean, moment(2) - mean**2


@checked(_transport_checks.add)
def add(a, b):
    """Moments of the sum of two independent branches: means and variances add (C3)."""
    return Moments(a.mean + b.mean, a.var + b.var)


@checked(_transport_checks.add_backward)
def add_backward(doutput, a, b):
    """Gradient of add: da, db, each with the shape of its argument: doutput goes to both (C3)."""
    return tuple(Moments(*(sum_to_shape(d, s.shape) for d, s in zip(doutput, e, strict=True))) for e in (a, b))


@checked(_transport_checks.pad_channels)
def pad_channels(estimate, before, after):
    """Moments after `before` and `after` channels of zeros are added: each statistics batch by itself (C3)."""
    widths = [(0, 0)] * (estimate.mean.ndim - 1) + [(before, after)]
    return Moments(*(np.pad(s, widths) for s in estimate))


@checked(_transport_checks.pad_channels_backward)
def pad_channels_backward(doutput, estimate, before, after):
    """Gradient of pad_channels to the estimate: that of its own channels (C3)."""
    return Moments(*(d[..., before : before + estimate.mean.shape[-1]] for d in doutput))
