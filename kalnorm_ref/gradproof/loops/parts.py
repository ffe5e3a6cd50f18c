"""What the loops share: arithmetic on Python floats or on mpmath numbers, arrays that only store, planted mistakes.

A number knows its own precision: a float takes its functions from `math`, an mpf from the context that made it. Arrays
hold either, as float64 or as objects, and are never added or multiplied; results have the kind of the arguments.
"""

import math

import numpy as np


def _of_both(name):
    def function(x):
        return getattr(math if isinstance(x, float | int) else x.context, name)(x)

    return function


sqrt, exp, log, erfc, asin = map(_of_both, ("sqrt", "exp", "log", "erfc", "asin"))


def pi(like):
    """The number pi, as precise as the number `like`."""
    return math.pi if isinstance(like, float) else +like.context.pi


def phi(t):
    """Density of N(0, 1)."""
    return exp(-t * t / 2) / sqrt(2 * pi(t))


def cdf(t):
    """Distribution function of N(0, 1)."""
    return erfc(-t / sqrt(2 * t**0)) / 2


def planter(mistake):
    """`fault(right, name=wrong, ...)`, which is right unless one of its names is the mistake."""
    return lambda right, **wrong: wrong.get(mistake, right)


def array(value):
    """A scalar or an array as an array, of objects if it holds mpmath numbers."""
    return np.asarray(value)


def place(values, batch, channel):
    """Where the value for (batch, channel) stands in an array that broadcasts to (..., C)."""
    index = (*batch, channel)[len(batch) + 1 - values.ndim :]
    return tuple(0 if n == 1 else i for i, n in zip(index, values.shape, strict=True))


def at(value, batch, channel, default=1.0):
    """The value of a parameter or statistic for (batch, channel); `default` for None."""
    if value is None:
        return default
    values = array(value)
    return values.item(place(values, batch, channel))


def increase(gradient, index, amount):
    """gradient[index] += amount, in Python's arithmetic; nothing for None."""
    if gradient is not None:
        gradient[index] = gradient.item(index) + amount


def add(gradient, batch, channel, amount):
    """gradient += amount, where (batch, channel) stands in it; nothing for None."""
    if gradient is not None:
        increase(gradient, place(gradient, batch, channel), amount)


def empty(shape, like):
    """Zeros of `shape`, able to hold what the array `like` holds."""
    return np.zeros(shape, object if array(like).dtype == object else float)


def zeros(like):
    """Zeros of the shapes of a scalar, an array, or a tuple of them; None for None."""
    if like is None:
        return None
    return tuple(map(zeros, like)) if isinstance(like, tuple) else empty(np.shape(like), like)


def columns(x, *others):
    """(batch, channel, the samples there as a list of numbers) and the same samples of the other arrays."""
    for batch in np.ndindex(x.shape[:-2]):
        for c in range(x.shape[-1]):
            yield batch, c, *([a.item((*batch, i, c)) for i in range(x.shape[-2])] for a in (x, *others))


def each(estimate):
    """(index, mean, var) for every statistic of a pair of equal shapes."""
    for index in np.ndindex(np.shape(estimate[0])):
        yield index, estimate[0].item(index), estimate[1].item(index)


def average(values, over=None):
    return sum(values) / (len(values) if over is None else over)


def variance(values, over=None):
    mean = average(values)
    return average([(v - mean) ** 2 for v in values], over)


def average_product(left, right):
    return average([a * b for a, b in zip(left, right, strict=True)])
