"""Batch renormalization: correct the batch statistics towards the running ones by two constants, r and d.

    forward   z = (x - mu) / s ,  s = (v + eps)^(1/2) ;  y = gamma (z r + d) + beta
              r = clip( s / Sg, 1/r_max, r_max ) ;  d = clip( (mu - M) / Sg, -d_max, d_max )          (B2)
    backward  dx = ( g - mean g - z mean(g z) ) / s ,  g = gamma r dy ;  r and d are constants        (B2)

M and Sg are the running mean and the running standard deviation (which contains eps) before this batch's update.
"""

from typing import NamedTuple

import numpy as np

from . import _checks
from .backend import twinned
from .moments import (
    Moments,
    StandardizeCache,
    affine,
    affine_backward,
    observe,
    observe_backward,
    per_sample,
    samples_mean,
    standardize_backward,
)


class BatchRenormCache(NamedTuple):
    """What batch_renorm_forward leaves for its backward. Statistics are float64 whatever the type of x."""

    x: np.ndarray  # (..., m, C), the caller's own array
    moments: Moments  # of the batch, each (..., C)
    rstd: np.ndarray  # 1/s, (..., C)
    gamma: np.ndarray | None  # (C,)
    beta: np.ndarray | None  # (C,)
    corr_r: np.ndarray  # broadcastable to (..., C)
    corr_d: np.ndarray  # broadcastable to (..., C)


@twinned(_checks.renorm_corrections)
def renorm_corrections(moments, running_mean, running_std, r_max, d_max, eps=1e-5):
    """The two corrections of batch renormalization, to be held constant in the backward.

    Equations: r = clip(s / Sg, 1/r_max, r_max) ; d = clip((mu - M) / Sg, -d_max, d_max) ; s = (var + eps)^(1/2) (B2).
    Shapes: moments each (..., C); running_mean M, running_std Sg (C,), Sg >= 0 and containing eps; r_max >= 1,
        d_max >= 0 numbers.
    Returns: corr_r, corr_d, each (..., C). Of complex input only the real part counts: no derivative passes here.
    Raises: ValueError for mismatched shapes, r_max < 1, d_max < 0, negative variance, running_std or eps.
    Departs: nothing. Elsewhere eps is added to s rather than to the variance, or the variance is averaged, not s.
    Reference: Ioffe 2017, arXiv 1702.03275, Algorithm 1.
    """
    s = np.sqrt(moments.var.real + eps)
    corr_r = np.clip(s / running_std.real, 1 / r_max, r_max)
    corr_d = np.clip((moments.mean.real - running_mean.real) / running_std.real, -d_max, d_max)
    return corr_r, corr_d


@twinned(_checks.batch_renorm_forward, cache=True)
def batch_renorm_forward(x, gamma, beta, corr_r, corr_d, eps=1e-5):
    """Batch renormalization with given corrections.

    Equations: z = (x - mu) / s ; x_hat = z r + d ; y = gamma x_hat + beta (B2). With r = 1, d = 0 this is batch
        normalization; with unclipped corrections it is the inference formula gamma (x - M) / Sg + beta.
    Shapes: x (..., m, C); gamma, beta (C,) or None; corr_r, corr_d scalar, (C,) or (..., C); eps >= 0.
    Returns: y (..., m, C), moments (Moments of the batch, each (..., C)), cache.
    Raises: ValueError for mismatched shapes, m = 0 or negative eps; TypeError for types that are not floating.
    Departs: nothing.
    Reference: Ioffe 2017, arXiv 1702.03275, Algorithm 1.
    """
    moments = observe(x)
    rstd = 1 / np.sqrt(moments.var + eps)
    z = (x - per_sample(moments.mean)) * per_sample(rstd)
    x_hat = z * _rows(corr_r) + _rows(corr_d)
    return affine(x_hat, gamma, beta), moments, BatchRenormCache(x, moments, rstd, gamma, beta, corr_r, corr_d)


@twinned(_checks.batch_renorm_backward)
def batch_renorm_backward(dy, cache):
    """Gradient of batch renormalization, simplified; the corrections are constants.

    Equations: g = gamma r dy ; dx = (g - mean g - z mean(g z)) / s ; dgamma = sum dy (z r + d) ; dbeta = sum dy (B2).
        The projection uses z, not x_hat.
    Shapes: dy (..., m, C).
    Returns: dx (..., m, C), dgamma, dbeta (C,), None where the parameter was None.
    Raises: ValueError if dy and x differ in shape.
    Departs: nothing.
    Reference: Ioffe 2017, arXiv 1702.03275, section 3; batch_renorm_backward_staged has the steps.
    """
    x, moments, rstd, gamma, beta, corr_r, corr_d = cache
    z = (x - per_sample(moments.mean)) * per_sample(rstd)
    dx_hat, dgamma, dbeta = affine_backward(dy, z * _rows(corr_r) + _rows(corr_d), gamma, beta)
    g = dx_hat * _rows(corr_r)
    centred = g - per_sample(samples_mean(g)) - z * per_sample(samples_mean(g * z))
    return centred * per_sample(rstd), dgamma, dbeta


def batch_renorm_backward_staged(dy, cache):
    """The same gradient step by step: through the affine map, the corrections, standardize, then observe."""
    x, moments, rstd, gamma, beta, corr_r, corr_d = cache
    z = (x - per_sample(moments.mean)) * per_sample(rstd)
    dx_hat, dgamma, dbeta = affine_backward(dy, z * _rows(corr_r) + _rows(corr_d), gamma, beta)
    dz = dx_hat * _rows(corr_r)
    dx, dmoments, _, _ = standardize_backward(dz, StandardizeCache(x, moments, rstd, None, None))
    return dx + observe_backward(dmoments, x, moments), dgamma, dbeta


def _rows(correction):
    return per_sample(correction) if np.ndim(correction) else correction
