"""Moments after pooling, of the sum of two branches, and after channels of zeros are added."""

import numpy as np

from ..parts import add as add_at
from ..parts import asin, at, each, empty, pi, planter, sqrt, zeros
from .activation import by_channel, by_channel_backward

MISTAKES = {
    "avg_pool": "correlation_forgotten mean_divided",
    "max_pool": "half_forgotten mean_path_dropped constants_swapped",
    "add": "second_negated squared",
    "pad_channels": "shifted",
}


@by_channel
def avg_pool(m, v, size, correlation):
    """The variance of a mean of K values: K variances and K (K - 1) covariances over K^2."""
    k = size**2
    return m, (k * v + k * (k - 1) * correlation * v) / k**2


@by_channel_backward
def avg_pool_backward(m, v, fault, size, correlation=0.0):
    pairs = size**4 - size**2  # ordered pairs of different values in a block
    k = size**2
    shared = fault(correlation, correlation_forgotten=0.0)
    return fault(1.0, mean_divided=1 / k), 0.0, 0.0, (k + pairs * shared) / k**2


def largest_of_4(like=1.0):
    """Mean and variance of the largest of 4 standard normal values, exactly, as precise as `like`."""
    one = like**0
    mean = 3 / sqrt(pi(one)) * (0.5 + asin(one / 3) / pi(one))
    return mean, 1 + sqrt(3 * one) / pi(one) - mean**2


@by_channel
def max_pool(m, v, size):
    assert size == 2
    c, d = largest_of_4(v)
    return m + c * sqrt(v), d * v


@by_channel_backward
def max_pool_backward(m, v, fault, size):
    assert size == 2
    constants = largest_of_4(v)
    c, d = fault(constants, constants_swapped=constants[::-1])
    slope = c / (fault(2, half_forgotten=1) * sqrt(v))
    return 1.0, fault(slope, mean_path_dropped=0.0), 0.0, d


def add(a, b):
    shape = np.broadcast_shapes(np.shape(a[0]), np.shape(b[0]))
    total = empty(shape, a[0]), empty(shape, a[1])
    for which in (0, 1):
        for *batch, c in np.ndindex(shape):
            total[which][(*batch, c)] = at(a[which], batch, c) + at(b[which], batch, c)
    return total


def add_backward(doutput, a, b, mistake=None):
    fault = planter(mistake)
    da, db = zeros(a), zeros(b)
    for which in (0, 1):
        for *batch, c in np.ndindex(doutput[which].shape):
            d = at(doutput[which], batch, c)
            add_at(da[which], batch, c, fault(d, squared=2 * d))
            add_at(db[which], batch, c, fault(d, second_negated=-d))
    return da, db


def pad_channels(estimate, before, after):
    *lead, c = np.shape(estimate[0])
    padded = empty((*lead, before + c + after), estimate[0]), empty((*lead, before + c + after), estimate[1])
    for index, m, v in each(estimate):
        target = (*index[:-1], before + index[-1])
        padded[0][target], padded[1][target] = m, v
    return padded


def pad_channels_backward(doutput, estimate, before, after, mistake=None):
    destimate, before = zeros(estimate), planter(mistake)(before, shifted=before + 1)
    for index, _, _ in each(estimate):
        source = (*index[:-1], before + index[-1])
        destimate[0][index], destimate[1][index] = (d.item(source) for d in doutput)
    return (destimate,)
