"""Maps rectified, pooled, and between channels of zeros, one position at a time."""

import numpy as np

from .parts import empty, increase, planter, zeros

MISTAKES = {
    "relu": "passes_everywhere passes_below times_y",
    "avg_pool": "mean_forgotten high_forgotten first_of_block sides_swapped",
    "pad_channels": "shifted ends_swapped",
}


def relu(x):
    y = zeros(x)
    for place in np.ndindex(x.shape):
        if x.item(place) > 0:
            y[place] = x.item(place)
    return y


def relu_backward(dy, x, mistake=None):
    fault, dx = planter(mistake), zeros(x)
    for place in np.ndindex(x.shape):
        value, d = x.item(place), dy.item(place)
        if fault(value > 0, passes_everywhere=True, passes_below=value < 0):
            dx[place] = fault(d, times_y=d * value)
    return (dx,)


def blocks(shape, high, wide):
    """(a position of the pooled map, the positions of its block) for each."""
    n, height, width, c = shape
    for image, i, j, channel in np.ndindex(n, height // high, width // wide, c):
        inside = [(image, i * high + a, j * wide + b, channel) for a in range(high) for b in range(wide)]
        yield (image, i, j, channel), inside


def avg_pool(x, high, wide):
    n, height, width, c = x.shape
    y = empty((n, height // high, width // wide, c), x)
    for place, inside in blocks(x.shape, high, wide):
        y[place] = sum(x.item(position) for position in inside) / len(inside)
    return y


def avg_pool_backward(dy, x, high, wide, mistake=None):
    fault, dx = planter(mistake), zeros(x)
    for place, inside in blocks(x.shape, high, wide):
        over = fault(high * wide, mean_forgotten=1, high_forgotten=wide)
        n, i, j, c = place
        swapped = (n, j % dy.shape[1], i % dy.shape[2], c)
        for position in fault(inside, first_of_block=inside[:1]):
            increase(dx, position, dy.item(fault(place, sides_swapped=swapped)) / over)
    return (dx,)


def pad_channels(x, before, after):
    y = empty((*x.shape[:-1], before + x.shape[-1] + after), x)
    for *place, c in np.ndindex(x.shape):
        y[(*place, before + c)] = x.item((*place, c))
    return y


def pad_channels_backward(dy, x, before, after, mistake=None):
    dx, first = zeros(x), planter(mistake)(before, shifted=before - 1, ends_swapped=after)
    for *place, c in np.ndindex(x.shape):
        dx[(*place, c)] = dy.item((*place, first + c))
    return (dx,)
