"""Means over seeds, their intervals, and differences between methods seed by seed.

    mean = sum_i e_i / n        s^2 = sum_i (e_i - mean)^2 / (n - 1)        interval: mean +- t s / sqrt(n)

with t the 0.975 quantile of Student's t with n - 1 degrees of freedom. It is right where seeds are drawn independently
and errors are near to normal; with few seeds it is wide, as it should be. One seed has no interval. A paired difference
is the same of d_i = e_i(one method) - e_i(the other), over the seeds that both have finished: a seed fixes the weights
and the order of the images, and what it does to both alike cancels.
"""

import math
from typing import NamedTuple

from scipy import stats

from ...layers.statistics import INFERENCE

LEVEL = 0.95
DIGITS = 9  # of a difference in percent; what rounding leaves of equal errors is not a spread
WITHIN = ("norm", "statistics_batch_size", "seed")  # what makes no group: rows, columns, seeds


class Estimate(NamedTuple):
    """A mean over n seeds and half the width of its interval; half is None for n = 1, both are for n = 0."""

    n: int
    mean: float | None
    half: float | None

    def excludes_zero(self):
        """Whether 0 is outside of the interval. Equal differences, as of a coarse error, tell no spread: not then."""
        return bool(self.half) and abs(self.mean) > self.half


class Group(NamedTuple):
    """Runs that differ in method, statistics batch and seed alone."""

    settings: dict  # those that vary between the groups, name: text
    runs: tuple

    @property
    def methods(self):
        """In the order of the runs."""
        return list(dict.fromkeys(run.norm for run in self.runs))

    @property
    def sizes(self):
        return sorted({run.size for run in self.runs})

    @property
    def modes(self):
        """The inference modes that some run was evaluated in."""
        return [mode for mode in INFERENCE if any(mode in run.errors for run in self.runs)]

    def cell(self, norm, size, mode):
        """{seed: error in percent, nan where it diverged} of a method with a statistics batch."""
        here = (run for run in self.runs if (run.norm, run.size) == (norm, size) and mode in run.errors)
        return dict(sorted((run.seed, run.errors[mode]) for run in here))


def groups(runs):
    """Runs in groups of equal settings but for method, statistics batch and seed, in the order of what varies."""
    names = [name for name in runs[0].settings if name not in WITHIN]
    varying = [name for name in names if len({run.settings[name] for run in runs}) > 1]
    found = {}
    for run in runs:
        found.setdefault(tuple(run.settings[name] for name in varying), []).append(run)
    keys = sorted(found, key=lambda key: [ordered(text) for text in key])
    return [Group(dict(zip(varying, key, strict=True)), tuple(found[key])) for key in keys]


def ordered(text):
    """What to sort the text of a cell by: nothing, then numbers by size, then words."""
    try:
        return (1, float(text), "") if text else (0, 0.0, "")
    except ValueError:
        return (2, 0.0, text)


def estimate(values):
    """The Estimate of values, all of them finite.

    >>> n, mean, half = estimate([1.0, 2.0, 3.0])
    >>> n, mean, round(half, 4)
    (3, 2.0, 2.4841)
    """
    n = len(values)
    if n == 0:
        return Estimate(0, None, None)
    if min(values) == max(values):  # what rounding would make of it is no spread
        return Estimate(n, float(values[0]), None if n == 1 else 0.0)
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Estimate(n, mean, float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * spread / math.sqrt(n))


def finite(errors):
    """{seed: error} without the seeds that diverged."""
    return {seed: error for seed, error in errors.items() if math.isfinite(error)}


def paired(ours, theirs):
    """The Estimate of ours - theirs, both {seed: error}, over the seeds that both have, diverged ones left out."""
    ours, theirs = finite(ours), finite(theirs)
    return estimate([round(ours[seed] - theirs[seed], DIGITS) for seed in ours if seed in theirs])


def best(cells):
    """The method whose mean is lowest, if the interval of its paired difference to the next excludes 0, else None.

    cells: {method: {seed: error}}. A method of which a run diverged is not compared, since its mean is that of what is
    left. The next is the one with the next lowest mean; equal means are in the order given.
    """
    means = {norm: math.fsum(errors.values()) / len(errors) for norm, errors in cells.items() if errors}
    first, *others = sorted((norm for norm in means if math.isfinite(means[norm])), key=means.get) or [None]
    if not others:
        return None
    return first if paired(cells[first], cells[others[0]]).excludes_zero() else None
