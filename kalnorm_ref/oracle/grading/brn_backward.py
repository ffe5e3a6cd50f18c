"""The exercise brn-backward: r and d are given, and constants."""

import numpy as np

from .. import steps as plans
from ..shared_steps import dbeta, dgamma, dx_hat, mean, rstd, std, steps, var
from .bn_backward import DIRECT, FROM_MEAN, FROM_VARIANCE, GAMMA, OF_SUMS, SLOPES, SUMS, TERMS_OF_DX
from .bn_forward import EPS, MOMENTS, SCALE, maps, upstream
from .exercise import DataSet, Exercise, Output, Term, known, mistake, numbers, start

NORMAL, UNIFORM = numbers("brn-backward")

PLAN = (
    steps(mean, var, std, rstd, plans.z)
    | {"x_hat": plans.renormed}
    | steps(dx_hat, dgamma, dbeta, plans.g, plans.mean_g)
    | {"projection": plans.projection_on_z, "dx": plans.renorm_dx}
)


def _corrections(name, channels):
    if "gamma 1" in name:
        return np.ones(channels), np.zeros(channels)
    return UNIFORM(0.4, 0.9, channels) * np.where(np.arange(channels) % 2, 2, 1), NORMAL(channels, mean=0.75)


def _sets():
    for name, x, gamma, eps in maps():
        r, d = _corrections(name, x.shape[1])
        named = name + (", r 1 and d 0" if "gamma 1" in name else "")
        yield DataSet(named, {"dy": upstream(x), "x": x, "gamma": gamma, "r": r, "d": d, "eps": eps})


def _given(arguments):
    values = start(arguments)
    return values | {"corr_r": arguments["r"], "corr_d": arguments["d"]}


def _constant(rstd, g):
    return rstd * g


OWN = (
    "dx-direct-only",
    "dx-lacks-projection",
    "dx-lacks-mean",
    "dx-mean-without-gamma",
    "dx-projection-without-gamma",
)
SHARED = tuple(m for m in TERMS_OF_DX if m.name not in OWN)


def _lacking(words, factor):
    """Factors of g that do not stand in one of the two means; factor: of dy, from gamma and r."""
    text = "lacks {}: what is averaged has to contain {}.".format(*words)
    return (
        mistake(
            f"dx-mean-lacks-{words[0]}",
            f"In dx {FROM_MEAN} {text}",
            mean_g=lambda dy, gamma, corr_r, average: average(dy * factor(gamma, corr_r)),
        ),
        mistake(
            f"dx-projection-lacks-{words[0]}-in-mean",
            f"In dx {FROM_VARIANCE} {text}",
            projection_on_z=lambda dy, gamma, corr_r, z, average: average(dy * factor(gamma, corr_r) * z),
        ),
    )


THROUGH = (
    mistake(
        "dx-direct-only",
        "dx has the direct term only. Either mean and variance were taken for constants, or the gradient was led "
        "through r and d, which are constants here: both come out the same, for a gradient through r and d takes away "
        "exactly the terms that come from mean and variance.",
        renorm_dx=_constant,
    ),
    mistake(
        "dx-lacks-mean",
        f"dx lacks {FROM_MEAN}; or the gradient was led through d, which is a constant here: both come out the same.",
        renorm_dx=lambda rstd, g, z, projection: rstd * (g - z * projection),
    ),
    mistake(
        "dx-lacks-projection",
        f"dx lacks {FROM_VARIANCE}; or the gradient was led through r, which is a constant here: both come out the "
        "same.",
        renorm_dx=lambda rstd, g, mean_g: rstd * (g - mean_g),
    ),
    known("dx-lacks-r", "dx lacks r: the gradient has to pass the multiplication by r."),
    known("dx-r-twice", "dx has r as a factor twice."),
    known("dx-r-divides", "dx is divided by r and should be multiplied by it."),
    known(
        "dx-projection-on-x-hat",
        f"In dx {FROM_VARIANCE} is built with the corrected x: it takes x_hat where the plain z, before r and "
        "d, belongs.",
    ),
    known(
        "dx-projection-mean-of-x-hat",
        f"In dx {FROM_VARIANCE} has the corrected x in its mean; the plain z, before r and d, belongs there.",
    ),
    mistake(
        "dx-x-hat-times-projection",
        f"In dx {FROM_VARIANCE} is multiplied by the corrected x; the plain z, before r and d, belongs there.",
        renorm_dx=lambda rstd, g, mean_g, x_hat, projection: rstd * (g - mean_g - x_hat * projection),
    ),
    *_lacking(("gamma", "it"), lambda gamma, r: r),
    *_lacking(("r", "it"), lambda gamma, r: gamma),
    *_lacking(("gamma and r", "both"), lambda gamma, r: 1),
    known("dx-projection-r-twice", f"In dx {FROM_VARIANCE} has r as a factor twice."),
    known("dx-projection-lacks-r", "In dx the terms that come from the mean and from the variance lack r."),
    mistake(
        "dx-plus-d",
        "dx contains d, a constant that is added to x_hat and has no gradient to x.",
        renorm_dx=lambda rstd, g, mean_g, z, projection, corr_d: (
            plans.renorm_dx(rstd, g, mean_g, z, projection) + corr_d
        ),
    ),
    known("dgamma-from-z", "dgamma takes the plain z in the place of the corrected x: r and d are missing."),
    known("dgamma-lacks-d", "dgamma lacks d."),
    known("dgamma-lacks-r", "dgamma lacks r."),
    known("dgamma-with-r", "dgamma has r as a factor too many."),
    known("dbeta-with-r", "dbeta has r as a factor, which it should not: beta is added after r."),
    mistake(
        "dgamma-from-g",
        "dgamma has gamma and r as factors too many.",
        dgamma=lambda dx_hat, corr_r, x_hat, total: total(dx_hat * corr_r * x_hat),
    ),
    mistake(
        "dbeta-from-g",
        "dbeta has gamma and r as factors, which it should not: beta is added after both.",
        dbeta=lambda dx_hat, corr_r, total: total(dx_hat * corr_r),
    ),
    known("d-subtracted", "d has the wrong sign: it is subtracted."),
    known("d-multiplied-by-r", "d is multiplied by r: it is added before r multiplies and should be after."),
    known("r-and-d-swapped", "In x_hat r and d are swapped."),
)

EXERCISE = Exercise(
    "brn-backward",
    (Output("dx", "dx", "x"), Output("dgamma", "dgamma", "gamma"), Output("dbeta", "dbeta", "gamma")),
    tuple(_sets()),
    _given,
    PLAN,
    (*THROUGH, *SHARED, *GAMMA, *SUMS, *MOMENTS, *EPS, *SCALE),
    {
        "dx": (
            Term(DIRECT, lambda rstd, g: rstd * g, 1),
            Term(FROM_MEAN, lambda x, rstd, mean_g: rstd * mean_g + 0 * x, -1),
            Term(FROM_VARIANCE, lambda rstd, z, projection: rstd * z * projection, -1),
        ),
        **OF_SUMS,
    },
    SLOPES,
)
