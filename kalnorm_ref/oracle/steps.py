"""The normalizers a third time, as named steps: what seeded bugs change, and what the budget is propagated through.

A step is a function whose parameters are names of earlier values; `run` computes them in order. A bug is a function with
another body in the place of one of these, under whose name it is kept: `dx`, `renorm_dx`, `kalman_dx` and `fixed_dx` all
compute dx. Arrays are (B, m, C), or (N, L, G, k) where k channels share a statistic; statistics keep
those axes with length 1. How to sum, and in which precision, is given: see arithmetic.py.

    average, total      mean over the samples of a statistic; sum over all samples of a channel
    over_batches        mean over the statistics batches
    expand, flat        statistics (B, C) with the axes of x, and back
"""

import functools
import inspect


@functools.cache
def parameters(step):
    """Names of the values that a step needs."""
    return tuple(inspect.signature(step).parameters)


def run(steps, given):
    """All values by name: the given ones and those of the steps."""
    values = dict(given)
    for name, step in steps.items():
        values[name] = step(**{needed: values[needed] for needed in parameters(step)})
    return values


def steps(*functions):
    """Functions by name."""
    return {f.__name__: f for f in functions}


# ---- what all share ----------------------------------------------------------------------------------------------


def mean(x, average):
    return average(x)


def var(x, mean, average):
    return average((x - mean) ** 2)


def std(var, eps, sqrt):
    return sqrt(var + eps)


def rstd(std):
    return 1 / std


def x_hat(x, mean, rstd):
    return (x - mean) * rstd


def y(x_hat, gamma, beta):
    return gamma * x_hat + beta


def dx_hat(dy, gamma):
    return dy * gamma


def dgamma(dy, x_hat, total):
    return total(dy * x_hat)


def dbeta(dy, total):
    return total(dy)


def next_mean(running_mean, mean, decay, over_batches):
    return decay * running_mean + (1 - decay) * over_batches(mean)


def next_var(running_var, var, decay, over_batches):
    return decay * running_var + (1 - decay) * over_batches(var)


# what forward returns besides y


def saved_mean(mean):
    return mean


def saved_var(var):
    return var


def saved_rstd(rstd):
    return rstd


SAVED = steps(saved_mean, saved_var, saved_rstd)

# ---- batch and group normalization (B1, B6) ------------------------------------------------------------------------


def mean_dx_hat(dx_hat, average):
    return average(dx_hat)


def projection(dx_hat, x_hat, average):
    return average(dx_hat * x_hat)


def dx(rstd, dx_hat, mean_dx_hat, x_hat, projection):
    return rstd * (dx_hat - mean_dx_hat - x_hat * projection)


FORWARD = steps(mean, var, std, rstd, x_hat, y)
BACKWARD = steps(dx_hat, dgamma, dbeta, mean_dx_hat, projection, dx)
BN = FORWARD | SAVED | steps(next_mean, next_var) | BACKWARD
GN = FORWARD | BACKWARD

# ---- inference with running values -------------------------------------------------------------------------------


def fixed_mean(running_mean):
    return running_mean


def fixed_var(running_var):
    return running_var


def fixed_std(running_std):
    return running_std


def fixed_dx(rstd, dx_hat):
    return rstd * dx_hat


def kept_mean(running_mean):
    return running_mean


def kept_var(running_var):
    return running_var


def kept_std(running_std):
    return running_std


APPLIED = steps(rstd, x_hat, y, dx_hat, dgamma, dbeta) | {"dx": fixed_dx, "next_mean": kept_mean}
FIXED = {"mean": fixed_mean, "var": fixed_var, "std": std} | APPLIED | {"next_var": kept_var}
BRN_FIXED = {"mean": fixed_mean, "std": fixed_std} | APPLIED | {"next_std": kept_std}

# ---- batch renormalization (B2) ----------------------------------------------------------------------------------


def corr_r(std, running_std, r_max, clip):
    return clip(std / running_std, 1 / r_max, r_max)


def corr_d(mean, running_mean, running_std, d_max, clip):
    return clip((mean - running_mean) / running_std, -d_max, d_max)


def z(x, mean, rstd):
    return (x - mean) * rstd


def renormed(z, corr_r, corr_d):
    return z * corr_r + corr_d


def next_std(running_std, std, decay, over_batches):
    return decay * running_std + (1 - decay) * over_batches(std)


def g(dx_hat, corr_r):
    return dx_hat * corr_r


def mean_g(g, average):
    return average(g)


def projection_on_z(g, z, average):
    return average(g * z)


def renorm_dx(rstd, g, mean_g, z, projection):
    return rstd * (g - mean_g - z * projection)


BRN = (
    steps(mean, var, std, rstd, corr_r, corr_d, z)
    | {"x_hat": renormed}
    | SAVED
    | steps(y, next_mean, next_std, dx_hat, dgamma, dbeta, g, mean_g)
    | {"projection": projection_on_z, "dx": renorm_dx}
)

# ---- Kalman normalization (B5) -----------------------------------------------------------------------------------


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
RUNNING = steps(next_mean, next_var)


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


def of(case):
    """The steps of a case, in order."""
    if case.op == "gn":
        return GN
    if case.op == "gkn":
        return KN if "previous_mean" in case.tensors else KN_FIRST
    if not case.training:
        return BRN_FIXED if case.op == "brn" else FIXED
    if case.op == "kn":
        return (KN if "previous_mean" in case.tensors else KN_FIRST) | RUNNING
    return {"bn": BN, "brn": BRN}[case.op]
