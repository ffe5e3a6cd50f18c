"""Mistakes of the exercise brn-corrections: in a quotient, in the limits that it is clipped to, and in both at once."""

import numpy as np

from .exercise import mistake

TWICE = "adds eps to the running deviation, which contains it already."
TWICE_INSIDE = "adds eps to the running variance; running_std contains eps already."
ROOT = "the root of running_std is taken: it is a deviation already, not a variance."
ROOT_WITH_EPS = "the root of running_std + eps is taken: running_std is a deviation already, and contains eps."

# name: what is said, and the quotient; s is the running deviation
OF_R = {
    "inverted": (
        "r is inverted: the running deviation is divided by that of the batch.",
        lambda std, var, s, eps: s / std,
    ),
    "of-variances": (
        "r is a ratio of variances and should be one of deviations.",
        lambda std, var, s, eps: (std / s) ** 2,
    ),
    "of-var": (
        "In r the variance of the batch stands in the place of its deviation.",
        lambda std, var, s, eps: (var + eps) / s,
    ),
    "over-running-variance": (
        "r is divided by the running variance and should be by the deviation.",
        lambda std, var, s, eps: std / s**2,
    ),
    "over-root": (f"In r {ROOT}", lambda std, var, s, eps: std / s**0.5),
    "over-root-with-eps": (f"In r {ROOT_WITH_EPS}", lambda std, var, s, eps: std / (s + eps) ** 0.5),
    "eps-twice": (f"r {TWICE}", lambda std, var, s, eps: std / (s + eps)),
    "eps-twice-inside": (f"r {TWICE_INSIDE}", lambda std, var, s, eps: std / (s**2 + eps) ** 0.5),
}
LIMITS_OF_R = {
    "above-only": (
        "The lower limit of r is missing or has no effect: small r are not clipped. "
        "As a ratio r may be no further below 1 than above it.",
        lambda r, r_max, d_max: np.minimum(r, r_max),
    ),
    "unlimited": ("r is not clipped.", lambda r, r_max, d_max: r),
    "below-only": (
        "r is clipped at its lower end only: large r pass r_max.",
        lambda r, r_max, d_max: np.maximum(r, 1 / r_max),
    ),
    "one": ("The lower limit of r is 1: r below 1 is lost.", lambda r, r_max, d_max: np.clip(r, 1, r_max)),
    "d-max": (
        "r is clipped with d_max in the place of r_max.",
        lambda r, r_max, d_max: np.clip(r, 1 / np.float64(d_max), d_max),
    ),
    "difference": (
        "The lower limit of r is as far below 1 as r_max lies above it, as a difference. r is a ratio.",
        lambda r, r_max, d_max: np.clip(r, 2 - r_max, r_max),
    ),
}
OF_D = {
    "sign": (
        "d has the wrong sign: it tells how far the batch's mean lies above the running one.",
        lambda delta, std, var, s, eps: -delta / s,
    ),
    "over-std": (
        "d is divided by the batch's deviation and should be by the running one.",
        lambda delta, std, var, s, eps: delta / std,
    ),
    "over-std-without-eps": (
        "d is divided by the batch's deviation, without eps, and should be by the running one.",
        lambda delta, std, var, s, eps: delta / var**0.5,
    ),
    "sign-over-std": (
        "d has the wrong sign, and is divided by the batch's deviation; the running one belongs there.",
        lambda delta, std, var, s, eps: -delta / std,
    ),
    "over-running-variance": (
        "d is divided by the running variance and should be by the deviation.",
        lambda delta, std, var, s, eps: delta / s**2,
    ),
    "not-divided": ("d is not divided by the running deviation.", lambda delta, std, var, s, eps: delta),
    "over-root": (f"In d {ROOT}", lambda delta, std, var, s, eps: delta / s**0.5),
    "over-root-with-eps": (f"In d {ROOT_WITH_EPS}", lambda delta, std, var, s, eps: delta / (s + eps) ** 0.5),
    "eps-twice": (f"d {TWICE}", lambda delta, std, var, s, eps: delta / (s + eps)),
    "eps-twice-inside": (f"d {TWICE_INSIDE}", lambda delta, std, var, s, eps: delta / (s**2 + eps) ** 0.5),
    "absolute": (
        "d lost its sign: its absolute value is returned.",
        lambda delta, std, var, s, eps: np.abs(delta) / s,
    ),
}
LIMITS_OF_D = {
    "unlimited": ("d is not clipped.", lambda d, r_max, d_max: d),
    "above-only": (
        "d is clipped at its upper end only: negative d pass their limit.",
        lambda d, r_max, d_max: np.minimum(d, d_max),
    ),
    "below-only": (
        "d is clipped at its lower end only: large d pass d_max.",
        lambda d, r_max, d_max: np.maximum(d, -d_max),
    ),
    "zero": (
        "d is cut off at 0 below. It has a sign: the lower limit is wrong.",
        lambda d, r_max, d_max: np.clip(d, 0, d_max),
    ),
    "reciprocal": (
        "d is clipped at 1/d_max below. It has a sign: the lower limit is wrong.",
        lambda d, r_max, d_max: np.clip(d, 1 / np.float64(d_max), d_max),
    ),
    "r-max": ("d is clipped with r_max in the place of d_max.", lambda d, r_max, d_max: np.clip(d, -r_max, r_max)),
}


def _of_r(quotient, limits):
    def corr_r(std, var, running_std, r_max, d_max, eps):
        return limits(quotient(std, var, running_std, eps), r_max, d_max)

    return corr_r


def _of_d(quotient, limits):
    def corr_d(mean, running_mean, std, var, running_std, r_max, d_max, eps):
        return limits(quotient(mean - running_mean, std, var, running_std, eps), r_max, d_max)

    return corr_d


def _right_r(std, var, s, eps):
    return std / s


def _right_d(delta, std, var, s, eps):
    return delta / s


def _within(r, r_max, d_max):
    return np.clip(r, 1 / r_max, r_max)


def _between(d, r_max, d_max):
    return np.clip(d, -d_max, d_max)


def _mistakes(name, step, body, quotients, limits, right, clipped):
    alone = [mistake(f"{name}-{q}", text, **{step: body(f, clipped)}) for q, (text, f) in quotients.items()]
    alone += [mistake(f"{name}-{c}", text, **{step: body(right, f)}) for c, (text, f) in limits.items()]
    both = [
        mistake(f"{name}-{q}-{c}", f"{text} {more}", **{step: body(f, g)})
        for q, (text, f) in quotients.items()
        for c, (more, g) in limits.items()
        if not (q == "absolute" and c in ("above-only", "below-only", "zero"))  # the same as with one limit less
    ]
    return alone, both


ALONE_R, BOTH_R = _mistakes("r", "corr_r", _of_r, OF_R, LIMITS_OF_R, _right_r, _within)
ALONE_D, BOTH_D = _mistakes("d", "corr_d", _of_d, OF_D, LIMITS_OF_D, _right_d, _between)
ALONE, BOTH = (*ALONE_R, *ALONE_D), (*BOTH_R, *BOTH_D)
