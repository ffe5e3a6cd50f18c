"""Pooling of NHWC maps, and the zero-padded channels of a widening shortcut."""

import numpy as np

from .. import _arguments, transport
from ..maps import avg_pool_backward, avg_pool_forward, pad_channels_backward, pad_channels_forward
from .base import Layer


def _maps(x):
    x = _arguments.array("x", x)
    if x.ndim != 4:
        raise ValueError(f"x has shape {x.shape}; expected (N, H, W, C), channels last")
    return x


def _blocks(x, size):
    """(N, H, W, C) as (N, H/size, size, W/size, size, C), a view; ValueError where H or W does not divide."""
    n, h, w, c = _maps(x).shape
    if h % size or w % size:
        raise ValueError(
            f"x has shape {x.shape}; expected a height and width that are multiples of the pool size {size}"
        )
    return x.reshape(n, h // size, size, w // size, size, c)


class AvgPool2d(Layer):
    """Mean of each size x size block. For moments, `correlation` is that of the values in a block (C3)."""

    def __init__(self, size, correlation=0.0):
        super().__init__()
        self.size = _arguments.whole("size", size, 1)
        low = 0 if size == 1 else -1 / (size**2 - 1)
        self.correlation = _arguments.number("correlation", correlation, low, 1, f"a value in [{low:.3g}, 1]")

    def forward(self, x, training=False):
        return self.keep(avg_pool_forward(x, self.size, self.size))

    def backward(self, dy):
        self.take(dy)
        return avg_pool_backward(dy, self.size, self.size)

    def transport(self, moments):
        return transport.avg_pool(moments, self.size, self.correlation)

    def transport_backward(self, dmoments, moments):
        return transport.avg_pool_backward(dmoments, moments, self.size, self.correlation)


class GlobalAvgPool2d(Layer):
    """Mean over all positions: (N, H, W, C) to (N, C). Moments: the positions count as independent."""

    def forward(self, x, training=False):
        x = _maps(x)
        self.positions = x.shape[1] * x.shape[2]
        n, height, width, c = x.shape
        return self.keep(avg_pool_forward(x, height, width).reshape(n, c), height, width)

    def backward(self, dy):
        height, width = self.take(dy)
        return avg_pool_backward(dy[:, None, None, :], height, width)

    def transport(self, moments):
        return moments._replace(var=moments.var / self.positions)

    def transport_backward(self, dmoments, moments):
        return dmoments._replace(var=dmoments.var / self.positions)


class MaxPool2d(Layer):
    """Largest value of each size x size block (by its real part); of equal ones the first gets the gradient."""

    def __init__(self, size):
        super().__init__()
        self.size = _arguments.whole("size", size, 1)

    def forward(self, x, training=False):
        blocks = np.moveaxis(_blocks(x, self.size), 3, 2)  # (N, H', W', size, size, C)
        n, h, w, _, _, c = blocks.shape
        blocks = blocks.reshape(n, h, w, self.size**2, c)
        at = blocks.real.argmax(axis=3)[:, :, :, None]
        return self.keep(np.take_along_axis(blocks, at, axis=3)[:, :, :, 0], x.shape, at)

    def backward(self, dy):
        shape, at = self.take(dy)
        n, h, w, c = dy.shape
        blocks = np.zeros((n, h, w, self.size**2, c), dy.dtype)
        np.put_along_axis(blocks, at, dy[:, :, :, None], axis=3)
        return np.moveaxis(blocks.reshape(n, h, w, self.size, self.size, c), 2, 3).reshape(shape)

    def transport(self, moments):
        return transport.max_pool(moments, self.size)

    def transport_backward(self, dmoments, moments):
        return transport.max_pool_backward(dmoments, moments, self.size)

    def sample(self, moments, sampler):
        return self.transport(moments)  # the released code has no max pooling; the ReLU is still to come

    def sample_backward(self, dmoments, moments, sampler):
        return self.transport_backward(dmoments, moments)


class PadChannels(Layer):
    """Add `before` and `after` channels of zeros."""

    def __init__(self, before, after):
        super().__init__()
        self.before, self.after = _arguments.whole("before", before, 0), _arguments.whole("after", after, 0)

    def forward(self, x, training=False):
        return self.keep(pad_channels_forward(x, self.before, self.after))

    def backward(self, dy):
        self.take(dy)
        return pad_channels_backward(dy, self.before, self.after)

    def transport(self, moments):
        return transport.pad_channels(moments, self.before, self.after)

    def transport_backward(self, dmoments, moments):
        return transport.pad_channels_backward(dmoments, moments, self.before, self.after)

    def sample(self, moments, sampler):
        pad = transport.pad_channels if sampler.channel_padding == "per_batch" else transport.pad_concatenated
        return pad(moments, self.before, self.after)

    def sample_backward(self, dmoments, moments, sampler):
        per_batch = sampler.channel_padding == "per_batch"
        back = transport.pad_channels_backward if per_batch else transport.pad_concatenated_backward
        return back(dmoments, moments, self.before, self.after)
