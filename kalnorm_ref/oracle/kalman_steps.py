"""The steps of Kalman normalization (B5, B6); see steps.py."""

from .shared_steps import dbeta, dgamma, dx_hat, rstd, saved_mean, saved_var, std, steps, x_hat, y


def prior_mean(previous_mean, transition, expand):
    return expand(previous_mean @ transition.T)


def prior_var(previous_var, transition, noise, expand):
    return expand(previous_var @ (transition**2).T + noise)


def observed_mean(x, average):
    return average(x)


def observed_var(x, observed_mean, average):
    return average((x - observed_mean) ** 2)


def delta(observed_mean, prior_mean):
    return observed_mean - prior_mean


def fused_mean(prior_mean, observed_mean, gain):
    return (1 - gain) * prior_mean + gain * observed_mean


def fused_var(prior_var, observed_var, delta, gain):
    return (1 - gain) * prior_var + gain * observed_var + (gain * (1 - gain)) * delta**2


def dmean(rstd, dx_hat, destimate_mean, samples_sum):
    return destimate_mean - rstd * samples_sum(dx_hat)


def dvar(rstd, dx_hat, x_hat, destimate_var, samples_sum):
    return destimate_var - rstd**2 * samples_sum(dx_hat * x_hat) / 2


def ddelta(dmean, dvar, delta, gain):
    return gain * dmean + (2 * gain * (1 - gain)) * dvar * delta


def dobserved_var(dvar, gain):
    return gain * dvar


def dprior_mean(dmean, ddelta):
    return dmean - ddelta


def dprior_var(dvar, gain):
    return (1 - gain) * dvar


def dgain(dmean, dvar, delta, observed_var, prior_var, gain, to_gain):
    return to_gain(dmean * delta + dvar * (observed_var - prior_var + (1 - 2 * gain) * delta**2))


def kalman_dx(rstd, dx_hat, ddelta, dobserved_var, x, observed_mean, m):
    return rstd * dx_hat + ddelta / m + (2 * dobserved_var / m) * (x - observed_mean)


def dprevious_mean(dprior_mean, transition, flat):
    return flat(dprior_mean) @ transition


def dprevious_var(dprior_var, transition, flat):
    return flat(dprior_var) @ transition**2


def dtransition(dprior_mean, dprior_var, previous_mean, previous_var, transition, flat, to_transition):
    through_mean = flat(dprior_mean).T @ previous_mean
    return to_transition(through_mean + 2 * transition * (flat(dprior_var).T @ previous_var))


def dnoise(dprior_var, flat, to_noise):
    return to_noise(flat(dprior_var))


KN = (
    steps(prior_mean, prior_var, observed_mean, observed_var, delta)
    | {"mean": fused_mean, "var": fused_var}
    | steps(std, rstd, x_hat, y, dx_hat, dgamma, dbeta, dmean, dvar, ddelta, dobserved_var, dprior_mean, dprior_var)
    | steps(dgain, saved_mean, saved_var)
    | {"dx": kalman_dx}
    | steps(dprevious_mean, dprevious_var, dtransition, dnoise)
)

# ---- without a prior: the first normalizer of a chain ------------------------------------------------------------


def whole_mean(observed_mean):
    return observed_mean


def whole_var(observed_var):
    return observed_var


def whole_ddelta(dmean):
    return dmean


def whole_dobserved_var(dvar):
    return dvar


KN_FIRST = (
    steps(observed_mean, observed_var)
    | {"mean": whole_mean, "var": whole_var}
    | steps(std, rstd, x_hat, y, dx_hat, dgamma, dbeta, dmean, dvar, saved_mean, saved_var)
    | {"ddelta": whole_ddelta, "dobserved_var": whole_dobserved_var, "dx": kalman_dx}
)
