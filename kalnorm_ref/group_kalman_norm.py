"""Group Kalman normalization: fuse each sample's group statistics with a prior, then standardize.

This is the project's own definition: the paper that names the method gives none. A row is one group of channels in one
sample (group_norm.py), and a row is to it what a channel of a statistics batch is to batch Kalman normalization: (B5)
holds with G groups in place of C channels, N samples in place of statistics batches and m = L C/G.

    forward   (xbar, S) = observe(row) ;  (mu, v) = fuse((a, b), (xbar, S), q) ;  y = gamma (x - mu) r + beta
    backward  (B5) on the rows, with g = gamma dy                                                            (B6)

Another public code under this name averages group statistics over time and never looks at the previous layer: do not
expect its results here.
"""

from typing import NamedTuple

import numpy as np

from . import _group_checks
from .backend import twinned
from .group_norm import (
    by_channel,
    by_group,
    observe_rows_backward,
    standardize_rows_backward,
)
from .group_norm import collapse as collapse
from .group_norm import collapse_backward as collapse_backward
from .kalman_norm import KalmanNormCache, kalman_norm_backward, kalman_norm_forward
from .moments import Moments, affine, affine_backward, fuse_backward, per_sample


class GroupKalmanNormCache(NamedTuple):
    """What group_kalman_norm_forward leaves for its backward. Statistics are float64 whatever the type of x."""

    x: np.ndarray  # (N, L, C), the caller's own array
    estimate: Moments  # mu, v: what x was standardized with, each (N, G)
    rstd: np.ndarray  # r = (v + eps)^(-1/2), (N, G)
    gamma: np.ndarray | None  # (C,)
    beta: np.ndarray | None  # (C,)
    observed: Moments  # xbar, S, each (N, G)
    prior: Moments | None  # a, b, each (N, G) or (G,)
    gain: np.ndarray | None  # q, scalar or (G,)


@twinned(_group_checks.group_kalman_norm_forward, cache=True)
def group_kalman_norm_forward(x, gamma, beta, prior, gain, groups, eps=1e-5):
    """Group Kalman normalization with a given prior and gain, in training and inference alike.

    Equations: Kalman normalization of the rows (n, g), then gamma and beta of the channels (B6).
    Shapes: x (N, L, C), L >= 1 positions; gamma, beta (C,) or None; prior Moments each (N, G) or (G,), or None: then
        there is nothing to fuse, gain is ignored and this is group normalization; gain scalar or (G,) in [0, 1];
        groups G divides C; eps >= 0.
    Returns: y (N, L, C), estimate (Moments, each (N, G)) for the next normalizer, cache.
    Raises: ValueError for mismatched shapes, L = 0, negative variance or eps, gain outside [0, 1] or groups that do not
        divide the channels.
    Departs: this project's own definition. The abstract of Wang et al. 2018 (NeurIPS) names group Kalman normalization
        without equations. The one public code of this name keeps a temporal average of group statistics, has no prior
        from the previous layer and no p q delta^2: another method.
    Reference: (B5) on the rows of Wu and He 2018, arXiv 1803.08494.
    """
    x_hat, estimate, cache = kalman_norm_forward(by_group(x, groups), None, None, prior, gain, eps)
    y = affine(by_channel(x_hat, x.shape), gamma, beta)
    return y, estimate, GroupKalmanNormCache(x, estimate, cache.rstd, gamma, beta, *cache[5:])


@twinned(_group_checks.group_kalman_norm_backward)
def group_kalman_norm_backward(dy, destimate, cache):
    """Gradient of group Kalman normalization.

    Equations: (B5) on the rows with g = gamma dy and m = L C/G ; dgamma = sum dy x_hat ; dbeta = sum dy (B6).
    Shapes: dy (N, L, C); destimate Moments each (N, G), or None for zeros (last normalizer of a chain).
    Returns: dx (N, L, C), dgamma, dbeta (C,), dprior (Moments), dgain, each with the shape of its argument and None
        where the argument was None or, for dgain, ignored.
    Raises: ValueError if dy or destimate has the wrong shape.
    Departs: as group_kalman_norm_forward.
    Reference: the chain rule through (B6); group_kalman_norm_backward_staged has the steps.
    """
    x, estimate, rstd, gamma, beta, observed, prior, gain = cache
    rows = by_group(x, rstd.shape[-1])
    x_hat = (rows - per_sample(estimate.mean)) * per_sample(rstd)
    g, dgamma, dbeta = affine_backward(dy, by_channel(x_hat, x.shape), gamma, beta)
    of_rows = KalmanNormCache(rows, estimate, rstd, None, None, observed, prior, gain)
    dx, _, _, dprior, dgain = kalman_norm_backward(by_group(g, rstd.shape[-1]), destimate, of_rows)
    return by_channel(dx, x.shape), dgamma, dbeta, dprior, dgain


def group_kalman_norm_backward_staged(dy, destimate, cache):
    """The same gradient step by step and channel by channel: through standardize, fuse, collapse, then observe."""
    x, estimate, rstd, gamma, beta, _, prior, gain = cache
    dx, dmoments, dgamma, dbeta = standardize_rows_backward(dy, x, estimate, rstd, gamma, beta)
    if destimate is not None:
        dmoments = Moments(dmoments.mean + destimate.mean, dmoments.var + destimate.var)
    dprior, dgain = None, None
    if prior is not None:
        dprior, dmoments, dgain = fuse_backward(dmoments, prior, cache.observed, gain)
    return dx + observe_rows_backward(dmoments, x), dgamma, dbeta, dprior, dgain
