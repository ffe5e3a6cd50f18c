"""Argument checks of the functions in transport, in the manner of _checks: one a function, with its signature."""

import numpy as np

from ._arguments import (
    array,
    channels,
    exact_pair,
    moments_pair,
    number,
    output_size,
    pads,
    whole,
    widest_type,
)


def _backward(check, doutput, args, shape):
    """The check of an f_backward: f's own check, then doutput against the shape of f's result."""
    dtype, args = check(*args)
    doutput = exact_pair("doutput", doutput, shape(*args), f"{check.__name__}'s result")
    return np.result_type(dtype, doutput.mean, doutput.var).type, (doutput, *args)


def _same_channels(estimate, *_):
    return estimate.mean.shape


def relu(estimate):
    estimate = moments_pair("estimate", estimate)
    return widest_type(estimate), (estimate,)


def relu_backward(doutput, estimate):
    return _backward(relu, doutput, (estimate,), _same_channels)


def relu_from_slopes(doutput, estimate, slopes):
    doutput = exact_pair("doutput", doutput, estimate.mean.shape, "relu's result")
    return widest_type(estimate, doutput), (doutput, estimate, slopes)


def leaky_relu(estimate, slope):
    dtype, (estimate,) = relu(estimate)
    return dtype, (estimate, number("slope", slope, -np.inf))


def leaky_relu_backward(doutput, estimate, slope):
    return _backward(leaky_relu, doutput, (estimate, slope), _same_channels)


def dropout(estimate, keep):
    dtype, (estimate,) = relu(estimate)
    keep = number("keep", keep, 0, 1, "a probability in (0, 1]")
    if keep == 0:
        raise ValueError("keep is 0; expected a probability in (0, 1]")
    return dtype, (estimate, keep)


def dropout_backward(doutput, estimate, keep):
    return _backward(dropout, doutput, (estimate, keep), _same_channels)


def linear(estimate, weight, bias=None):
    estimate, weight = moments_pair("estimate", estimate), array("weight", weight)
    c_in = estimate.mean.shape[-1]
    if weight.ndim != 2 or weight.shape[0] != c_in:
        raise ValueError(f"weight has shape {weight.shape}; expected ({c_in}, C_out), {c_in} channels in the estimate")
    bias = channels("bias", bias, weight.shape[1])
    return widest_type(estimate, weight, bias), (estimate, weight, bias)


def linear_backward(doutput, estimate, weight, bias=None):
    shape = lambda e, w, b: (*e.mean.shape[:-1], w.shape[1])  # noqa: E731
    return _backward(linear, doutput, (estimate, weight, bias), shape)


def _kernel(weight, c_in):
    if weight.ndim != 4 or weight.shape[2] != c_in:
        raise ValueError(
            f"weight has shape {weight.shape}; expected (kh, kw, {c_in}, C_out), {c_in} channels in the estimate"
        )


def conv2d(estimate, weight, stride, padding, input_size):
    estimate, weight = moments_pair("estimate", estimate), array("weight", weight)
    _kernel(weight, estimate.mean.shape[-1])
    if np.shape(input_size) != (2,):
        raise ValueError(f"input_size is {input_size!r}; expected (H, W)")
    stride, padding = whole("stride", stride, 1), pads(padding)
    input_size = tuple(whole("input_size", n, 1) for n in input_size)
    output_size(input_size, weight.shape[:2], stride, padding)
    return widest_type(estimate, weight), (estimate, weight, stride, padding, input_size)


def conv2d_backward(doutput, estimate, weight, stride, padding, input_size):
    shape = lambda e, w, *_: (*e.mean.shape[:-1], w.shape[3])  # noqa: E731
    return _backward(conv2d, doutput, (estimate, weight, stride, padding, input_size), shape)


def avg_pool(estimate, size, correlation=0.0):
    dtype, (estimate,) = relu(estimate)
    size = whole("size", size, 1)
    low = 0 if size == 1 else -1 / (size**2 - 1)
    return dtype, (estimate, size, number("correlation", correlation, low, 1, f"a value in [{low:.3g}, 1]"))


def avg_pool_backward(doutput, estimate, size, correlation=0.0):
    return _backward(avg_pool, doutput, (estimate, size, correlation), _same_channels)


def max_pool(estimate, size):
    dtype, (estimate,) = relu(estimate)
    return dtype, (estimate, whole("size", size, 1))


def max_pool_backward(doutput, estimate, size):
    return _backward(max_pool, doutput, (estimate, size), _same_channels)


def add(a, b):
    a, b = moments_pair("a", a), moments_pair("b", b)
    try:
        np.broadcast_shapes(a.mean.shape, b.mean.shape)
    except ValueError:
        raise ValueError(f"b.mean has shape {b.mean.shape}; expected that of a.mean, {a.mean.shape}") from None
    return widest_type(a, b), (a, b)


def add_backward(doutput, a, b):
    shape = lambda a, b: np.broadcast_shapes(a.mean.shape, b.mean.shape)  # noqa: E731
    return _backward(add, doutput, (a, b), shape)


def pad_channels(estimate, before, after):
    dtype, (estimate,) = relu(estimate)
    return dtype, (estimate, whole("before", before, 0), whole("after", after, 0))


def pad_channels_backward(doutput, estimate, before, after):
    shape = lambda e, b, a: (*e.mean.shape[:-1], e.mean.shape[-1] + b + a)  # noqa: E731
    return _backward(pad_channels, doutput, (estimate, before, after), shape)


def mixture(estimate, size):
    dtype, (estimate,) = relu(estimate)
    if estimate.mean.ndim < 2 or not estimate.mean.shape[-2]:
        raise ValueError(f"estimate.mean has shape {estimate.mean.shape}; expected (..., n, C) with at least one row")
    return dtype, (estimate, whole("size", size, 1))


def mixture_backward(doutput, estimate, size):
    shape = lambda e, k: (*e.mean.shape[:-2], -(-e.mean.shape[-2] // k), e.mean.shape[-1])  # noqa: E731
    return _backward(mixture, doutput, (estimate, size), shape)


def push(mode, estimate, observed, gamma, beta, eps=1e-5):
    from .transport.push import MODES  # here, because push imports this module

    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    estimate = moments_pair("estimate", estimate)
    shape = estimate.mean.shape
    if observed is None and mode == "observed":
        raise ValueError('observed is None; mode "observed" needs the moments of the batch')
    observed = None if observed is None else moments_pair("observed", observed, shape)
    gamma, beta = channels("gamma", gamma, shape[-1]), channels("beta", beta, shape[-1])
    dtype = widest_type(estimate, observed, gamma, beta)
    return dtype, (mode, estimate, observed, gamma, beta, number("eps", eps, 0))


def push_backward(doutput, mode, estimate, observed, gamma, beta, eps=1e-5):
    dtype, args = push(mode, estimate, observed, gamma, beta, eps)
    doutput = exact_pair("doutput", doutput, args[1].mean.shape, "the estimate")
    return np.result_type(dtype, doutput.mean, doutput.var).type, (doutput, *args)


def sampled(estimate, draws, weight, stride, padding):
    estimate, draws, weight = moments_pair("estimate", estimate), array("draws", draws), array("weight", weight)
    shape = estimate.mean.shape
    if draws.ndim != len(shape) + 2 or (*draws.shape[:-3], draws.shape[-1]) != shape or 0 in draws.shape:
        expected = ", ".join(map(str, (*shape[:-1], "H", "W", shape[-1])))
        raise ValueError(f"draws has shape {draws.shape}; expected ({expected}), a map for each row of the estimate")
    _kernel(weight, shape[-1])
    stride, padding = whole("stride", stride, 1), pads(padding)
    output_size(draws.shape[-3:-1], weight.shape[:2], stride, padding)
    return widest_type(estimate, draws, weight), (estimate, draws, weight, stride, padding)


def sampled_backward(doutput, estimate, draws, weight, stride, padding):
    shape = lambda e, d, w, *_: (*e.mean.shape[:-1], w.shape[3])  # noqa: E731
    return _backward(sampled, doutput, (estimate, draws, weight, stride, padding), shape)
