"""The exercise brn-corrections."""

import numpy as np

from .. import steps as plans
from ..shared_steps import std, steps
from .clipped import ALONE, BOTH
from .exercise import DataSet, Exercise, Output, Term, known, mistake, numbers, start

NORMAL, UNIFORM = numbers("brn")


def _statistics(ratio, shift, var, r_max, d_max, eps):
    """Statistics of a batch whose deviation is `ratio` times the running one, and whose mean is `shift` off."""
    count = len(ratio)
    var = var * UNIFORM(0.5, 1.5, count)
    running_std = np.float64(np.float32(np.sqrt(var + eps) / ratio))
    running_mean = NORMAL(count, mean=3.0)
    mean = np.float64(np.float32(running_mean + shift * running_std))
    names = ("mean", "var", "running_mean", "running_std", "r_max", "d_max", "eps")
    return dict(
        zip(names, (mean, np.float64(np.float32(var)), running_mean, running_std, r_max, d_max, eps), strict=True)
    )


WITHIN = np.array([0.8, 1.3, 0.6, 1.7, 0.9])
BEYOND = np.array([0.125, 8.0, 0.2, 5.0, 1.25, 0.7])
SHIFTS = np.array([0.5, -1.5, 1.75, -0.25, 0.875])
FAR = np.array([9.0, -12.0, 7.0, -6.5, 0.5, -0.75])
SETS = (
    DataSet("statistics near the running ones: nothing is clipped", _statistics(WITHIN, SHIFTS, 4.0, 3.0, 5.0, 1e-5)),
    DataSet(
        "deviations far from the running one: r is clipped at both ends",
        _statistics(BEYOND, np.append(SHIFTS, 1.0), 9.0, 3.0, 5.0, 1e-5),
    ),
    DataSet(
        "means far from the running one: d is clipped at both ends",
        _statistics(np.append(WITHIN, 1.1), FAR, 0.25, 3.0, 5.0, 1e-5),
    ),
    DataSet("narrow limits: r_max 1.5, d_max 0.5", _statistics(BEYOND, FAR[::-1], 2.0, 1.5, 0.5, 2.0**-10)),
    DataSet("a variance no larger than eps", _statistics(WITHIN, SHIFTS, 0.25, 3.0, 5.0, 0.5)),
    DataSet("r_max 1 and d_max 0: BN", _statistics(BEYOND, FAR, 1.0, 1.0, 0.0, 1e-5)),
)

EXERCISE = Exercise(
    "brn-corrections",
    (Output("r", "corr_r", "mean"), Output("d", "corr_d", "mean")),
    SETS,
    start,
    steps(std, plans.corr_r, plans.corr_d),
    (
        *ALONE,
        known("r-root", "r has a root too many: it is a ratio of deviations, not the root of one."),
        mistake(
            "r-without-eps",
            "r lacks eps: the batch's deviation has to contain it, as the running one does.",
            std=lambda var, sqrt: sqrt(var),
        ),
        mistake(
            "r-logarithm",
            "r is in log space: its logarithm is returned and clipped, and not r itself.",
            corr_r=lambda std, running_std, r_max: np.clip(np.log(std / running_std), -np.log(r_max), np.log(r_max)),
        ),
        mistake(
            "r-clipped-inverted-limits",
            "The two limits of r are exchanged, so that one of them is the result everywhere.",
            corr_r=lambda std, running_std, r_max: np.minimum(np.maximum(std / running_std, r_max), 1 / r_max),
        ),
        mistake(
            "clipped-deviation",
            "In r the deviation is clipped before the division; the ratio should be.",
            corr_r=lambda std, running_std, r_max, clip: clip(std, 1 / r_max, r_max) / running_std,
        ),
        known("d-divided-after-clip", "d is divided by the running deviation after the clip and should be before."),
        mistake(
            "d-times-r",
            "d is multiplied by r, which belongs to x and not to d.",
            corr_d=lambda mean, running_mean, running_std, d_max, corr_r, clip: (
                corr_r * clip((mean - running_mean) / running_std, -d_max, d_max)
            ),
        ),
        mistake(
            "d-over-std-times-r",
            "d is divided by the batch's deviation and multiplied by r. Both together divide by the running "
            "deviation only where r is not clipped.",
            corr_d=lambda mean, running_mean, std, d_max, corr_r, clip: clip(
                (mean - running_mean) / std * corr_r, -d_max, d_max
            ),
        ),
        mistake(
            "r-d-swapped",
            "r and d are swapped: the first result is d and the second is r.",
            corr_r=lambda mean, running_mean, running_std, d_max, clip: plans.corr_d(
                mean, running_mean, running_std, d_max, clip
            ),
            corr_d=lambda std, running_std, r_max, clip: plans.corr_r(std, running_std, r_max, clip),
        ),
        known(
            "eps-outside-root-in-forward-only",
            "In r eps stands outside the root, added to the deviation. It belongs to the variance, inside the root.",
        ),
        known("eps-fixed", "In r eps is fixed at 1e-5 in the code: the argument eps is ignored."),
        known("eps-added-twice", "In r eps is added twice."),
        known("eps-squared", "In r eps is squared before it is added."),
        mistake("eps-subtracted", "In r eps is subtracted.", std=lambda var, eps, sqrt: sqrt(var - eps)),
        *BOTH,
    ),
    {
        "r": (Term("what it should be", plans.corr_r, 1), Term("a constant of 1", lambda std: 1 + 0 * std, 0)),
        "d": (Term("what it should be", plans.corr_d, 1), Term("a constant of 1", lambda std: 1 + 0 * std, 0)),
    },
    "Take statistics that are the running ones, for which r is 1 and d is 0. Then change one of them at a time.",
)
