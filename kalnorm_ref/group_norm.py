"""Group normalization: batch normalization of rows, where a row is one group of channels in one sample.

x (N, L, C): N samples, L positions, C channels in G groups of consecutive ones; a row (n, g) has m = L C/G values.

forward   mu = mean x ;  v = mean (x - mu)^2 ;  y = gamma (x - mu) r + beta ,  r = (v + eps)^(-1/2)
backward  dx = r ( g - mean g - x_hat mean(g x_hat) ) ,  g = gamma dy ,  means over the row                  (B6)

gamma and beta belong to channels. One group is layer normalization; a group per channel is instance normalization.
"""

from typing import NamedTuple

import numpy as np

from . import _group_checks
from .backend import checked, twinned
from .batch_norm import batch_norm_backward, batch_norm_forward
from .moments import (
    Moments,
    StandardizeCache,
    affine,
    affine_backward,
    observe,
    observe_backward,
    per_sample,
    standardize_backward,
)


class GroupNormCache(NamedTuple):
    """What group_norm_forward leaves for its backward. Statistics are float64 whatever the type of x."""

    x: np.ndarray  # (N, L, C), the caller's own array
    moments: Moments  # mu, v of the rows, each (N, G)
    rstd: np.ndarray  # r = (v + eps)^(-1/2), (N, G)
    gamma: np.ndarray | None  # (C,)
    beta: np.ndarray | None  # (C,)


def by_group(x, groups):
    """(N, L, C) -> (N, m, G): the m values of a row stand where the samples of a channel stand elsewhere."""
    n, length, c = x.shape
    return np.swapaxes(x.reshape(n, length, groups, c // groups), -1, -2).reshape(n, length * c // groups, groups)


def by_channel(rows, shape):
    """The inverse of by_group, back to `shape` = (N, L, C)."""
    n, length, c = shape
    groups = rows.shape[-1]
    return np.swapaxes(rows.reshape(n, length, c // groups, groups), -1, -2).reshape(shape)


def per_channel(statistic, c):
    """Repeat a statistic (..., G) for each channel of its group: (..., C)."""
    return np.repeat(statistic, c // statistic.shape[-1], axis=-1)


def over_group(values, groups):
    """Values (..., C) as (..., G, C/G): a group's channels on an axis of their own."""
    return values.reshape(*values.shape[:-1], groups, values.shape[-1] // groups)


@checked(_group_checks.collapse)
def collapse(moments, groups):
    """Moments of groups from those of their channels, by total variance.

    Equations: mean_g = mean_c mu_c ; var_g = mean_c (v_c + (mu_c - mean_g)^2), over the channels c of group g (B6).
    Shapes: moments each (..., C); groups G divides C.
    Returns: Moments, each (..., G): those of all values together where each channel has equally many.
    Raises: ValueError for a negative variance, mismatched shapes or groups that do not divide the channels.
    Departs: nothing.
    Reference: the law of total variance.
    """
    mean, var = (over_group(s, groups) for s in moments)
    centre = mean.mean(axis=-1)
    return Moments(centre, (var + (mean - centre[..., None]) ** 2).mean(axis=-1))


@checked(_group_checks.collapse_backward)
def collapse_backward(dmoments, moments, groups):
    """Gradient of collapse to the channels' moments.

    Equations: dmu_c = (dmean_g + 2 dvar_g (mu_c - mean_g)) G/C ; dv_c = dvar_g G/C (B6).
    Shapes: dmoments (mean, var) each (..., G); the rest as in collapse.
    Returns: Moments, each (..., C).
    Raises: as collapse.
    Departs: nothing.
    Reference: derived; the mean inside var_g adds nothing, since sum_c (mu_c - mean_g) = 0.
    """
    c = moments.mean.shape[-1]
    share = groups / c
    away = moments.mean - per_channel(collapse(moments, groups).mean, c)
    dmean, dvar = (per_channel(d, c) * share for d in dmoments)
    return Moments(dmean + 2 * dvar * away, dvar)


@twinned(_group_checks.group_norm_forward, cache=True)
def group_norm_forward(x, gamma, beta, groups, eps=1e-5):
    """Group normalization: every sample with statistics of its own, in training and inference alike.

    Equations: batch normalization of the rows (n, g), then gamma and beta of the channels (B6).
    Shapes: x (N, L, C), L >= 1 positions; gamma, beta (C,) or None; groups G divides C; eps >= 0.
    Returns: y (N, L, C), moments (Moments, each (N, G), biased), cache.
    Raises: ValueError for mismatched shapes, L = 0, negative eps or groups that do not divide the channels; TypeError
        for types that are not floating.
    Departs: nothing.
    Reference: Wu and He 2018, arXiv 1803.08494; one group: Ba et al. 2016, arXiv 1607.06450; a group per channel:
        Ulyanov et al. 2016, arXiv 1607.08022.

    >>> import numpy as np, kalnorm_ref as kr
    >>> y, moments, cache = kr.group_norm_forward(np.array([[[1.0, 3.0, 5.0, 5.0]]]), None, None, groups=2, eps=0.25)
    >>> moments.mean.tolist(), moments.var.tolist()
    ([[2.0, 5.0]], [[1.0, 0.0]])
    """
    x_hat, moments, cache = batch_norm_forward(by_group(x, groups), None, None, eps)
    y = affine(by_channel(x_hat, x.shape), gamma, beta)
    return y, moments, GroupNormCache(x, moments, cache.rstd, gamma, beta)


@twinned(_group_checks.group_norm_backward)
def group_norm_backward(dy, cache):
    """Gradient of group normalization, simplified.

    Equations: g = gamma dy ; dx = r (g - mean g - x_hat mean(g x_hat)) over each row ; dgamma = sum dy x_hat ;
        dbeta = sum dy, over samples and positions (B6).
    Shapes: dy (N, L, C).
    Returns: dx (N, L, C), dgamma, dbeta (C,), None where the parameter was None.
    Raises: ValueError if dy and x differ in shape.
    Departs: nothing.
    Reference: the chain rule through (B6); group_norm_backward_staged has the steps.
    """
    x, moments, rstd, gamma, beta = cache
    rows = by_group(x, moments.mean.shape[-1])
    x_hat = (rows - per_sample(moments.mean)) * per_sample(rstd)
    g, dgamma, dbeta = affine_backward(dy, by_channel(x_hat, x.shape), gamma, beta)
    of_rows = StandardizeCache(rows, moments, rstd, None, None)
    dx, _, _ = batch_norm_backward(by_group(g, moments.mean.shape[-1]), of_rows)
    return by_channel(dx, x.shape), dgamma, dbeta


def group_norm_backward_staged(dy, cache):
    """The same gradient by another way: the rows' moments are the channels' own, collapsed; step by step."""
    x, moments, rstd, gamma, beta = cache
    dx, dmoments, dgamma, dbeta = standardize_rows_backward(dy, x, moments, rstd, gamma, beta)
    return dx + observe_rows_backward(dmoments, x), dgamma, dbeta


def standardize_rows_backward(dy, x, moments, rstd, gamma, beta):
    """standardize_backward of each channel with its group's statistics; the gradients to them, each (N, G)."""
    c, groups = x.shape[-1], rstd.shape[-1]
    of_channels = Moments(*(per_channel(s, c) for s in moments))
    cache = StandardizeCache(x, of_channels, per_channel(rstd, c), gamma, beta)
    dx, dmoments, dgamma, dbeta = standardize_backward(dy, cache)
    return dx, Moments(*(over_group(d, groups).sum(axis=-1) for d in dmoments)), dgamma, dbeta


def observe_rows_backward(dmoments, x):
    """Through collapse, then through observe: what the rows' moments send to x."""
    of_channels = observe(x)
    return observe_backward(collapse_backward(dmoments, of_channels, dmoments.mean.shape[-1]), x, of_channels)
