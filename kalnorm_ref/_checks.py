"""Argument checks of the pure functions, in the order of the modules: one a function, with that function's signature.

A check returns the type of the results and the arguments as arrays; its parts, and the messages, are in _arguments.
"""

import numpy as np

from ._arguments import (
    array,
    cast,
    channels,
    common_type,
    exact_pair,
    gains,
    moments_pair,
    number,
    output_size,
    pads,
    same_shape,
    samples,
    scalar_or_array,
    scalar_or_channels,
    statistic,
    whole,
    widest_type,
    within,
)


def observe(x):
    x = samples("x", x)
    return x.dtype.type, (x,)


def observe_backward(dmoments, x, moments):
    x = samples("x", x)
    shape = x.shape[:-2] + x.shape[-1:]
    dmoments = exact_pair("dmoments", dmoments, shape, "observe(x)")
    pair = exact_pair("moments", moments_pair("moments", moments), shape, "observe(x)")
    dtype = common_type(x, dmoments, pair)
    return dtype, (dmoments, np.asarray(x, dtype), pair)


def _fusion(prior, observed, gain):
    prior, observed = moments_pair("prior", prior), moments_pair("observed", observed)
    try:
        shape = np.broadcast_shapes(prior.mean.shape, observed.mean.shape)
    except ValueError:
        shape = None
    if shape is None or prior.mean.shape[-1] != observed.mean.shape[-1]:
        raise ValueError(
            f"prior.mean has shape {prior.mean.shape}; expected one that broadcasts against observed.mean, "
            f"{observed.mean.shape}"
        )
    return shape, prior, observed, gains(gain, shape[-1])


def fuse(prior, observed, gain):
    _, prior, observed, gain = _fusion(prior, observed, gain)
    dtype = widest_type(prior, observed, gain if gain.ndim or gain.dtype.kind == "c" else None)
    return dtype, (prior, observed, gain)


def fuse_backward(dmoments, prior, observed, gain):
    shape, prior, observed, gain = _fusion(prior, observed, gain)
    dmoments = exact_pair("dmoments", dmoments, shape, "the fused moments")
    dtype = widest_type(dmoments, prior, observed, gain if gain.ndim or gain.dtype.kind == "c" else None)
    return dtype, (dmoments, prior, observed, gain)


def standardize(x, moments, gamma, beta, eps):
    x = samples("x", x)
    pair = moments_pair("moments", moments, x.shape[:-2] + x.shape[-1:])
    return _affine(x, pair, gamma, beta, eps)


def _affine(x, *rest):
    """x, any statistics, gamma, beta, any corrections, eps -> the type and the arguments."""
    *others, gamma, beta, eps = rest
    gamma, beta = channels("gamma", gamma, x.shape[-1]), channels("beta", beta, x.shape[-1])
    dtype = common_type(x, *others, gamma, beta)
    eps = number("eps", eps, 0)
    if x.dtype.type is dtype and (gamma is None or gamma.dtype is x.dtype) and (beta is None or beta.dtype is x.dtype):
        return dtype, (x, *others, gamma, beta, eps)
    return dtype, (np.asarray(x, dtype), *others, cast(dtype, gamma), cast(dtype, beta), eps)


def _backward(dy, cache, kind, forward):
    """The check of every backward(dy, cache)."""
    if type(cache).__name__ != kind:
        raise TypeError(f"cache is {type(cache).__name__}; expected the {kind} that {forward} returned")
    dy = same_shape("dy", dy, cache.x.shape, "x")
    dtype = np.complex128 if dy.dtype.type == np.complex128 else cache.x.dtype.type
    return dtype, (np.asarray(dy, dtype), cache)


def standardize_backward(dy, cache):
    return _backward(dy, cache, "StandardizeCache", "standardize")


def batch_norm_backward(dy, cache):
    return _backward(dy, cache, "StandardizeCache", "batch_norm_forward")


def batch_renorm_backward(dy, cache):
    return _backward(dy, cache, "BatchRenormCache", "batch_renorm_forward")


def _transition(transition, noise, c_from):
    transition = array("transition", transition)
    if transition.ndim not in (1, 2) or transition.shape[-1] != c_from:
        raise ValueError(
            f"transition has shape {transition.shape}; expected (C, {c_from}), or ({c_from},) for a diagonal one, "
            f"where the estimate has {c_from} channels"
        )
    return transition, scalar_or_channels("noise", noise, transition.shape[0], 0, np.inf, "a variance, >= 0")


def predict(estimate, transition, noise):
    estimate = moments_pair("estimate", estimate)
    transition, noise = _transition(transition, noise, estimate.mean.shape[-1])
    return widest_type(estimate, transition, noise if noise.ndim or noise.dtype.kind == "c" else None), (
        estimate,
        transition,
        noise,
    )


def predict_backward(dprior, estimate, transition, noise):
    _, (estimate, transition, noise) = predict(estimate, transition, noise)
    dprior = exact_pair("dprior", dprior, estimate.mean.shape[:-1] + transition.shape[:1], "the prior")
    return widest_type(dprior, estimate, transition, noise if noise.ndim or noise.dtype.kind == "c" else None), (
        dprior,
        estimate,
        transition,
        noise,
    )


def batch_norm_forward(x, gamma, beta, eps=1e-5):
    return _affine(samples("x", x), gamma, beta, eps)


def renorm_corrections(moments, running_mean, running_std, r_max, d_max, eps=1e-5):
    pair = moments_pair("moments", moments)
    shape = pair.mean.shape
    mean, std = statistic("running_mean", running_mean, shape), statistic("running_std", running_std, shape)
    within("running_std", std, 0, np.inf, "a standard deviation, >= 0")
    limits = number("r_max", r_max, 1), number("d_max", d_max, 0)
    dtype = common_type(pair, mean, std)
    return dtype, (pair, mean, std, *limits, number("eps", eps, 0))


def batch_renorm_forward(x, gamma, beta, corr_r, corr_d, eps=1e-5):
    x = samples("x", x)
    corrections = _correction("corr_r", corr_r, x), _correction("corr_d", corr_d, x)
    dtype = common_type(x, corrections)
    dtype, (x, gamma, beta, eps) = _affine(np.asarray(x, dtype), gamma, beta, eps)
    return dtype, (x, gamma, beta, *corrections, eps)


def _correction(name, value, x):
    value = scalar_or_array(name, value)
    return value if value.ndim == 0 else statistic(name, value, x.shape[:-2] + x.shape[-1:])


def kalman_norm_forward(x, gamma, beta, prior, gain, eps=1e-5):
    x = samples("x", x)
    if prior is None:
        dtype, (x, gamma, beta, eps) = _affine(x, gamma, beta, eps)
        return dtype, (x, gamma, beta, None, None, eps)
    prior, gain = moments_pair("prior", prior, x.shape[:-2] + x.shape[-1:]), gains(gain, x.shape[-1])
    dtype, (x, prior, gain, gamma, beta, eps) = _affine(x, prior, gain, gamma, beta, eps)
    return dtype, (x, gamma, beta, prior, gain, eps)


def kalman_norm_backward(dy, destimate, cache):
    dtype, (dy, cache) = _backward(dy, cache, "KalmanNormCache", "kalman_norm_forward")
    return _with_estimate(dtype, dy, destimate, cache)


def _with_estimate(dtype, dy, destimate, cache):
    if destimate is not None:
        destimate = exact_pair("destimate", destimate, cache.observed.mean.shape, "the estimate")
        dtype = np.complex128 if common_type(dy, destimate) == np.complex128 else dtype
    return dtype, (np.asarray(dy, dtype), destimate, cache)


def kalman_filter_norm_forward(x, gamma, beta, prior, eps=1e-5):
    dtype, (x, gamma, beta, prior, _, eps) = kalman_norm_forward(x, gamma, beta, prior, 1.0, eps)
    return dtype, (x, gamma, beta, prior, eps)


def kalman_filter_norm_backward(dy, destimate, cache):
    dtype, (dy, cache) = _backward(dy, cache, "KalmanFilterNormCache", "kalman_filter_norm_forward")
    return _with_estimate(dtype, dy, destimate, cache)


def _map(name, x):
    x = array(name, x)
    if x.ndim != 4:
        raise ValueError(f"{name} has shape {x.shape}; expected (N, H, W, C), channels last")
    return x


def conv2d_forward(x, weight, bias, stride, padding):
    x, weight = _map("x", x), array("weight", weight)
    if weight.ndim != 4:
        raise ValueError(f"weight has shape {weight.shape}; expected (kh, kw, C_in, C_out)")
    if weight.shape[2] != x.shape[3]:
        raise ValueError(
            f"x has shape {x.shape}; expected (N, H, W, {weight.shape[2]}), the C_in of weight {weight.shape}"
        )
    stride, padding = whole("stride", stride, 1), pads(padding)
    output_size(x.shape[1:3], weight.shape[:2], stride, padding)
    dtype = common_type(x, weight, None if bias is None else array("bias", bias))
    bias = channels("bias", bias, weight.shape[3])
    return dtype, (np.asarray(x, dtype), np.asarray(weight, dtype), cast(dtype, bias), stride, padding)


def conv2d_backward(dy, cache):
    if type(cache).__name__ != "Conv2dCache":
        raise TypeError(f"cache is {type(cache).__name__}; expected the Conv2dCache that conv2d_forward returned")
    size = output_size(cache.x.shape[1:3], cache.weight.shape[:2], cache.stride, cache.padding)
    dy = same_shape("dy", dy, (cache.x.shape[0], *size, cache.weight.shape[3]), "y")
    dtype = np.complex128 if dy.dtype.type == np.complex128 else cache.x.dtype.type
    return dtype, (np.asarray(dy, dtype), cache)


conv2d_weight_backward = conv2d_backward


def relu_forward(x):
    x = array("x", x)
    return x.dtype.type, (x,)


def relu_backward(dy, y):
    y = array("y", y)
    dy = same_shape("dy", dy, y.shape, "y")
    dtype = common_type(dy, y)
    return dtype, (np.asarray(dy, dtype), np.asarray(y, dtype))


def avg_pool_forward(x, high, wide):
    x, high, wide = _map("x", x), whole("high", high, 1), whole("wide", wide, 1)
    if x.shape[1] % high or x.shape[2] % wide:
        size = high if high == wide else f"{high} x {wide}"
        raise ValueError(
            f"x has shape {x.shape}; expected a height and width that are multiples of the pool size {size}"
        )
    return x.dtype.type, (x, high, wide)


def avg_pool_backward(dy, high, wide):
    dy = _map("dy", dy)
    return dy.dtype.type, (dy, whole("high", high, 1), whole("wide", wide, 1))


def pad_channels_forward(x, before, after):
    x = array("x", x)
    if x.ndim == 0:
        raise ValueError("x has shape (); expected (..., C), channels last")
    return x.dtype.type, (x, whole("before", before, 0), whole("after", after, 0))


def pad_channels_backward(dy, before, after):
    dtype, (dy, before, after) = pad_channels_forward(array("dy", dy), before, after)
    if dy.shape[-1] < before + after:
        raise ValueError(f"dy has shape {dy.shape}; expected at least {before + after} channels")
    return dtype, (dy, before, after)


def add(a, b):
    a = array("a", a)
    b = same_shape("b", b, a.shape, "a")
    dtype = common_type(a, b)
    return dtype, (np.asarray(a, dtype), np.asarray(b, dtype))
