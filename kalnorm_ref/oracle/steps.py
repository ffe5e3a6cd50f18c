"""The normalizers a third time, as named steps: what seeded bugs change, and what the budget is propagated through.

A step is a function whose parameters are names of earlier values; `run` computes them in order. A bug is another body
for one of these functions, under the function's name: `dx`, `renorm_dx`, `kalman_dx` and `fixed_dx` all compute dx.
Arrays are (B, m, C), or (N, L, G, k) where k channels share a statistic; statistics keep those axes with length 1.
How to sum, and in which precision, is given: see arithmetic.py.

    average, total      mean over the samples of a statistic; sum over all samples of a channel
    over_batches        mean over the statistics batches
    expand, flat        statistics (B, C) with the axes of x, and back
"""

import functools
import inspect

from .kalman_steps import KN, KN_FIRST
from .shared_steps import SAVED, dbeta, dgamma, dx_hat, mean, next_mean, next_var, rstd, std, steps, var, x_hat, y


@functools.cache
def parameters(step):
    """The names that a step needs."""
    return tuple(inspect.signature(step).parameters)


def run(steps, given):
    """All values by name: the given ones and those of the steps."""
    values = dict(given)
    for name, step in steps.items():
        values[name] = step(**{needed: values[needed] for needed in parameters(step)})
    return values


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

RUNNING = steps(next_mean, next_var)


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
