"""Where running values, priors and gains are chosen for the batch: more functions of the draws and the shape."""

import numpy as np


def spread(*values):
    """One value a channel, repeated where there are more channels."""
    return lambda draws, shape: np.broadcast_to(np.resize(np.array(values, float), shape[-1]), shape)


def level(draws, shape):
    """Mean 3 and deviation 2 in every channel, to rounding.

    The sums are of multiples of 2^-17 and 2^-34 and therefore exact: no order of summation changes a bit.
    """
    a = draws.normal(*shape)
    m, axes = a[..., 0].size, tuple(range(a.ndim - 1))
    mean = a.sum(axis=axes) / m
    return 3 + 2 * (a - mean) / np.sqrt((a * a).sum(axis=axes) / m - mean * mean)


def plus_minus(draws, shape):
    """3 + 2 and 3 - 2 by turns: every precision has mean 3 and deviation 2 exactly."""
    signs = 1 - 2 * (np.arange(int(np.prod(shape[:-1]))) % 2)
    return 3 + 2 * np.broadcast_to(signs.reshape(*shape[:-1], 1), shape)


def about(mean, deviation=1.0):
    """Normal draws."""
    return lambda draws, shape: mean + deviation * draws.normal(*shape)


def identity(draws, shape):
    return np.eye(*shape)


def averages(draws, shape):
    """Rows of positive weights that sum to 1: an offset of the previous normalizer is handed on."""
    a = draws.integers(1, 9, *shape)
    return a / a.sum(axis=-1, keepdims=True)


def second(value, make):
    """What `make` gives, with another value in the second place."""

    def changed(draws, shape):
        a = np.array(make(draws, shape))
        a[..., 1] = value
        return a

    return changed


def for_all(make):
    """The same for all statistics batches or samples."""
    return lambda draws, shape: make(draws, shape[-1:])
