"""The exercise relu-moments: a Gaussian through max(z, 0)."""

import numpy as np
from scipy.special import ndtr

from ..shared_steps import steps
from .exercise import DataSet, Exercise, Output, Term, mistake, numbers, start
from .relu_edges import EDGES

NORMAL, UNIFORM = numbers("relu-moments")


def deviation(var, sqrt):
    return sqrt(var)


def t(mean, deviation):
    return mean / deviation


def cdf(t):
    return ndtr(t)


def density(t):
    return np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)


def rectified_mean(mean, deviation, cdf, density):
    return mean * cdf + deviation * density


def second(mean, var, deviation, cdf, density):
    return (mean**2 + var) * cdf + mean * deviation * density


def rectified_var(second, rectified_mean):
    return second - rectified_mean**2


def _gaussians(name, mean, var):
    return DataSet(name, {"mean": np.asarray(mean, "f4").astype("f8"), "var": np.asarray(var, "f4").astype("f8")})


SETS = (
    _gaussians("means near 0", NORMAL(7, deviation=0.75), UNIFORM(0.5, 3.0, 7)),
    _gaussians("a matrix of means of both signs", NORMAL(3, 4, deviation=2.0), UNIFORM(0.25, 4.0, 3, 4)),
    _gaussians("means of exactly 0", np.zeros(5), UNIFORM(0.25, 4.0, 5)),
    _gaussians("means far above 0, where nothing is rectified", NORMAL(5, mean=300.0), UNIFORM(0.25, 2.0, 5)),
    _gaussians("means far below 0, where all is rectified", NORMAL(5, mean=-60.0), UNIFORM(0.25, 2.0, 5)),
    _gaussians("one number each, not an array of several", 0.75, 2.25),
)


def _natural_scale(arguments, u):
    mean, var = arguments["mean"], arguments["var"]
    return {
        "rectified_mean": 8 * u * (np.abs(mean) + np.sqrt(var)),
        "rectified_var": 8 * u * (mean**2 + var),
    }


def _var_first(mean, var, deviation, cdf, density):
    first = rectified_mean(mean, deviation, cdf, density)
    return rectified_var((mean**2 + var) * cdf + mean * deviation * density, first)


def _mean_last(mean, deviation, cdf, density):
    return rectified_mean(mean, deviation, cdf, density)


def _with_constant(c):
    text = f"A constant of {c:g} is added to the "
    inside, outside = {"deviation": lambda var: np.sqrt(var + c)}, {"deviation": lambda var: np.sqrt(var) + c}
    in_t, in_both = {"t": lambda mean, deviation: mean / (deviation + c)}, {"second": _second_with(c)}
    yield mistake(f"constant-{c:g}", text + "variance: the formula has none.", **inside)
    yield mistake(f"constant-{c:g}-in-both", text + "variance: the formula has none.", **inside, **in_both)
    yield mistake(f"constant-{c:g}-outside", text + "deviation: the formula has none.", **outside)
    yield mistake(f"constant-{c:g}-in-t", text + "deviation that the mean is divided by.", **in_t)


def _second_with(c):
    return lambda mean, var, deviation, cdf, density: second(mean, var + c, deviation, cdf, density)


EXERCISE = Exercise(
    "relu-moments",
    (Output("rectified_mean", "rectified_mean", "mean"), Output("rectified_var", "rectified_var", "mean")),
    SETS,
    start,
    steps(deviation, t, cdf, density, rectified_mean, second, rectified_var),
    (
        mistake(
            "second-moment",
            "rectified_var is the second moment: the square of the rectified mean is not subtracted.",
            rectified_var=lambda second: second,
        ),
        mistake(
            "mean-not-squared",
            "In rectified_var the rectified mean is subtracted unsquared.",
            rectified_var=lambda second, rectified_mean: second - rectified_mean,
        ),
        mistake(
            "minus-square-of-given-mean",
            "In rectified_var the square of the mean before the ReLU is subtracted; that "
            "of the rectified mean belongs there.",
            rectified_var=lambda second, mean: second - mean**2,
        ),
        mistake(
            "rectified-inputs",
            "rectified_mean is the mean, rectified: a Gaussian with a negative mean has a positive part all the same.",
            rectified_mean=lambda mean: np.maximum(mean, 0),
        ),
        mistake(
            "rectified-inputs-twice",
            "Mean and variance are treated as if z were one number: the mean is rectified, and "
            "the variance kept where the mean is positive.",
            rectified_mean=lambda mean: np.maximum(mean, 0),
            rectified_var=lambda mean, var: np.where(mean > 0, var, 0),
        ),
        mistake(
            "density-missing",
            "rectified_mean lacks the term with the density.",
            rectified_mean=lambda mean, cdf: mean * cdf,
        ),
        mistake(
            "density-missing-in-its-own",
            "rectified_mean lacks the term with the density; rectified_var is right nevertheless.",
            rectified_mean=lambda mean, cdf: mean * cdf,
            rectified_var=lambda second, mean, deviation, cdf, density: (
                second - rectified_mean(mean, deviation, cdf, density) ** 2
            ),
        ),
        mistake(
            "cdf-missing",
            "rectified_mean lacks the distribution function in its term with the mean.",
            rectified_mean=lambda mean, deviation, density: mean + deviation * density,
        ),
        mistake(
            "mean-term-missing",
            "rectified_mean lacks the term with the mean.",
            rectified_mean=lambda deviation, density: deviation * density,
        ),
        mistake(
            "density-term-sign",
            "In rectified_mean the term with the density has the wrong sign.",
            rectified_mean=lambda mean, deviation, cdf, density: mean * cdf - deviation * density,
        ),
        mistake(
            "density-times-var",
            "In rectified_mean the density is multiplied by the variance; the deviation belongs there.",
            rectified_mean=lambda mean, var, cdf, density: mean * cdf + var * density,
        ),
        mistake(
            "density-unscaled",
            "In rectified_mean the term with the density lacks its factor, a deviation.",
            rectified_mean=lambda mean, cdf, density: mean * cdf + density,
        ),
        mistake(
            "density-of-z",
            "The terms with the density lack a factor, the deviation: it is missing, or the density is that of z, "
            "which is divided by it.",
            density=lambda t, deviation: density(t) / deviation,
        ),
        mistake(
            "t-over-var",
            "The mean is divided by the variance where it is standardized; the deviation belongs there.",
            t=lambda mean, var: mean / var,
        ),
        mistake(
            "t-is-mean",
            "The mean is not standardized: distribution function and density are taken at the mean itself.",
            t=lambda mean: mean,
        ),
        mistake(
            "t-sign",
            "The standardized mean has the wrong sign: the probability is that of z below 0, and that of z "
            "above 0 belongs there.",
            t=lambda mean, deviation: -mean / deviation,
        ),
        mistake(
            "var-is-deviation",
            "The argument var is taken for a deviation: its root is missing.",
            deviation=lambda var: var,
        ),
        mistake(
            "var-squared",
            "The argument var is taken for a deviation throughout: it is squared where a variance belongs.",
            deviation=lambda var: var,
            second=lambda mean, var, cdf, density: (mean**2 + var**2) * cdf + mean * var * density,
        ),
        mistake(
            "density-not-normalized",
            "The density lacks its constant: it does not integrate to 1.",
            density=lambda t: np.exp(-(t**2) / 2),
        ),
        mistake(
            "density-constant-without-root",
            "The constant of the density lacks its root.",
            density=lambda t: np.exp(-(t**2) / 2) / (2 * np.pi),
        ),
        mistake(
            "density-without-half",
            "The exponent of the density lacks 1/2.",
            density=lambda t: np.exp(-(t**2)) / np.sqrt(2 * np.pi),
        ),
        mistake(
            "cdf-and-density-swapped",
            "Distribution function and density are swapped.",
            cdf=lambda t: density(t),
            density=lambda t: ndtr(t),
        ),
        mistake(
            "erf-for-cdf",
            "The error function stands in the place of the distribution function, without the change of "
            "argument and range between the two.",
            cdf=lambda t: 2 * ndtr(np.sqrt(2) * t) - 1,
        ),
        mistake(
            "erf-without-root",
            "In the distribution function the argument of the error function lacks its root of 2.",
            cdf=lambda t: ndtr(np.sqrt(2) * t),
        ),
        mistake(
            "second-lacks-mean-square",
            "The second moment lacks the square of the mean.",
            second=lambda mean, var, deviation, cdf, density: var * cdf + mean * deviation * density,
        ),
        mistake(
            "second-lacks-var",
            "The second moment lacks the variance.",
            second=lambda mean, deviation, cdf, density: mean**2 * cdf + mean * deviation * density,
        ),
        mistake(
            "second-lacks-density",
            "The second moment lacks the term with the density.",
            second=lambda mean, var, cdf: (mean**2 + var) * cdf,
        ),
        mistake(
            "second-density-sign",
            "In the second moment the term with the density has the wrong sign.",
            second=lambda mean, var, deviation, cdf, density: (mean**2 + var) * cdf - mean * deviation * density,
        ),
        mistake(
            "second-lacks-cdf",
            "The second moment lacks the distribution function.",
            second=lambda mean, var, deviation, density: mean**2 + var + mean * deviation * density,
        ),
        mistake(
            "second-density-lacks-mean",
            "In the second moment the term with the density lacks the mean.",
            second=lambda mean, var, deviation, cdf, density: (mean**2 + var) * cdf + deviation * density,
        ),
        mistake(
            "second-density-lacks-deviation",
            "In the second moment the term with the density lacks the deviation.",
            second=lambda mean, var, cdf, density: (mean**2 + var) * cdf + mean * density,
        ),
        mistake(
            "var-times-cdf",
            "rectified_var is the variance times the probability that z is above 0: the spread between "
            "zeros and positive values, and the cut tail, are missing.",
            rectified_var=lambda var, cdf: var * cdf,
        ),
        mistake(
            "deviation-returned",
            "rectified_var is a deviation: its root was taken.",
            rectified_var=lambda second, rectified_mean: np.sqrt(np.maximum(second - rectified_mean**2, 0)),
        ),
        mistake(
            "conditional",
            "The moments are those of z given that it is above 0: the zeros are left out.",
            rectified_mean=lambda mean, deviation, cdf, density: mean + deviation * density / cdf,
            second=lambda mean, var, deviation, cdf, density: mean**2 + var + mean * deviation * density / cdf,
        ),
        mistake(
            "mean-ignored",
            "The mean is taken to be 0: the results do not depend on it.",
            t=lambda mean: 0 * mean,
            rectified_mean=lambda deviation, density: deviation * density,
            second=lambda var, cdf: var * cdf,
        ),
        *(one for c in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6) for one in _with_constant(c)),
        mistake("swapped", "The two results are swapped.", rectified_mean=_var_first, rectified_var=_mean_last),
    ),
    {
        "rectified_mean": (
            Term("the term with the distribution function", lambda mean, cdf: mean * cdf, 1),
            Term("the term with the density", lambda deviation, density: deviation * density, 1),
        ),
    },
    "Draw a million z, rectify them, and take the moments of what comes out.",
    _natural_scale,
    edges=EDGES,
)
