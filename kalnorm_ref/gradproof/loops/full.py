"""The full covariance and its noise a second time, one number at a time.

Covariances are taken apart into products of two numbers, each of which sends its gradient to both factors; the package
has matrix products instead. As in normalizers.py, nothing is shared with what is judged, and a backward can plant one
`mistake` of those in MISTAKES.
"""

from itertools import product

import numpy as np

from .normalizers import scale_and_shift
from .parts import add, at, average, empty, exp, increase, planter, sqrt, zeros

MISTAKES = {
    "predict": "transposed second_factor_dropped mean_part_dropped off_diagonal_dropped sandwich_transposed "
    "noise_transposed",
    "kalman_norm": "transposed off_diagonal_dropped cross_term_dropped cross_without_p two_q_forgotten p_for_q "
    "gain_mean_dropped cov_path_dropped sign_flipped dmean_ignored dcov_ignored m_minus_one eps_forgotten "
    "half_forgotten",
    "scalar_noise": "exp_forgotten sum_for_trace",
    "diagonal_noise": "exp_forgotten row_sums",
    "cholesky_noise": "transposed two_forgotten upper_kept upper_used",
}


def predict(mean, cov, transition, noise_cov):
    (c, c_from), lead = transition.shape, mean.shape[:-1]
    new_mean, new_cov = empty((*lead, c), mean), empty((*lead, c, c), cov)
    for batch in np.ndindex(lead):
        for i, k in np.ndindex(c, c_from):
            increase(new_mean, (*batch, i), transition.item((i, k)) * mean.item((*batch, k)))
        for i, j in np.ndindex(c, c):
            new_cov[(*batch, i, j)] = noise_cov.item((i, j))
            for k, n in np.ndindex(c_from, c_from):
                both = transition.item((i, k)) * cov.item((*batch, k, n)) * transition.item((j, n))
                increase(new_cov, (*batch, i, j), both)
    return new_mean, new_cov


def predict_backward(dmean, dcov, mean, cov, transition, noise_cov, mistake=None):
    fault, a = planter(mistake), transition
    dmean_in, dcov_in, dtransition, dnoise = map(zeros, (mean, cov, transition, noise_cov))
    c, c_from = a.shape
    for batch in np.ndindex(mean.shape[:-1]):
        for i, k in np.ndindex(c, c_from):
            d = dmean.item((*batch, i))
            increase(dmean_in, (*batch, k), d * a.item((i, k)))
            increase(dtransition, (i, k), fault(d, mean_part_dropped=0.0) * mean.item((*batch, k)))
        for i, j in np.ndindex(c, c):
            whole = dcov.item((*batch, i, j))
            d = whole * fault(1.0, off_diagonal_dropped=float(i == j))
            increase(dnoise, fault((i, j), noise_transposed=(j, i)), whole)
            for k, n in np.ndindex(c_from, c_from):
                v, left, right = (
                    cov.item(fault((*batch, k, n), transposed=(*batch, n, k))),
                    a.item((i, k)),
                    a.item((j, n)),
                )
                increase(dtransition, (i, k), d * v * right)
                increase(dtransition, (j, n), fault(d, second_factor_dropped=0.0) * left * v)
                increase(dcov_in, fault((*batch, k, n), sandwich_transposed=(*batch, n, k)), d * left * right)
    return dmean_in, dcov_in, dtransition, dnoise


def entry(matrix, batch, i, j, default=0.0):
    """Element (i, j) of the matrix for `batch`, where one matrix may stand for several batches."""
    return at(matrix, (*batch, i), j, default)


def fused(x, batch, prior_mean, prior_cov, gain):
    """q, xbar, S, B, delta, mu, Sigma of one statistics batch, as lists; without a prior q = 1, a = xbar, B = S."""
    channels = range(x.shape[-1])
    rows = [[x.item((*batch, i, j)) for j in channels] for i in range(x.shape[-2])]
    xbar = [average([row[j] for row in rows]) for j in channels]
    s = [[average([(row[j] - xbar[j]) * (row[k] - xbar[k]) for row in rows]) for k in channels] for j in channels]
    q, a, b = 1.0, xbar, s
    if prior_mean is not None:
        q, a = at(gain, (), 0), [at(prior_mean, batch, j) for j in channels]
        b = [[entry(prior_cov, batch, j, k) for k in channels] for j in channels]
    p, delta = 1 - q, [xbar[j] - a[j] for j in channels]
    mu = [p * a[j] + q * xbar[j] for j in channels]
    cov = [[p * b[j][k] + q * s[j][k] + p * q * delta[j] * delta[k] for k in channels] for j in channels]
    return q, xbar, s, b, delta, mu, cov


def kalman_norm(x, gamma, beta, prior_mean, prior_cov, gain, eps):
    lead, c = x.shape[:-2], x.shape[-1]
    y, mean, cov = zeros(x), empty((*lead, c), x), empty((*lead, c, c), x)
    for batch in np.ndindex(lead):
        *_, mu, sigma = fused(x, batch, prior_mean, prior_cov, gain)
        for j in range(c):
            mean[(*batch, j)] = mu[j]
            r = 1 / sqrt(sigma[j][j] + eps)
            for k in range(c):
                cov[(*batch, j, k)] = sigma[j][k]
            for i in range(x.shape[-2]):
                y[(*batch, i, j)] = scale_and_shift((x.item((*batch, i, j)) - mu[j]) * r, gamma, beta, batch, j)
    return y, mean, cov


def kalman_norm_backward(dy, dmean, dcov, x, gamma, beta, prior_mean, prior_cov, gain, eps, mistake=None):
    fault = planter(mistake)
    dx, dgamma, dbeta, da, db = map(zeros, (x, gamma, beta, prior_mean, prior_cov))
    dgain = None if prior_mean is None else zeros(gain)
    dmean, dcov = fault(dmean, dmean_ignored=None), fault(dcov, dcov_ignored=None)
    m, c = x.shape[-2:]
    width = fault(m, m_minus_one=m - 1)
    for batch in np.ndindex(x.shape[:-2]):
        q, xbar, s, b, delta, mu, cov = fused(x, batch, prior_mean, prior_cov, gain)
        p, ddelta, dmu = 1 - q, [0.0] * c, [at(dmean, batch, j, default=0.0) for j in range(c)]
        u = [[entry(dcov, batch, j, k) for k in range(c)] for j in range(c)]
        for i, j in np.ndindex(m, c):
            r = 1 / sqrt(cov[j][j] + fault(eps, eps_forgotten=0.0))
            d, x_hat = dy.item((*batch, i, j)), (x.item((*batch, i, j)) - mu[j]) * r
            g = at(gamma, batch, j) * d
            dmu[j] -= r * g
            u[j][j] -= fault(0.5, half_forgotten=1.0) * r**2 * g * x_hat
            increase(dx, (*batch, i, j), r * g)
            add(dgamma, batch, j, d * x_hat)
            add(dbeta, batch, j, d)
        for j in range(c):  # mu = a + q delta
            ddelta[j] += q * dmu[j]
            add(dgain, batch, j, fault(dmu[j], gain_mean_dropped=0.0) * delta[j])
        for j, k in np.ndindex(c, c):  # each element of Sigma is a sum of products of two numbers
            d = u[j][k] * fault(1.0, off_diagonal_dropped=float(j == k))
            add(db, (*batch, j), k, fault(p, p_for_q=q) * d)
            cross = fault(p * q, cross_term_dropped=0.0, cross_without_p=q) * d
            ddelta[j] += cross * delta[k]
            ddelta[k] += fault(cross * delta[j], transposed=0.0)
            square = fault(1 - 2 * q, two_q_forgotten=1.0) * delta[j] * delta[k]
            add(dgain, batch, j, d * (s[j][k] - b[j][k] + square))
            for i in range(m):
                share = fault(q, cov_path_dropped=0.0) / width * d
                increase(dx, (*batch, i, j), share * (x.item((*batch, i, k)) - xbar[k]))
                increase(dx, (*batch, i, k), share * (x.item((*batch, i, j)) - xbar[j]))
        for j in range(c):
            add(da, batch, j, fault(dmu[j] - ddelta[j], sign_flipped=dmu[j] + ddelta[j]))
            for i in range(m):
                increase(dx, (*batch, i, j), ddelta[j] / width)
    return dx, dgamma, dbeta, da, db, dgain


def scalar_noise(log_noise, channels):
    rho = exp(at(log_noise, (), 0))
    return np.array([[rho if i == j else 0 * rho for j in range(channels)] for i in range(channels)])


def scalar_noise_backward(dnoise_cov, log_noise, channels, mistake=None):
    fault, pairs = planter(mistake), product(range(channels), repeat=2)
    total = sum(dnoise_cov.item((i, j)) for i, j in pairs if fault(i == j, sum_for_trace=True))
    return (np.asarray(fault(exp(at(log_noise, (), 0)), exp_forgotten=1.0) * total),)


def diagonal_noise(log_noise):
    rho = [exp(log_noise.item(i)) for i in range(len(log_noise))]
    return np.array([[rho[i] if i == j else 0 * rho[i] for j in range(len(rho))] for i in range(len(rho))])


def diagonal_noise_backward(dnoise_cov, log_noise, mistake=None):
    fault, dw, channels = planter(mistake), zeros(log_noise), range(len(log_noise))
    for i in channels:
        d = fault(dnoise_cov.item((i, i)), row_sums=sum(dnoise_cov.item((i, j)) for j in channels))
        dw[i] = fault(exp(log_noise.item(i)), exp_forgotten=1.0) * d
    return (dw,)


def lower(factor, i, k, whole=False):
    """Element (i, k) of the lower triangle; of the whole matrix if `whole`."""
    return factor.item((i, k)) if k <= i or whole else 0.0


def cholesky_noise(factor):
    noise = zeros(factor)
    for i, j in np.ndindex(noise.shape):
        noise[i, j] = sum(lower(factor, i, k) * lower(factor, j, k) for k in range(len(factor)))
    return noise


def cholesky_noise_backward(dnoise_cov, factor, mistake=None):
    fault, dfactor, c = planter(mistake), zeros(factor), len(factor)
    used = fault(False, upper_used=True)
    kept = used or fault(False, upper_kept=True)
    for i, j, k in np.ndindex(c, c, c):
        d = fault(dnoise_cov.item((i, j)), two_forgotten=dnoise_cov.item((i, j)) / 2)
        if k <= i or kept:
            increase(dfactor, (i, k), d * lower(factor, j, k, used))
        if k <= j or kept:
            increase(dfactor, (j, k), fault(d, transposed=dnoise_cov.item((j, i))) * lower(factor, i, k, used))
    return (dfactor,)
