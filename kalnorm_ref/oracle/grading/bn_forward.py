"""The exercise bn-forward, and what the exercises that take x share: data, and mistakes in the moments."""

import numpy as np

from ..shared_steps import mean, rstd, std, steps, var, x_hat, y
from .exercise import DataSet, Exercise, Output, Term, known, mistake, numbers, start

NORMAL, UNIFORM = numbers("bn")
PLAN = steps(mean, var, std, rstd, x_hat, y)


def _signed(count):
    """Factors of both signs, none near 0 or 1."""
    return UNIFORM(0.5, 0.875, count) * np.where(np.arange(count) % 3 == 1, -2, 2)


def _symmetric(half, channels):
    """Samples whose mean is exactly zero and whose variance is near 1."""
    x = NORMAL(half, channels)
    return np.concatenate([x, -x])


def _with_one_constant(m, channels):
    x = NORMAL(m, channels, mean=1.0)
    x[:, 2] = 0.75
    return x


def maps(eps_of_constant=2.0**-10):
    """(name, x, gamma, eps) of the data sets of everything that takes x."""
    return (
        ("x with mean 3 and deviation 2", NORMAL(9, 6, mean=3.0, deviation=2.0), _signed(6), 1e-5),
        ("x with mean 300 and deviation 0.5", NORMAL(12, 5, mean=300.0, deviation=0.5), _signed(5), 1e-5),
        ("x with mean 0, and gamma 1", _symmetric(5, 6), np.ones(6), 1e-5),
        ("x with a variance no larger than eps", NORMAL(7, 6, mean=-1.0, deviation=0.5), _signed(6), 0.5),
        ("x of three samples only", NORMAL(3, 6, mean=2.0, deviation=3.0), _signed(6), 2.0**-4),
        ("x with one channel whose samples are all equal", _with_one_constant(8, 5), _signed(5), eps_of_constant),
    )


def upstream(x):
    """A gradient for each element of y, whose means are not zero."""
    return NORMAL(*x.shape, mean=0.5)


SETS = tuple(
    DataSet(name, {"x": x, "gamma": gamma, "beta": NORMAL(x.shape[1], mean=0.75), "eps": eps})
    for name, x, gamma, eps in maps()
)

MOMENTS = (
    known("mean-is-sum", "The mean is a sum: it is not divided by the number of samples."),
    known("var-is-sum", "The variance is a sum of squares: it is not divided by the number of samples."),
    mistake(
        "var-divided-twice",
        "The variance is divided by the number of samples twice.",
        var=lambda x, mean, average: average((x - mean) ** 2) / x.shape[1],
    ),
    known(
        "var-not-centred",
        "The second moment stands in the place of the variance: the mean is not subtracted before squaring.",
    ),
    known(
        "var-absolute-deviation",
        "The deviation is the mean absolute difference from the mean; it should be the root of the mean square.",
    ),
    known(
        "var-unbiased-in-forward-only",
        "The variance is the unbiased one, divided by m - 1. Batch normalization takes the biased one.",
    ),
    mistake(
        "statistics-over-everything",
        "Mean and variance are taken over all channels together. Each channel has its own.",
        mean=lambda x: x.mean(axis=(1, 2), keepdims=True),
        var=lambda x, mean: ((x - mean) ** 2).mean(axis=(1, 2), keepdims=True),
    ),
    mistake(
        "mean-over-everything",
        "The mean is taken over all channels together, but the variance over the samples of each. Each channel has a "
        "mean of its own.",
        mean=lambda x: x.mean(axis=(1, 2), keepdims=True),
    ),
    mistake(
        "absolute-difference-for-var",
        "The variance is wrong: it is the mean of absolute differences, which are not squared.",
        var=lambda x, mean, average: average(abs(x - mean)),
    ),
    mistake(
        "deviation-for-var",
        "The deviation stands in the place of the variance: the root is taken once more before eps is added.",
        var=lambda x, mean, average: average((x - mean) ** 2) ** 0.5,
    ),
    mistake(
        "m-of-channels",
        "Mean and variance are divided by the number of channels where the number of samples belongs: m is the length "
        "of the first axis.",
        mean=lambda x, samples_sum: samples_sum(x) / x.shape[2],
        var=lambda x, mean, samples_sum: samples_sum((x - mean) ** 2) / x.shape[2],
    ),
    mistake(
        "statistics-per-sample",
        "Mean and variance are taken over the channels of each sample: the wrong axis, which is layer normalization.",
        mean=lambda x: x.mean(axis=2, keepdims=True),
        var=lambda x, mean: ((x - mean) ** 2).mean(axis=2, keepdims=True),
    ),
    known("mean-drops-last-sample", "The sum of the mean lacks the last sample."),
    known("var-drops-last-sample", "The sum of the variance lacks the last sample."),
    known("first-sample-counted-twice", "The first sample enters the mean twice."),
    known("mean-of-neighbour", "The mean that is subtracted belongs to the neighbouring channel."),
)
EPS = (
    known("eps-missing", "eps is missing: it is never added to the variance."),
    known(
        "eps-outside-root-in-forward-only",
        "eps stands outside the root, added to the deviation. It belongs to the variance, inside the root.",
    ),
    mistake(
        "eps-after-division",
        "eps stands in the wrong place: it is added to the reciprocal of the deviation.",
        std=lambda var, sqrt: sqrt(var),
        rstd=lambda std, eps: 1 / std + eps,
    ),
    mistake(
        "eps-root-outside",
        "The root of eps is added to the deviation. eps belongs to the variance, inside the root.",
        std=lambda var, eps, sqrt: sqrt(var) + sqrt(eps),
    ),
    known("eps-added-twice", "eps is added twice."),
    known("eps-squared", "eps is squared before it is added."),
    known("eps-as-floor", "eps is used as the least variance. It should be added to every variance."),
    known("eps-fixed", "eps is fixed at 1e-5 in the code: the argument eps is ignored."),
    mistake("eps-subtracted", "eps is subtracted from the variance.", std=lambda var, eps, sqrt: sqrt(var - eps)),
)
SCALE = (
    known("rstd-lacks-root", "The root is missing: x is divided by the variance in the place of the deviation."),
    mistake("rstd-is-std", "x is multiplied by the deviation in the place of being divided.", rstd=lambda std: std),
    known("x-not-centred", "The mean is not subtracted from x before the division."),
    known("x-hat-not-scaled", "x is centred but not divided by the deviation."),
)

EXERCISE = Exercise(
    "bn-forward",
    (Output("y", "y", "x"),),
    SETS,
    start,
    PLAN,
    (
        *MOMENTS,
        *EPS,
        *SCALE,
        known("gamma-missing", "gamma is missing: y is not scaled."),
        known("beta-missing", "beta is missing: y is not shifted."),
        known("beta-subtracted", "beta has the wrong sign: it is subtracted."),
        known("beta-before-gamma", "beta is added before gamma multiplies, so that gamma scales it too."),
        known("gamma-and-beta-swapped", "gamma and beta are swapped: beta multiplies and gamma is added."),
        known("gamma-absolute", "gamma lost its sign: its absolute value multiplies."),
        known("gamma-plus-one-in-forward-only", "gamma is too large by one: 1 is added to it before it multiplies."),
        mistake("gamma-divides", "y is divided by gamma.", y=lambda x_hat, gamma, beta: x_hat / gamma + beta),
        mistake("gamma-squared", "gamma multiplies twice.", y=lambda x_hat, gamma, beta: x_hat * gamma**2 + beta),
        mistake("sign", "x minus mean has the wrong sign.", x_hat=lambda x, mean, rstd: (mean - x) * rstd),
        known("gamma-of-neighbour", "gamma is that of the neighbouring channel."),
    ),
    {
        "y": (
            Term("the normalized x, times gamma,", lambda x_hat, gamma: x_hat * gamma, 1),
            Term("beta", lambda x, beta: beta + 0 * x, 1),
            Term("a constant of 1", lambda x: 1 + 0 * x, 0),
        )
    },
    "Work out by hand what one channel with the samples 1 and 3 gives with gamma 1, beta 0 and eps 0, then eps 3.",
)
