"""Moments of several statistics batches taken together, as those of the mixture of their Gaussians (C6)."""

import numpy as np

from .. import _transport_checks
from ..backend import checked
from ..moments import Moments


@checked(_transport_checks.mixture)
def mixture(estimate, size):
    """Mean and variance of the mixture, in equal parts, of each `size` consecutive rows.

    Equations: mean = 1/k sum_i mu_i ; var = 1/k sum_i (v_i + (mu_i - mean)^2) , k = size rows, the last mixture the
        rows that are left (C6, the law of total variance). It is exact, and no Gaussian.
    Shapes: estimate (..., n, C), n > 0 -> Moments (..., ceil(n / size), C).
    """
    starts, counts = _parts(estimate, size)
    mean = np.add.reduceat(estimate.mean, starts, axis=-2) / counts
    between = (estimate.mean - np.repeat(mean, counts.ravel(), axis=-2)) ** 2
    return Moments(mean, np.add.reduceat(estimate.var + between, starts, axis=-2) / counts)


@checked(_transport_checks.mixture_backward)
def mixture_backward(doutput, estimate, size):
    """Gradient of mixture to the estimate: dmu_i = (dmean + 2 (mu_i - mean) dvar) / k ; dv_i = dvar / k (C6)."""
    starts, counts = _parts(estimate, size)
    whole = np.add.reduceat(estimate.mean, starts, axis=-2) / counts
    mean, dmean, dv = (
        np.repeat(a, counts.ravel(), axis=-2) for a in (whole, doutput.mean / counts, doutput.var / counts)
    )
    dmu = dmean + 2 * (estimate.mean - mean) * dv
    return Moments(dmu, dv)


def _parts(estimate, size):
    """Where each mixture starts, and its number of rows as a column."""
    n = estimate.mean.shape[-2]
    starts = np.arange(0, n, size)
    return starts, np.diff(starts, append=n)[:, None]
