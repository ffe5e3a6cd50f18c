"""How far a right answer may be from the expected one: the error law of the kit, for float64 and for float32.

The bound runs through the steps of the exercise (bounds.py); the moments of the batch follow their own law (budget.py).
An answer may be SLACK times the bound away: it may compute in other steps than ours.
"""

from typing import NamedTuple

import numpy as np

from .. import steps as plans
from ..bounds import Bounded, clipped, parts, square_root
from ..budget import _steps as moments_by_law
from ..budget import serial
from ..case import UNITS
from .exercise import shaped

SLACK = 4.0


class Level(NamedTuple):
    """An accuracy that an answer may have."""

    dtype: str
    single_pass: bool
    remark: str  # what a student is told who answers right at this level


LEVELS = (
    Level("float64", False, ""),
    Level(
        "float64",
        True,
        "One remark: the variance seems to be computed as a difference of two large numbers, which loses digits where "
        "the mean is large against the deviation. Here float64 has enough of them; float32 would not.",
    ),
    Level("float32", False, "One remark: the computation runs in float32, and is judged by what float32 can do."),
)
CANCELLED = Level(
    "float32",
    True,
    "The variance is a difference of two large numbers, computed in float32: right on paper, but where the mean is "
    "large against the deviation no digit is left of it. Subtract the mean before you square.",
)  # an answer at this level does not pass


def tolerance(exercise, data, level):
    """Bounds on the error of each output, by name."""
    u = UNITS[level.dtype]
    if exercise.bound is not None:
        return {name: SLACK * bound for name, bound in exercise.bound(data.arguments, u).items()}
    given = exercise.given(data.arguments)
    c = serial(given.get("m", 1))
    given |= {name: _bounded(given[name], c, u) for name in ("average", "samples_sum", "total") if name in given}
    given |= {"sqrt": square_root, "clip": clipped}
    given |= {n: Bounded(a, 0.0, u) for n, a in given.items() if isinstance(a, np.ndarray) and a.ndim == 1}
    if "eps" in given:
        given["eps"] = Bounded(np.float64(given["eps"]), u * given["eps"], u)
    law = moments_by_law("kn" if "observed_mean" in exercise.plan else "bn", c, u, level.single_pass, 0.0)
    plan = exercise.plan | {name: law[name] for name in law if name in exercise.plan and "x" in given}
    with np.errstate(all="ignore"):
        found = plans.run(plan, given)
    bounds = {output.name: _error(found[output.step], output, data) for output in exercise.outputs}
    if level.single_pass and exercise.difference is not None:
        bounds = {name: bounds[name] + more for name, more in exercise.difference(data.arguments, u).items()}
    return {name: SLACK * bound for name, bound in bounds.items()}


def _bounded(f, c, u):
    def g(a):
        value, error = parts(a)
        return Bounded(f(value), f(error + 0 * value) + c * u * f(np.abs(value)), u)

    return g


def _error(a, output, data):
    value, error = parts(a)
    return shaped(error + 0 * value, output, data) + 1e-300
