"""Moments of a Gaussian after a ReLU, a leaky ReLU or dropout, stable in both tails.

t = m/s ,  s = v^(1/2) ,  Q = 1 - Phi(t)
M = E max(z,0)       = m Phi + s phi                                                     (C1)
V = E max(z,0)^2-M^2 = v ( Phi + t^2 Phi Q + t phi (Q - Phi) - phi^2 )                  (C1a, t >= 0)
dM/dm = Phi ;  dM/dv = phi/(2s) ;  dV/dm = 2 M Q ;  dV/dv = Phi - M phi/s                 (C1)
"""

from typing import NamedTuple

import numpy as np
from scipy.special import erfcx

from .. import _transport_checks
from ..backend import checked
from ..moments import Moments

SMALLEST_VAR = 1e-60  # keeps t = m/s and dM/dv = phi/(2s) finite in float32 too where the variance is 0


class Slopes(NamedTuple):
    """Derivatives of the rectified moments (M, V) to the estimate (m, v), each (..., C) (C1)."""

    dmean_dm: np.ndarray
    dmean_dv: np.ndarray
    dvar_dm: np.ndarray
    dvar_dv: np.ndarray


def _rectified(estimate):
    """Everything about max(z, 0), z ~ N(m, v): Phi(t), 1 - Phi(t), phi(t), s, M and V, stable in both tails."""
    m, v = estimate
    s = np.sqrt(np.where(v.real < SMALLEST_VAR, SMALLEST_VAR, v))
    t = m / s
    t = np.where(t.real > 40, 40, np.where(t.real < -40, -40, t))  # phi underflows beyond 38.6: the limits are reached
    positive = t.real >= 0
    x = np.where(positive, t, -t)
    phi = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    mills = np.sqrt(np.pi / 2) * erfcx(x / np.sqrt(2))  # (1 - Phi(x)) / phi(x)
    tail = phi * mills
    cdf, complement = np.where(positive, 1 - tail, tail), np.where(positive, tail, 1 - tail)
    first, second = 1 - x * mills, (x**2 + 1) * mills - x  # M / (s phi) and E2 / (v phi) for t < 0
    far = x.real > 4
    if far.any():
        first, second = np.array(first), np.array(second)
        first[far], second[far] = _far_tail(x[far])
    below = s * phi * first, v * phi * second - (s * phi * first) ** 2
    # sqrt(v) and not s: at v = 0 the mean is max(m, 0) exactly
    above = m * cdf + np.sqrt(v) * phi, v * (cdf + t**2 * cdf * tail + t * phi * (tail - cdf) - phi**2)  # (C1a)
    return cdf, complement, phi, s, *(np.where(positive, a, b) for a, b in zip(above, below, strict=True))


def _far_tail(x):
    """1 - x R(x) and (x^2 + 1) R(x) - x for the Mills ratio R at x > 4, where the differences would cancel.

    They are I_1 and 2 I_2 over phi, with I_n = int_x^inf (u - x)^n / n! phi(u) du. The recurrence
    I_{n-2} = n I_n + x I_{n-1}, from n = 40 down to I_{-1} = phi, has positive terms only (Miller's algorithm).
    """
    following, current = np.zeros_like(x), np.ones_like(x)
    values = {}
    for n in range(40, 0, -1):
        following, current = current, n * following + x * current
        values[n - 2] = current
    return values[1] / values[-1], 2 * values[2] / values[-1]


@checked(_transport_checks.relu)
def relu(estimate):
    """Mean and variance of max(z, 0) for Gaussian z.

    Equations: M = m Phi + s phi ; V = v (Phi + t^2 Phi Q + t phi (Q - Phi) - phi^2), Q = 1 - Phi(t), for t = m/s >= 0;
        for t < 0 through the Mills ratio (C1, C1a). At v = 0: max(m, 0) and 0.
    Shapes: estimate (m, v) each (..., C).
    Returns: Moments (..., C). Exact for a Gaussian; relative error below 1e-12 for t > -37, underflow beyond.
    """
    *_, mean, var = _rectified(estimate)
    return Moments(mean, var)


@checked(_transport_checks.relu_backward)
def relu_backward(doutput, estimate):
    """Gradient of relu: dm = Phi dM + 2 M Q dV ; dv = phi/(2s) dM + (Phi - M phi/s) dV (C1)."""
    cdf, complement, phi, s, mean, _ = _rectified(estimate)
    dmean = doutput.mean * cdf + doutput.var * 2 * mean * complement
    dvar = doutput.mean * phi / (2 * s) + doutput.var * (cdf - mean * phi / s)
    return Moments(dmean, dvar)


@checked(_transport_checks.relu, cache=True)
def relu_and_slopes(estimate):
    """relu, and the Slopes from which relu_from_slopes makes its gradient: a layer keeps them for its backward.

    Equations: dM/dm = Phi ; dM/dv = phi/(2s) ; dV/dm = 2 M Q ; dV/dv = Phi - M phi/s (C1).
    """
    cdf, complement, phi, s, mean, var = _rectified(estimate)
    density = phi / s
    slopes = Slopes(cdf, density / 2, 2 * mean * complement, cdf - mean * density)
    return Moments(mean, var), slopes


@checked(_transport_checks.relu_from_slopes)
def relu_from_slopes(doutput, estimate, slopes):
    """relu_backward, without computing again what relu_and_slopes had of the same estimate (C1)."""
    dmean = slopes.dmean_dm * doutput.mean + slopes.dvar_dm * doutput.var
    dvar = slopes.dmean_dv * doutput.mean + slopes.dvar_dv * doutput.var
    return Moments(dmean, dvar)


@checked(_transport_checks.leaky_relu)
def leaky_relu(estimate, slope):
    """Mean and variance of max(z, 0) + slope min(z, 0) for Gaussian z.

    Equations: mean = a m + (1 - a) M ; var = a^2 v + (1 - a)^2 V + 2 a (1 - a) Cov(z, max(z, 0)), with
        Cov = v Phi(t) (C1, with Stein's lemma in place of second moments, which would cancel).
    Shapes: estimate (m, v) each (..., C); slope a number.
    Returns: Moments (..., C).
    """
    cdf, _, _, _, mean, var = _rectified(estimate)
    a, (m, v) = slope, estimate
    return Moments(a * m + (1 - a) * mean, a**2 * v + (1 - a) ** 2 * var + 2 * a * (1 - a) * v * cdf)


@checked(_transport_checks.leaky_relu_backward)
def leaky_relu_backward(doutput, estimate, slope):
    """Gradient of leaky_relu to the estimate: relu's, and that of v Phi(t).

    Equations: dCov = 2 a (1 - a) dvar ; dm = (a + (1 - a) Phi) dmean + 2 (1 - a)^2 M Q dvar + s phi dCov ;
        dv = (1 - a) phi/(2s) dmean + (a^2 + (1 - a)^2 (Phi - M phi/s)) dvar + (Phi - t phi/2) dCov (C1).
    """
    cdf, complement, phi, s, mean, _ = _rectified(estimate)
    a = slope
    dmean, dvar = doutput
    dcov = 2 * a * (1 - a) * dvar
    dm = dmean * (a + (1 - a) * cdf) + (1 - a) ** 2 * dvar * 2 * mean * complement + dcov * s * phi
    dv = dmean * (1 - a) * phi / (2 * s) + dvar * (a**2 + (1 - a) ** 2 * (cdf - mean * phi / s))
    return Moments(dm, dv + dcov * (cdf - estimate.mean / s * phi / 2))


@checked(_transport_checks.dropout)
def dropout(estimate, keep):
    """Inverted dropout, kept with probability `keep`: the same mean ; var = v/keep + m^2 (1 - keep)/keep (C1)."""
    m, v = estimate
    return Moments(m, v / keep + m**2 * ((1 - keep) / keep))


@checked(_transport_checks.dropout_backward)
def dropout_backward(doutput, estimate, keep):
    """Gradient of dropout to the estimate: dm = dM + 2 m (1 - keep)/keep dV ; dv = dV/keep (C1)."""
    return Moments(
        doutput.mean + doutput.var * 2 * estimate.mean * ((1 - keep) / keep),
        doutput.var / keep,
    )
