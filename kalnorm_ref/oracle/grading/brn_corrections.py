"""The exercise brn-corrections."""

import numpy as np

from .. import steps as plans
from ..shared_steps import std, steps
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
        known("r-not-clipped", "r is not clipped."),
        known(
            "r-clipped-above-only",
            "The lower limit of r is missing or has no effect: small r are not clipped. "
            "As a ratio r may be no further below 1 than above it.",
        ),
        known("r-clipped-below-only", "r is clipped at its lower end only: large r pass r_max."),
        known("r-inverted", "r is inverted: the running deviation is divided by that of the batch."),
        known("r-of-variances", "r is a ratio of variances and should be one of deviations."),
        known("r-root", "r has a root too many: it is a ratio of deviations, not the root of one."),
        known("r-without-eps", "r lacks eps: the batch's deviation has to contain it, as the running one does."),
        mistake(
            "r-over-root-of-running-std",
            "In r the root of running_std is taken: it is a deviation already, not a variance.",
            corr_r=lambda std, running_std, r_max, clip: clip(std / running_std**0.5, 1 / r_max, r_max),
        ),
        mistake(
            "r-of-var",
            "In r the variance of the batch stands in the place of its deviation.",
            corr_r=lambda var, eps, running_std, r_max, clip: clip((var + eps) / running_std, 1 / r_max, r_max),
        ),
        mistake(
            "r-logarithm",
            "r is in log space: its logarithm is returned and clipped, and not r itself.",
            corr_r=lambda std, running_std, r_max: np.clip(np.log(std / running_std), -np.log(r_max), np.log(r_max)),
        ),
        mistake(
            "r-lower-limit-one",
            "The lower limit of r is 1: r below 1 is lost.",
            corr_r=lambda std, running_std, r_max, clip: clip(std / running_std, 1, r_max),
        ),
        mistake(
            "r-clipped-at-d-max",
            "r is clipped with d_max in the place of r_max.",
            corr_r=lambda std, running_std, d_max: np.clip(std / running_std, 1 / np.float64(d_max), d_max),
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
        known("d-not-clipped", "d is not clipped."),
        known("d-clipped-above-only", "d is clipped at its upper end only: negative d pass their limit."),
        known("d-clipped-below-only", "d is clipped at its lower end only: large d pass d_max."),
        known("d-never-negative", "d is cut off at 0 below. It has a sign: the lower limit is wrong."),
        known("d-clipped-at-r-max", "d is clipped with r_max in the place of d_max."),
        known("d-over-batch-std", "d is divided by the batch's deviation and should be by the running one."),
        known("d-over-running-variance", "d is divided by the running variance and should be by the deviation."),
        known("d-not-divided", "d is not divided by the running deviation."),
        known("d-divided-after-clip", "d is divided by the running deviation after the clip and should be before."),
        known("d-sign", "d has the wrong sign: it tells how far the batch's mean lies above the running one."),
        mistake(
            "d-clipped-like-r",
            "d is clipped at 1/d_max below. It has a sign: the lower limit is wrong.",
            corr_d=lambda mean, running_mean, running_std, d_max: np.clip(
                (mean - running_mean) / running_std, 1 / np.float64(d_max), d_max
            ),
        ),
        mistake(
            "d-absolute",
            "d lost its sign: its absolute value is returned.",
            corr_d=lambda mean, running_mean, running_std, d_max: np.clip(
                np.abs(mean - running_mean) / running_std, -d_max, d_max
            ),
        ),
        mistake(
            "d-times-r",
            "d is multiplied by r, which belongs to x and not to d.",
            corr_d=lambda mean, running_mean, running_std, d_max, corr_r, clip: (
                corr_r * clip((mean - running_mean) / running_std, -d_max, d_max)
            ),
        ),
        mistake(
            "d-with-eps",
            "d adds eps to the running deviation, which contains it already.",
            corr_d=lambda mean, running_mean, running_std, d_max, eps: np.clip(
                (mean - running_mean) / (running_std + eps), -d_max, d_max
            ),
        ),
        mistake(
            "r-with-eps-twice",
            "r adds eps to the running deviation, which contains it already.",
            corr_r=lambda std, running_std, r_max, eps: np.clip(std / (running_std + eps), 1 / r_max, r_max),
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
    ),
    {
        "r": (Term("what it should be", plans.corr_r, 1), Term("a constant of 1", lambda std: 1 + 0 * std, 0)),
        "d": (Term("what it should be", plans.corr_d, 1), Term("a constant of 1", lambda std: 1 + 0 * std, 0)),
    },
    "Take statistics that are the running ones, for which r is 1 and d is 0. Then change one of them at a time.",
)
