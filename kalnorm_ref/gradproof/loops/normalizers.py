"""The primitives and the normalizers a second time, as loops over batches, channels and samples.

Every function follows its equations one number at a time and shares no code with what it judges. A backward takes what
comes from above and then the arguments of its forward, not a cache, and can plant one `mistake` of those in MISTAKES:
`fault(right, name=wrong)` is `wrong` when that name is planted. A judge that misses one of them judges nothing.
"""

import numpy as np

from .parts import add, at, average, average_product, columns, empty, increase, planter, sqrt, variance, zeros

MISTAKES = {
    "observe": "m_minus_one mean_term_dropped sign_flipped two_forgotten",
    "fuse": "cross_term_dropped cross_without_p two_q_forgotten p_for_q gain_mean_dropped sign_flipped",
    "affine": "gamma_forgotten x_hat_forgotten sign_flipped",
    "standardize": "rstd_forgotten eps_forgotten half_forgotten rstd_once sign_flipped gamma_forgotten",
    "predict": "square_forgotten two_forgotten mean_part_dropped var_part_dropped noise_from_mean",
    "batch_norm": "mean_dropped projection_dropped sign_flipped rstd_forgotten eps_forgotten m_minus_one "
    "gamma_forgotten gamma_in_dgamma",
    "batch_renorm": "mean_dropped projection_dropped sign_flipped rstd_forgotten eps_forgotten m_minus_one "
    "x_hat_projector r_forgotten d_missing_in_dgamma",
    "kalman_norm": "cross_term_dropped cross_without_p two_q_forgotten p_for_q gain_mean_dropped var_path_dropped "
    "sign_flipped destimate_ignored m_minus_one eps_forgotten half_forgotten",
}


def empty_statistics(x):
    return empty(x.shape[:-2] + x.shape[-1:], x), empty(x.shape[:-2] + x.shape[-1:], x)


def observe(x):
    mean, var = empty_statistics(x)
    for batch, c, xs in columns(x):
        add(mean, batch, c, average(xs))
        add(var, batch, c, variance(xs))
    return mean, var


def observe_backward(dmoments, x, mistake=None):
    fault, dx = planter(mistake), zeros(x)
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
    mean, var = empty(shape, prior[0]), empty(shape, prior[0])
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


def scale_and_shift(x_hat, gamma, beta, batch, c):
    return at(gamma, batch, c) * x_hat + at(beta, batch, c, default=0.0)


def affine(x_hat, gamma, beta):
    y = zeros(x_hat)
    for batch, c, hats in columns(x_hat):
        for i, hat in enumerate(hats):
            y[(*batch, i, c)] = scale_and_shift(hat, gamma, beta, batch, c)
    return y


def affine_backward(dy, x_hat, gamma, beta, mistake=None):
    fault = planter(mistake)
    dx_hat, dgamma, dbeta = map(zeros, (x_hat, gamma, beta))
    for batch, c, hats, dys in columns(x_hat, dy):
        for i, (hat, d) in enumerate(zip(hats, dys, strict=True)):
            dx_hat[(*batch, i, c)] = fault(at(gamma, batch, c), gamma_forgotten=1.0) * d
            add(dgamma, batch, c, d * fault(hat, x_hat_forgotten=1.0))
            add(dbeta, batch, c, fault(d, sign_flipped=-d))
    return dx_hat, dgamma, dbeta


def standardize(x, moments, gamma, beta, eps):
    y = zeros(x)
    for batch, c, xs in columns(x):
        mean, var = (at(t, batch, c) for t in moments)
        for i, value in enumerate(xs):
            y[(*batch, i, c)] = scale_and_shift((value - mean) / sqrt(var + eps), gamma, beta, batch, c)
    return y


def standardize_backward(dy, x, moments, gamma, beta, eps, mistake=None):
    fault = planter(mistake)
    dx, dmoments, dgamma, dbeta = map(zeros, (x, moments, gamma, beta))
    for batch, c, xs, dys in columns(x, dy):
        mean, var = (at(t, batch, c) for t in moments)
        r = 1 / sqrt(var + fault(eps, eps_forgotten=0.0))
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
    if transition.ndim == 2:
        return transition.item((c, k))
    return transition.item(c) if c == k else 0.0


def predict(estimate, transition, noise):
    shape = estimate[0].shape[:-1] + transition.shape[:1]
    mean, var = empty(shape, estimate[0]), empty(shape, estimate[0])
    for *batch, c in np.ndindex(shape):
        here = (*batch, c)
        var[here] = at(noise, batch, c)
        for k in range(estimate[0].shape[-1]):
            a = entry(transition, c, k)
            increase(mean, here, a * estimate[0].item((*batch, k)))
            increase(var, here, a**2 * estimate[1].item((*batch, k)))
    return mean, var


def predict_backward(dprior, estimate, transition, noise, mistake=None):
    fault = planter(mistake)
    destimate, dtransition, dnoise = map(zeros, (estimate, transition, noise))
    for *batch, c in np.ndindex(dprior[0].shape):
        da, db = (at(t, batch, c) for t in dprior)
        add(dnoise, batch, c, fault(db, noise_from_mean=da))
        for k in range(estimate[0].shape[-1]) if transition.ndim == 2 else (c,):
            a, (mean, var) = entry(transition, c, k), (at(t, batch, k) for t in estimate)
            increase(destimate[0], (*batch, k), a * da)
            increase(destimate[1], (*batch, k), fault(a**2, square_forgotten=a) * db)
            spread = fault(2 * a * db * var, two_forgotten=a * db * var, var_part_dropped=0.0)
            increase(dtransition, (c, k)[: transition.ndim], fault(da * mean, mean_part_dropped=0.0) + spread)
    return destimate, dtransition, dnoise


def batch_norm(x, gamma, beta, eps):
    y, moments = zeros(x), observe(x)
    for batch, c, xs in columns(x):
        mu, v = average(xs), variance(xs)
        for i, value in enumerate(xs):
            y[(*batch, i, c)] = scale_and_shift((value - mu) / sqrt(v + eps), gamma, beta, batch, c)
    return y, moments


def batch_norm_backward(dy, x, gamma, beta, eps, mistake=None):
    fault = planter(mistake)
    dx, dgamma, dbeta = map(zeros, (x, gamma, beta))
    for batch, c, xs, dys in columns(x, dy):
        mu, v = average(xs), variance(xs, fault(len(xs), m_minus_one=len(xs) - 1))
        r, scale = 1 / sqrt(v + fault(eps, eps_forgotten=0.0)), at(gamma, batch, c)
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
    corr_r, corr_d = zeros(moments)
    for *batch, c in np.ndindex(corr_r.shape):
        mu, v, big_m, big_s = (at(t, batch, c) for t in (*moments, running_mean, running_std))
        corr_r[(*batch, c)] = min(max(sqrt(v + eps) / big_s, 1 / r_max), r_max)
        corr_d[(*batch, c)] = min(max((mu - big_m) / big_s, -d_max), d_max)
    return corr_r, corr_d


def batch_renorm(x, gamma, beta, corr_r, corr_d, eps):
    y, moments = zeros(x), observe(x)
    for batch, c, xs in columns(x):
        mu, s = average(xs), sqrt(variance(xs) + eps)
        for i, value in enumerate(xs):
            x_hat = (value - mu) / s * at(corr_r, batch, c) + at(corr_d, batch, c)
            y[(*batch, i, c)] = scale_and_shift(x_hat, gamma, beta, batch, c)
    return y, moments


def batch_renorm_backward(dy, x, gamma, beta, corr_r, corr_d, eps, mistake=None):
    fault = planter(mistake)
    dx, dgamma, dbeta = map(zeros, (x, gamma, beta))
    for batch, c, xs, dys in columns(x, dy):
        mu, v = average(xs), variance(xs, fault(len(xs), m_minus_one=len(xs) - 1))
        s, r, d = sqrt(v + fault(eps, eps_forgotten=0.0)), at(corr_r, batch, c), at(corr_d, batch, c)
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
        r = 1 / sqrt(v + fault(eps, eps_forgotten=0.0))
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
