"""Two-dimensional convolution: the pure pair conv2d_forward, conv2d_backward (E1).

    y[n,i,j,o] = sum_{a,b,c} x[n, s i + a - top, s j + b - left, c] W[a,b,c,o] + bias[o]        zeros outside the image
    dW[a,b,c,o] = sum_{n,i,j} x[n, s i + a - top, s j + b - left, c] dy[n,i,j,o] ;  dbias = sum dy
    dx[n,u,v,c] = sum over all (i,j,a,b) with (u,v) = (s i + a - top, s j + b - left) of  dy[n,i,j,:] . W[a,b,c,:]

As in every deep-learning library this is a cross-correlation: the kernel is not flipped.
"""

from typing import NamedTuple

import numpy as np

from . import _arguments, _checks, backend
from .backend import twinned
from .maps import add


class Conv2dCache(NamedTuple):
    """What conv2d_forward leaves for its backward."""

    x: np.ndarray  # (N, H, W, C_in); this, the weight and the bias are the caller's own arrays
    weight: np.ndarray  # (kh, kw, C_in, C_out)
    bias: np.ndarray | None  # (C_out,)
    stride: int
    padding: tuple  # ((top, bottom), (left, right))


def _padded(x, padding):
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def _windows(x, kernel, stride):
    """A read-only view (N, H', W', C, kh, kw) of all windows of the padded x."""
    return np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))[:, ::stride, ::stride]


@twinned(_checks.conv2d_forward, cache=True, own=3)
def conv2d_forward(x, weight, bias, stride, padding):
    """Convolution with zero padding.

    Equations: at the head of this file.
    Shapes: x (N, H, W, C_in); weight (kh, kw, C_in, C_out); bias (C_out,) or None; stride >= 1; padding p, or
        ((top, bottom), (left, right)).
    Returns: y (N, H', W', C_out) with H' = (H + top + bottom - kh) // stride + 1, cache.
    Raises: ValueError for mismatched shapes or a kernel larger than the padded image; TypeError for types that are not
        floating.
    Departs: nothing.
    Reference: the definition of discrete cross-correlation.
    """
    windows = _windows(_padded(x, padding), weight.shape[:2], stride)
    y = np.tensordot(windows, weight, axes=((4, 5, 3), (0, 1, 2)))
    return y if bias is None else y + bias, Conv2dCache(x, weight, bias, stride, padding)


def convolve(x, weight, bias, stride, padding, plus=None, observe=False):
    """conv2d_forward as a network calls it: x may be Deferred (see rectified.py), and plus, like y, is added to y.

    Returns: y, cache, and, if asked to observe, what saves the normalizer behind it reading y (or None).
    """
    if backend.get_backend() == "cython":
        if not backend.is_deferred(x):
            _, (x, weight, bias, stride, padding) = _checks.conv2d_forward(x, weight, bias, stride, padding)
        elif x.dtype.type is np.float32 and x.shape[3] == weight.shape[2]:
            _arguments.output_size(x.shape[1:3], weight.shape[:2], stride, padding)
        return backend.convolved(x, weight, bias, stride, padding, plus, observe)
    y, cache = conv2d_forward(np.asarray(x), weight, bias, stride, padding)
    return y if plus is None else add(y, plus), cache, None


@twinned(_checks.conv2d_backward)
def conv2d_backward(dy, cache):
    """Gradient of convolution.

    Equations: at the head of this file.
    Shapes: dy (N, H', W', C_out), the shape of y.
    Returns: dx (N, H, W, C_in), dweight (kh, kw, C_in, C_out), dbias (C_out,) or None.
    Raises: ValueError if dy does not have the shape of y.
    Departs: nothing.
    Reference: the chain rule through the definition.
    """
    return _dx(dy, cache), *_dweight(dy, cache)


@twinned(_checks.conv2d_weight_backward)
def conv2d_weight_backward(dy, cache):
    """dweight and dbias of conv2d_backward, where nobody asks for dx: of the images that a network is given."""
    return _dweight(dy, cache)


def convolve_gradients(dy, cache, wanted=True, into=None):
    """conv2d_backward as a network calls it: dx only if wanted, dweight made in `into` where the compiled one can."""
    if backend.get_backend() == "cython":
        dtype, arguments = _checks.conv2d_backward(dy, cache)
        if dtype is not np.complex128:
            return backend.convolved_gradients(*arguments, wanted, into)
    return conv2d_backward(dy, cache) if wanted else (None, *conv2d_weight_backward(dy, cache))


def _dx(dy, cache):
    x, weight, _, s, padding = cache
    kh, kw = weight.shape[:2]
    (_, height, width), (_, rows, columns) = x.shape[:3], dy.shape[:3]
    dpadded = np.zeros_like(_padded(x, padding), dtype=np.result_type(dy, weight))
    for a in range(kh):
        for b in range(kw):
            dpadded[:, a : a + s * rows : s, b : b + s * columns : s] += dy @ weight[a, b].T
    (top, _), (left, _) = padding
    return dpadded[:, top : top + height, left : left + width]


def _dweight(dy, cache):
    x, weight, bias, s, padding = cache
    windows = _windows(_padded(x, padding), weight.shape[:2], s)
    dweight = np.moveaxis(np.tensordot(windows, dy, axes=((0, 1, 2), (0, 1, 2))), 0, 2)
    return dweight, None if bias is None else dy.sum(axis=(0, 1, 2))
