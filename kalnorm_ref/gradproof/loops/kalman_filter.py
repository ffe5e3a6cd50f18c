"""The filter on the mean a second time: v is the mean square about mu, and the gain passes its own gradient on.

As in normalizers.py, nothing is shared with what is judged, and a backward can plant one `mistake` of those in
MISTAKES.
"""

from .normalizers import empty_statistics, scale_and_shift
from .parts import add, at, average, average_product, columns, planter, sqrt, variance, zeros

MISTAKES = {
    "kalman_filter_norm": "gain_held_constant gain_sign_flipped mu_ignored_in_v posterior_ignored var_ignored_in_noise "
    "per_sample_forgotten posterior_of_gain_dropped total_once destimate_ignored m_minus_one eps_forgotten "
    "half_forgotten",
}


def filtered(xs, batch, c, prior):
    """The textbook's K, mu, P+ from one column of samples; without a prior K = 1."""
    xbar, noise = average(xs), variance(xs) / len(xs)
    if prior is None:
        return 1.0, xbar, noise
    a, p = (at(t, batch, c) for t in prior)
    gain = p / (p + noise) if p else 0.0
    return gain, a + gain * (xbar - a), (1 - gain) * p


def kalman_filter_norm(x, gamma, beta, prior, eps):
    y, estimate = zeros(x), empty_statistics(x)
    for batch, c, xs in columns(x):
        _, mu, posterior = filtered(xs, batch, c, prior)
        v = average([(value - mu) ** 2 for value in xs])
        for i, value in enumerate(xs):
            y[(*batch, i, c)] = scale_and_shift((value - mu) / sqrt(v + eps), gamma, beta, batch, c)
        add(estimate[0], batch, c, mu)
        add(estimate[1], batch, c, posterior)
    return y, estimate


def kalman_filter_norm_backward(dy, destimate, x, gamma, beta, prior, eps, mistake=None):
    fault = planter(mistake)
    dx, dgamma, dbeta, dprior = map(zeros, (x, gamma, beta, prior))
    above = None if destimate is None else fault(destimate, destimate_ignored=None)
    for batch, c, xs, dys in columns(x, dy):
        m, xbar, noise = len(xs), average(xs), variance(xs) / len(xs)
        gain, mu, _ = filtered(xs, batch, c, prior)
        v = average([(value - mu) ** 2 for value in xs])
        r = 1 / sqrt(v + fault(eps, eps_forgotten=0.0))
        hats, g = [(value - mu) * r for value in xs], [at(gamma, batch, c) * d for d in dys]
        dmu, dposterior = (0.0, 0.0) if above is None else (at(t, batch, c) for t in above)
        dposterior = fault(dposterior, posterior_ignored=0.0)
        dv = -fault(0.5, half_forgotten=1.0) * r**2 * m * average_product(g, hats)
        dmu -= r * sum(g) + fault(2 * dv, mu_ignored_in_v=0.0) * (xbar - mu)  # v = mean (x - mu)^2
        if prior is None:
            dnoise = dposterior
        else:
            a, p = (at(t, batch, c) for t in prior)
            dgain = dmu * (xbar - a) - fault(dposterior, posterior_of_gain_dropped=0.0) * p
            dgain *= fault(1.0, gain_held_constant=0.0, gain_sign_flipped=-1.0)
            total = fault((p + noise) ** 2, total_once=p + noise)
            add(dprior[0], batch, c, (1 - gain) * dmu)
            add(dprior[1], batch, c, (1 - gain) * dposterior + dgain * noise / total)
            dnoise = -dgain * p / total
        ds = fault(dnoise, var_ignored_in_noise=0.0) / fault(m, per_sample_forgotten=1)
        width = fault(m, m_minus_one=m - 1)
        for i, value in enumerate(xs):
            through = gain * dmu + 2 * dv * (value - mu) + 2 * ds * (value - xbar)
            dx[(*batch, i, c)] = r * g[i] + through / width
            add(dgamma, batch, c, dys[i] * hats[i])
            add(dbeta, batch, c, dys[i])
    return dx, dgamma, dbeta, dprior
