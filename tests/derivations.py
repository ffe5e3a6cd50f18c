"""The mathematics a second time, as plain loops over batches, channels and samples, to hold the package against.

Every function follows its equations one number at a time and shares no code with the package; arrays only store.
A backward takes the arguments of its forward, not a cache, and can plant one `mistake` of those listed in MISTAKES:
`fault(right, name=wrong)` is `wrong` when that name is planted. The tests show that a check rejects each of them.
"""

import math

import numpy as np

MISTAKES = {
    "observe": "m_minus_one mean_term_dropped sign_flipped two_forgotten",
    "fuse": "cross_term_dropped cross_without_p two_q_forgotten p_for_q gain_mean_dropped sign_flipped",
    "standardize": "rstd_forgotten eps_forgotten half_forgotten rstd_once sign_flipped gamma_forgotten",
    "predict": "square_forgotten two_forgotten mean_part_dropped var_part_dropped noise_from_mean",
    "batch_norm": "mean_dropped projection_dropped sign_flipped rstd_forgotten eps_forgotten m_minus_one "
    "gamma_forgotten gamma_in_dgamma",
    "batch_renorm": "mean_dropped projection_dropped sign_flipped rstd_forgotten eps_forgotten m_minus_one "
    "x_hat_projector r_forgotten d_missing_in_dgamma",
    "kalman_norm": "cross_term_dropped cross_without_p two_q_forgotten p_for_q gain_mean_dropped var_path_dropped "
    "sign_flipped destimate_ignored m_minus_one eps_forgotten half_forgotten",
}


def planter(mistake):
    """`fault(right, name=wrong, ...)`, which is right unless one of its names is the mistake."""
    return lambda right, **wrong: wrong.get(mistake, right)


def place(array, batch, channel):
    """Where the value for (batch, channel) stands in an array that broadcasts to (..., C)."""
    index = (*batch, channel)[len(batch) + 1 - array.ndim :]
    return tuple(0 if n == 1 else i for i, n in zip(index, array.shape, strict=True))


def at(value, batch, channel, default=1.0):
    """The value of a parameter or statistic for (batch, channel); `default` for None."""
    if value is None:
        return default
    array = np.asarray(value)
    return float(array[place(array, batch, channel)])


def add(gradient, batch, channel, amount):
    """gradient += amount, where (batch, channel) stands in it; nothing for None."""
    if gradient is not None:
        gradient[place(gradient, batch, channel)] += amount


def zeros(like):
    if like is None:
        return None
    return type(like)(*map(zeros, like)) if isinstance(like, tuple) else np.zeros(np.shape(like))


def columns(x, *others):
    """(batch, channel, the samples there as a list of floats) and the same samples of the other arrays."""
    for batch in np.ndindex(x.shape[:-2]):
        for c in range(x.shape[-1]):
            yield batch, c, *([float(a[(*batch, i, c)]) for i in range(x.shape[-2])] for a in (x, *others))


def average(values, over=None):
    return sum(values) / (len(values) if over is None else over)


def variance(values, over=None):
    mean = average(values)
    return average([(v - mean) ** 2 for v in values], over)


def average_product(left, right):
    return average([a * b for a, b in zip(left, right, strict=True)])


def empty_statistics(x):
    return np.zeros(x.shape[:-2] + x.shape[-1:]), np.zeros(x.shape[:-2] + x.shape[-1:])


def observe(x):
    mean, var = empty_statistics(x)
    for batch, c, xs in columns(x):
        add(mean, batch, c, average(xs))
        add(var, batch, c, variance(xs))
    return mean, var


def observe_backward(dmoments, x, mistake=None):
    fault, dx = planter(mistake), np.zeros(x.shape)
    for batch, c, xs in columns(x):
        dmean, dvar = (at(d, batch, c) for d in dmoments)
        m = fault(len(xs), m_minus_one=len(xs) - 1)
        for i, value in enumerate(xs):
            deviation = value - fault(average(xs), mean_term_dropped=0.0)
            two = fault(2.0, sign_flipped=-2.0, two_forgotten=1.0)
            dx[(*batch, i, c)] = dmean / m + two * dvar * deviation / m
    return (dx,)


def fuse(prior, observed, gain):
    shape = np.broadcast_shapes(np.shape(prior[0]), np.shape(observed[0]))
    mean, var = np.zeros(shape), np.zeros(shape)
    for *batch, c in np.ndindex(shape):
        a, b, xbar, s, q = (at(t, batch, c) for t in (*prior, *observed, gain))
        p = 1 - q
        mean[(*batch, c)] = p * a + q * xbar
        var[(*batch, c)] = p * b + q * s + p * q * (xbar - a) ** 2
    return mean, var


def fuse_backward(dmoments, prior, observed, gain, mistake=None):
    fault = planter(mistake)
    dprior, dobserved, dgain = zeros(prior), zeros(observed), zeros(gain)
    for *batch, c in np.ndindex(np.shape(dmoments[0])):
        dmu, dv, a, b, xbar, s, q = (at(t, batch, c) for t in (*dmoments, *prior, *observed, gain))
        p, delta = 1 - q, xbar - a
        cross = fault(2 * p * q, cross_term_dropped=0.0, cross_without_p=2 * q) * dv * delta
        ddelta = q * dmu + cross
        add(dprior[0], batch, c, fault(dmu - ddelta, sign_flipped=dmu + ddelta))
        add(dprior[1], batch, c, fault(p, p_for_q=q) * dv)
        add(dobserved[0], batch, c, ddelta)
        add(dobserved[1], batch, c, q * dv)
        spread = s - b + fault(1 - 2 * q, two_q_forgotten=1.0) * delta**2
        add(dgain, batch, c, fault(dmu, gain_mean_dropped=0.0) * delta + dv * spread)
    return dprior, dobserved, dgain


def affine(x_hat, gamma, beta, batch, c):
    return at(gamma, batch, c) * x_hat + at(beta, batch, c, default=0.0)


def standardize(x, moments, gamma, beta, eps):
    y = np.zeros(x.shape)
    for batch, c, xs in columns(x):
        mean, var = (at(t, batch, c) for t in moments)
        for i, value in enumerate(xs):
            y[(*batch, i, c)] = affine((value - mean) / math.sqrt(var + eps), gamma, beta, batch, c)
    return y


def standardize_backward(dy, x, moments, gamma, beta, eps, mistake=None):
    fault = planter(mistake)
    dx, dmoments, dgamma, dbeta = map(zeros, (x, moments, gamma, beta))
    for batch, c, xs, dys in columns(x, dy):
        mean, var = (at(t, batch, c) for t in moments)
        r = 1 / math.sqrt(var + fault(eps, eps_forgotten=0.0))
        for i, (value, d) in enumerate(zip(xs, dys, strict=True)):
            x_hat, g = (value - mean) * r, d * fault(at(gamma, batch, c), gamma_forgotten=1.0)
            dx[(*batch, i, c)] = fault(r, rstd_forgotten=1.0) * g
            add(dmoments[0], batch, c, fault(-r, sign_flipped=r) * g)
            add(dmoments[1], batch, c, fault(-0.5, half_forgotten=-1.0) * fault(r**2, rstd_once=r) * g * x_hat)
            add(dgamma, batch, c, d * x_hat)
            add(dbeta, batch, c, d)
    return dx, dmoments, dgamma, dbeta


def entry(transition, c, k):
    """A[c, k], of a diagonal matrix too."""
    return float(transition[c, k]) if transition.ndim == 2 else float(transition[c]) * (c == k)


def predict(estimate, transition, noise):
    mean = np.zeros(estimate[0].shape[:-1] + transition.shape[:1])
    var = np.zeros(mean.shape)
    for *batch, c in np.ndindex(mean.shape):
        var[(*batch, c)] = at(noise, batch, c)
        for k in range(estimate[0].shape[-1]):
            a = entry(transition, c, k)
            mean[(*batch, c)] += a * estimate[0][(*batch, k)]
            var[(*batch, c)] += a**2 * estimate[1][(*batch, k)]
    return mean, var


def predict_backward(dprior, estimate, transition, noise, mistake=None):
    fault = planter(mistake)
    destimate, dtransition, dnoise = map(zeros, (estimate, transition, noise))
    for *batch, c in np.ndindex(dprior[0].shape):
        da, db = (at(t, batch, c) for t in dprior)
        add(dnoise, batch, c, fault(db, noise_from_mean=da))
        for k in range(estimate[0].shape[-1]) if transition.ndim == 2 else (c,):
            a, mean, var = entry(transition, c, k), estimate[0][(*batch, k)], estimate[1][(*batch, k)]
            destimate[0][(*batch, k)] += a * da
            destimate[1][(*batch, k)] += fault(a**2, square_forgotten=a) * db
            dtransition[(c, k)[: transition.ndim]] += fault(da * mean, mean_part_dropped=0.0) + fault(
                2 * a * db * var, two_forgotten=a * db * var, var_part_dropped=0.0
            )
    return destimate, dtransition, dnoise


def batch_norm(x, gamma, beta, eps):
    y, moments = np.zeros(x.shape), observe(x)
    for batch, c, xs in columns(x):
        mu, v = average(xs), variance(xs)
        for i, value in enumerate(xs):
            y[(*batch, i, c)] = affine((value - mu) / math.sqrt(v + eps), gamma, beta, batch, c)
    return y, moments


def batch_norm_backward(dy, x, gamma, beta, eps, mistake=None):
    fault = planter(mistake)
    dx, dgamma, dbeta = map(zeros, (x, gamma, beta))
    for batch, c, xs, dys in columns(x, dy):
        mu, v = average(xs), variance(xs, fault(len(xs), m_minus_one=len(xs) - 1))
        r, scale = 1 / math.sqrt(v + fault(eps, eps_forgotten=0.0)), at(gamma, batch, c)
        hats = [(value - mu) * r for value in xs]
        g = [fault(scale, gamma_forgotten=1.0) * d for d in dys]
        mean_g = fault(average(g), mean_dropped=0.0)
        along = fault(1.0, projection_dropped=0.0, sign_flipped=-1.0) * average_product(g, hats)
        for i, (gi, h, d) in enumerate(zip(g, hats, dys, strict=True)):
            dx[(*batch, i, c)] = fault(r, rstd_forgotten=1.0) * (gi - mean_g - h * along)
            add(dgamma, batch, c, fault(1.0, gamma_in_dgamma=scale) * d * h)
            add(dbeta, batch, c, d)
    return dx, dgamma, dbeta


def renorm_corrections(moments, running_mean, running_std, r_max, d_max, eps):
    corr_r, corr_d = np.zeros(moments[0].shape), np.zeros(moments[0].shape)
    for *batch, c in np.ndindex(corr_r.shape):
        mu, v, big_m, big_s = (at(t, batch, c) for t in (*moments, running_mean, running_std))
        corr_r[(*batch, c)] = min(max(math.sqrt(v + eps) / big_s, 1 / r_max), r_max)
        corr_d[(*batch, c)] = min(max((mu - big_m) / big_s, -d_max), d_max)
    return corr_r, corr_d


def batch_renorm(x, gamma, beta, corr_r, corr_d, eps):
    y, moments = np.zeros(x.shape), observe(x)
    for batch, c, xs in columns(x):
        mu, s = average(xs), math.sqrt(variance(xs) + eps)
        for i, value in enumerate(xs):
            x_hat = (value - mu) / s * at(corr_r, batch, c) + at(corr_d, batch, c)
            y[(*batch, i, c)] = affine(x_hat, gamma, beta, batch, c)
    return y, moments


def batch_renorm_backward(dy, x, gamma, beta, corr_r, corr_d, eps, mistake=None):
    fault = planter(mistake)
    dx, dgamma, dbeta = map(zeros, (x, gamma, beta))
    for batch, c, xs, dys in columns(x, dy):
        mu, v = average(xs), variance(xs, fault(len(xs), m_minus_one=len(xs) - 1))
        s, r, d = math.sqrt(v + fault(eps, eps_forgotten=0.0)), at(corr_r, batch, c), at(corr_d, batch, c)
        z = [(value - mu) / s for value in xs]
        g = [at(gamma, batch, c) * fault(r, r_forgotten=1.0) * up for up in dys]
        mean_g = fault(average(g), mean_dropped=0.0)
        axis = fault(z, x_hat_projector=[h * r + d for h in z])
        along = fault(1.0, projection_dropped=0.0, sign_flipped=-1.0) * average_product(g, axis)
        for i, up in enumerate(dys):
            dx[(*batch, i, c)] = (g[i] - mean_g - axis[i] * along) / fault(s, rstd_forgotten=1.0)
            add(dgamma, batch, c, up * (z[i] * r + fault(d, d_missing_in_dgamma=0.0)))
            add(dbeta, batch, c, up)
    return dx, dgamma, dbeta


def kalman_norm(x, gamma, beta, prior, gain, eps):
    estimate = observe(x) if prior is None else fuse(prior, observe(x), gain)
    return standardize(x, estimate, gamma, beta, eps), estimate


def kalman_norm_backward(dy, destimate, x, gamma, beta, prior, gain, eps, mistake=None):
    fault = planter(mistake)
    dx, dgamma, dbeta, dprior = map(zeros, (x, gamma, beta, prior))
    dgain = None if prior is None else zeros(gain)
    for batch, c, xs, dys in columns(x, dy):
        m, xbar, s = len(xs), average(xs), variance(xs)
        q, a, b = (1.0, xbar, s) if prior is None else (at(t, batch, c) for t in (gain, *prior))
        p, delta = 1 - q, xbar - a
        mu, v = p * a + q * xbar, p * b + q * s + p * q * delta**2
        r = 1 / math.sqrt(v + fault(eps, eps_forgotten=0.0))
        hats, g = [(value - mu) * r for value in xs], [at(gamma, batch, c) * d for d in dys]
        above = None if destimate is None else fault(destimate, destimate_ignored=None)
        dmu, dv = (0.0, 0.0) if above is None else (at(t, batch, c) for t in above)
        dmu -= r * sum(g)
        dv -= fault(0.5, half_forgotten=1.0) * r**2 * m * average_product(g, hats)
        ddelta = q * dmu + fault(2 * p * q, cross_term_dropped=0.0, cross_without_p=2 * q) * dv * delta
        width = fault(m, m_minus_one=m - 1)
        for i, value in enumerate(xs):
            spread = fault(2 * q * dv, var_path_dropped=0.0) * (value - xbar)
            dx[(*batch, i, c)] = r * g[i] + (ddelta + spread) / width
            add(dgamma, batch, c, dys[i] * hats[i])
            add(dbeta, batch, c, dys[i])
        if prior is not None:
            add(dprior[0], batch, c, fault(dmu - ddelta, sign_flipped=dmu + ddelta))
            add(dprior[1], batch, c, fault(p, p_for_q=q) * dv)
            squared = fault(1 - 2 * q, two_q_forgotten=1.0) * delta**2
            add(dgain, batch, c, fault(dmu, gain_mean_dropped=0.0) * delta + dv * (s - b + squared))
    return dx, dgamma, dbeta, dprior, dgain
