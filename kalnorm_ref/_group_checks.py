"""Argument checks of the group forms, in the manner of _checks: one a function, with that function's signature."""

import numpy as np

from . import _checks
from ._arguments import (
    array,
    common_type,
    exact_pair,
    moments_pair,
    scalar_or_array,
    whole,
    widest_type,
    within,
)


def divisor(groups, c):
    """The number of groups, which divides the number of channels."""
    groups = whole("groups", groups, 1)
    if c == 0 or c % groups:
        raise ValueError(f"groups is {groups}; expected a divisor of the number of channels, {c}")
    return groups


def _positions(x):
    x = array("x", x)
    if x.ndim != 3:
        raise ValueError(f"x has shape {x.shape}; expected (N, L, C): samples, positions, channels last")
    if x.shape[1] == 0:
        raise ValueError(f"x has shape {x.shape}, no position (L = 0); expected (N, L, C) with L >= 1")
    return x


def collapse(moments, groups):
    moments = moments_pair("moments", moments)
    return widest_type(moments), (moments, divisor(groups, moments.mean.shape[-1]))


def collapse_backward(dmoments, moments, groups):
    _, (moments, groups) = collapse(moments, groups)
    dmoments = exact_pair("dmoments", dmoments, (*moments.mean.shape[:-1], groups), "the groups' moments")
    return widest_type(dmoments, moments), (dmoments, moments, groups)


def group_norm_forward(x, gamma, beta, groups, eps=1e-5):
    x = _positions(x)
    groups = divisor(groups, x.shape[-1])
    dtype, (x, gamma, beta, eps) = _checks.batch_norm_forward(x, gamma, beta, eps)
    return dtype, (x, gamma, beta, groups, eps)


def group_norm_backward(dy, cache):
    return _checks._backward(dy, cache, "GroupNormCache", "group_norm_forward")


def group_kalman_norm_forward(x, gamma, beta, prior, gain, groups, eps=1e-5):
    x = _positions(x)
    groups = divisor(groups, x.shape[-1])
    if prior is None:
        gain = None
    else:
        prior, gain = moments_pair("prior", prior, (len(x), groups)), _gains(gain, groups)
        x = np.asarray(x, common_type(x, prior, gain))
    dtype, (x, gamma, beta, eps) = _checks.batch_norm_forward(x, gamma, beta, eps)
    return dtype, (x, gamma, beta, prior, gain, groups, eps)


def _gains(gain, groups):
    gain = scalar_or_array("gain", gain)
    if gain.shape not in ((), (groups,)):
        raise ValueError(f"gain has shape {gain.shape}; expected a scalar or ({groups},), one value per group")
    within("gain", gain, 0, 1, "values in [0, 1]")
    return gain


def group_kalman_norm_backward(dy, destimate, cache):
    dtype, (dy, cache) = _checks._backward(dy, cache, "GroupKalmanNormCache", "group_kalman_norm_forward")
    if destimate is not None:
        destimate = exact_pair("destimate", destimate, cache.observed.mean.shape, "the estimate")
        dtype = np.complex128 if common_type(dy, destimate) == np.complex128 else dtype
    return dtype, (np.asarray(dy, dtype), destimate, cache)
