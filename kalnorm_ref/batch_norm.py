"""Batch normalization: standardize with the statistics of the batch itself.

forward   mu = mean x ;  v = mean (x - mu)^2 ;  y = gamma (x - mu) r + beta ,  r = (v + eps)^(-1/2)
backward  dx = r ( g - mean g - x_hat mean(g x_hat) ) ,  g = gamma dy                             (B1)
"""

from . import _checks
from .backend import twinned
from .moments import (
    affine_backward,
    observe,
    observe_backward,
    per_sample,
    samples_mean,
    standardize,
    standardize_backward,
)


@twinned(_checks.batch_norm_forward, cache=True)
def batch_norm_forward(x, gamma, beta, eps=1e-5):
    """Batch normalization with batch statistics.

    Equations: y = standardize(x, observe(x), gamma, beta, eps) (B1).
    Shapes: x (..., m, C), each leading index a statistics batch of its own; gamma, beta (C,) or None; eps >= 0.
    Returns: y (..., m, C), moments (Moments, each (..., C), biased), cache.
    Raises: ValueError for mismatched shapes, m = 0 or negative eps; TypeError for types that are not floating.
    Departs: one value per channel (m = 1) is not refused: x_hat is 0 and y = beta.
    Reference: Ioffe and Szegedy 2015, arXiv 1502.03167, Algorithm 1.

    >>> import numpy as np, kalnorm_ref as kr
    >>> y, moments, cache = kr.batch_norm_forward(np.array([[1.0], [3.0]]), None, None, eps=0.0)
    >>> y.ravel().tolist(), moments.mean.tolist(), moments.var.tolist()
    ([-1.0, 1.0], [2.0], [1.0])
    """
    moments = observe(x)
    y, cache = standardize(x, moments, gamma, beta, eps)
    return y, moments, cache


@twinned(_checks.batch_norm_backward)
def batch_norm_backward(dy, cache):
    """Gradient of batch normalization, simplified.

    Equations: g = gamma dy ; dx = r (g - mean g - x_hat mean(g x_hat)) ; dgamma = sum dy x_hat ; dbeta = sum dy (B1).
    Shapes: dy (..., m, C).
    Returns: dx (..., m, C), dgamma, dbeta (C,), None where the parameter was None.
    Raises: ValueError if dy and x differ in shape.
    Departs: nothing.
    Reference: Ioffe and Szegedy 2015, arXiv 1502.03167, section 3, simplified; steps in batch_norm_backward_staged.
    """
    x, moments, rstd, gamma, beta = cache
    x_hat = (x - per_sample(moments.mean)) * per_sample(rstd)
    g, dgamma, dbeta = affine_backward(dy, x_hat, gamma, beta)
    centred = g - per_sample(samples_mean(g)) - x_hat * per_sample(samples_mean(g * x_hat))
    return centred * per_sample(rstd), dgamma, dbeta


def batch_norm_backward_staged(dy, cache):
    """The same gradient step by step along the chain rule: through standardize, then through observe."""
    dx, dmoments, dgamma, dbeta = standardize_backward(dy, cache)
    return dx + observe_backward(dmoments, cache.x, cache.moments), dgamma, dbeta
