"""Group normalization and group Kalman normalization a second time: every row is a list of numbers.

A row holds the values of one group of channels in one sample. As in normalizers.py, nothing is shared with what is
judged, and a backward can plant one `mistake` of those in MISTAKES.
"""

import numpy as np

from .normalizers import scale_and_shift
from .parts import add, at, average, average_product, empty, increase, planter, sqrt, variance, zeros

MISTAKES = {
    "collapse": "between_dropped two_forgotten share_forgotten sign_flipped mean_term_dropped",
    "group_norm": "mean_dropped projection_dropped sign_flipped rstd_forgotten eps_forgotten m_minus_one "
    "gamma_forgotten gamma_in_dgamma positions_for_m interleaved",
    "group_kalman_norm": "cross_term_dropped cross_without_p two_q_forgotten p_for_q gain_mean_dropped "
    "var_path_dropped sign_flipped destimate_ignored positions_for_m eps_forgotten half_forgotten interleaved "
    "gain_of_one_sample",
}


def rows(x, groups, interleaved=False):
    """(sample, group, the indices of the row's values, the values) for every row."""
    n, length, c = x.shape
    wide = c // groups
    for sample, g in np.ndindex(n, groups):
        members = range(g, c, groups) if interleaved else range(g * wide, (g + 1) * wide)
        indices = [(sample, i, k) for i in range(length) for k in members]
        yield sample, g, indices, [x.item(index) for index in indices]


def collapse(moments, groups):
    """All that is known of a group: a mixture of its channels with equal weights."""
    *lead, c = np.shape(moments[0])
    wide, collapsed = c // groups, (empty((*lead, groups), moments[0]), empty((*lead, groups), moments[1]))
    for *batch, g in np.ndindex(*lead, groups):
        means, variances = ([at(t, batch, k) for k in range(g * wide, (g + 1) * wide)] for t in moments)
        second = average([v + m**2 for m, v in zip(means, variances, strict=True)])
        collapsed[0][(*batch, g)], collapsed[1][(*batch, g)] = average(means), second - average(means) ** 2
    return collapsed


def collapse_backward(dmoments, moments, groups, mistake=None):
    fault, gradient = planter(mistake), zeros(moments)
    wide = np.shape(moments[0])[-1] // groups
    share = fault(wide, share_forgotten=1)
    for *batch, g in np.ndindex(np.shape(dmoments[0])):
        dmean, dvar = (at(d, batch, g) for d in dmoments)
        channels = range(g * wide, (g + 1) * wide)
        centre = fault(average([at(moments[0], batch, k) for k in channels]), mean_term_dropped=0.0)
        for k in channels:
            two = fault(2.0, two_forgotten=1.0, between_dropped=0.0, sign_flipped=-2.0)
            between = two * dvar * (at(moments[0], batch, k) - centre)
            increase(gradient[0], (*batch, k), (dmean + between) / share)
            increase(gradient[1], (*batch, k), dvar / share)
    return (gradient,)


def group_norm(x, gamma, beta, groups, eps):
    y, moments = zeros(x), (empty((len(x), groups), x), empty((len(x), groups), x))
    for n, g, indices, values in rows(x, groups):
        mean, var = average(values), variance(values)
        moments[0][n, g], moments[1][n, g] = mean, var
        for index, value in zip(indices, values, strict=True):
            y[index] = scale_and_shift((value - mean) / sqrt(var + eps), gamma, beta, (), index[-1])
    return y, moments


def group_norm_backward(dy, x, gamma, beta, groups, eps, mistake=None):
    fault = planter(mistake)
    dx, dgamma, dbeta = map(zeros, (x, gamma, beta))
    for _, _, indices, values in rows(x, groups, fault(False, interleaved=True)):
        m = fault(len(values), m_minus_one=len(values) - 1, positions_for_m=x.shape[1])
        mean, var = average(values), variance(values, fault(len(values), m_minus_one=m))
        s = sqrt(var + fault(eps, eps_forgotten=0.0))
        hats, dys = [(value - mean) / s for value in values], [dy.item(index) for index in indices]
        scales = [at(gamma, (), index[-1]) for index in indices]
        g = [fault(scale, gamma_forgotten=1.0) * d for scale, d in zip(scales, dys, strict=True)]
        mean_g = fault(average(g, m), mean_dropped=0.0)
        along = average([a * b for a, b in zip(g, hats, strict=True)], m)
        along *= fault(1.0, projection_dropped=0.0, sign_flipped=-1.0)
        for index, gi, hat, d, scale in zip(indices, g, hats, dys, scales, strict=True):
            dx[index] = (gi - mean_g - hat * along) / fault(s, rstd_forgotten=1.0)
            add(dgamma, (), index[-1], fault(1.0, gamma_in_dgamma=scale) * d * hat)
            add(dbeta, (), index[-1], d)
    return dx, dgamma, dbeta


def fused(values, n, g, prior, gain):
    """q, xbar, S, a, b, delta, mu, v of one row; without a prior q = 1 and the prior is the row itself."""
    xbar, s = average(values), variance(values)
    q, a, b = (1.0, xbar, s) if prior is None else (at(t, (n,), g) for t in (gain, *prior))
    p, delta = 1 - q, xbar - a
    return q, xbar, s, a, b, delta, p * a + q * xbar, p * b + q * s + p * q * delta**2


def group_kalman_norm(x, gamma, beta, prior, gain, groups, eps):
    y, estimate = zeros(x), (empty((len(x), groups), x), empty((len(x), groups), x))
    for n, g, indices, values in rows(x, groups):
        *_, mu, v = fused(values, n, g, prior, gain)
        estimate[0][n, g], estimate[1][n, g] = mu, v
        for index, value in zip(indices, values, strict=True):
            y[index] = scale_and_shift((value - mu) / sqrt(v + eps), gamma, beta, (), index[-1])
    return y, estimate


def group_kalman_norm_backward(dy, destimate, x, gamma, beta, prior, gain, groups, eps, mistake=None):
    fault = planter(mistake)
    dx, dgamma, dbeta, dprior = map(zeros, (x, gamma, beta, prior))
    dgain = None if prior is None else zeros(gain)
    above = None if destimate is None else fault(destimate, destimate_ignored=None)
    for n, g, indices, values in rows(x, groups, fault(False, interleaved=True)):
        q, xbar, s, _, b, delta, mu, v = fused(values, n, g, prior, gain)
        p, m = 1 - q, len(values)
        r = 1 / sqrt(v + fault(eps, eps_forgotten=0.0))
        hats, dys = [(value - mu) * r for value in values], [dy.item(index) for index in indices]
        gs = [at(gamma, (), index[-1]) * d for index, d in zip(indices, dys, strict=True)]
        dmu, dv = (0.0, 0.0) if above is None else (at(t, (n,), g) for t in above)
        dmu -= r * sum(gs)
        dv -= fault(0.5, half_forgotten=1.0) * r**2 * m * average_product(gs, hats)
        ddelta = q * dmu + fault(2 * p * q, cross_term_dropped=0.0, cross_without_p=2 * q) * dv * delta
        width = fault(m, positions_for_m=x.shape[1])
        for index, value, gi, hat, d in zip(indices, values, gs, hats, dys, strict=True):
            spread = fault(2 * q * dv, var_path_dropped=0.0) * (value - xbar)
            dx[index] = r * gi + (ddelta + spread) / width
            add(dgamma, (), index[-1], d * hat)
            add(dbeta, (), index[-1], d)
        if prior is not None:
            add(dprior[0], (n,), g, fault(dmu - ddelta, sign_flipped=dmu + ddelta))
            add(dprior[1], (n,), g, fault(p, p_for_q=q) * dv)
            of_gain = fault(dmu, gain_mean_dropped=0.0) * delta
            of_gain += dv * (s - b + fault(1 - 2 * q, two_q_forgotten=1.0) * delta**2)
            add(dgain, (n,), g, fault(of_gain, gain_of_one_sample=of_gain * (n == 0)))
    return dx, dgamma, dbeta, dprior, dgain
