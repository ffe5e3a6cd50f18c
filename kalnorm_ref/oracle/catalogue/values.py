"""Values that go wrong somewhere: functions of the draws and the shape, channels last."""

import numpy as np

from ..draws import Draws
from .build import DEVIATION, MEAN


def ordinary(draws, shape):
    """Normal draws with the mean and the deviation of every ordinary x."""
    return MEAN + DEVIATION * draws.normal(*shape)


def normal(deviation):
    """Normal draws with mean 0."""
    return lambda draws, shape: deviation * draws.normal(*shape)


def uniform(low, high):
    return lambda draws, shape: draws.uniform(low, high, *shape)


def multiples(unit):
    """Whole numbers from -30 to 30 times a unit."""
    return lambda draws, shape: unit * draws.integers(-30, 31, *shape)


def ones(draws, shape):
    return np.ones(shape)


def zeros(draws, shape):
    return np.zeros(shape)


def first(value, channel=0):
    """Ordinary, with another value at the first sample of a channel."""

    def make(draws, shape):
        a = ordinary(draws, shape)
        a[(0,) * (len(shape) - 1) + (channel,)] = value
        return a

    return make


def last(value, make):
    """What `make` gives, with another value at the last sample of channel 1."""

    def changed(draws, shape):
        a = make(draws, shape)
        a[(-1,) * (len(shape) - 1) + (1,)] = value
        return a

    return changed


def constant(draws, shape):
    """Ordinary but for channels 0 and 1, which are 3.3 throughout: no short binary fraction, so that means round."""
    a = ordinary(draws, shape)
    a[..., :2] = 3.3
    return a


def huge(draws, shape):
    """Ordinary but for channel 1, of the order of 1e30."""
    a = ordinary(draws, shape)
    a[..., 1] *= 1e30
    return a


def zeros_of_both_signs(draws, shape):
    """Channels 0 and 1 are -0 throughout but for channel 1 of the first sample, which is 0; the rest is ordinary."""
    a = ordinary(draws, shape)
    a[..., :2] = -0.0
    a[0, ..., 1] = 0.0
    return a


def unlike_channels(draws, shape):
    """Deviations from 2^-10 to 2^10 and means in proportion; powers of two are exact on every machine."""
    return ordinary(draws, shape) * np.ldexp(1.0, np.round(np.linspace(-10, 10, shape[-1])).astype(int))


def unlike_samples(draws, shape):
    """Means from sample to sample 10 deviations apart."""
    return ordinary(draws, shape) + 20 * np.arange(shape[0]).reshape(-1, *(1 for _ in shape[1:]))


def unlike_steps(draws, shape):
    """Another mean and deviation in each channel, and at each call."""
    c = shape[-1]
    return draws.uniform(-9, 9, c) + draws.uniform(0.25, 6, c) * draws.normal(*shape)


def near_largest_half(draws, shape):
    """The last 60 numbers of float16, up to 65504."""
    return 65504 - 32 * draws.integers(0, 60, *shape)


def sparse(draws, shape):
    """Whole numbers from -3 to 3, about four of five of them 0."""
    return draws.integers(-3, 4, *shape) * (draws.integers(0, 4, *shape) == 0)


def one_hot(draws, shape):
    """A single 1, at the last sample of channel 1."""
    return last(1.0, zeros)(draws, shape)


def every_other_zero(draws, shape):
    """For gamma: 0 in the even channels."""
    return (1.5 + draws.normal(*shape) / 4) * (np.arange(*shape) % 2)


def shared(name, make):
    """What `make` gives from draws of their own, of the same seed: equal values in every tensor that is given it."""
    return lambda draws, shape: make(Draws(name, draws.seed), shape)
