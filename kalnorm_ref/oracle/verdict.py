"""How one tensor, and one case, is judged.

Verdicts, worst first:
    ERROR            the target raised, or returned something that is no such tensor
    NONFINITE        NaN or Inf where the truth is finite, or the other way round
    FAIL             wrong, and no known reason fits
    BUG?:name        wrong, and exactly this seeded bug explains every wrong tensor
    CONVENTION:name  another convention, not declared by the target
    SINGLEPASS       fits the budget of E[x^2] - E[x]^2 only
    LOWSTAT          fits the budget of statistics in the storage type only
    PASS:serial      right, as sums in one accumulator can be
    PASS             right: within the budget of sums like trees
    EXACT            right to the last bit that the storage has
    SKIP             not run, with the reason;  XFAIL   expected to fail, and failed
"""

import functools
from typing import NamedTuple

import numpy as np

from .arrays import storage
from .budget import budget, serial
from .case import UNITS, channel_axis, half_ulp, rounded
from .replay import Replay

VERDICTS = (
    "ERROR",
    "NONFINITE",
    "FAIL",
    "BUG?",
    "CONVENTION",
    "SINGLEPASS",
    "LOWSTAT",
    "PASS:serial",
    "PASS",
    "EXACT",
    "SKIP",
    "XFAIL",
)
RIGHT = ("PASS:serial", "PASS", "EXACT")
NEUTRAL = (*RIGHT, "SKIP", "XFAIL")


def severity(verdict):
    """Place of a verdict in VERDICTS; BUG?:x and CONVENTION:x count as BUG? and CONVENTION."""
    return VERDICTS.index(verdict if verdict in VERDICTS else verdict.partition(":")[0])


class TensorResult(NamedTuple):
    """What became of one tensor of one case."""

    name: str
    verdict: str
    ratio: float  # the largest error over its budget
    error: float  # there
    index: tuple  # where
    got: float
    want: float
    note: str = ""


class CaseResult(NamedTuple):
    """What became of one case."""

    case: object  # the Case
    verdict: str
    tensors: tuple  # of TensorResult
    note: str = ""  # the reason of a SKIP, the message of an ERROR, what a diagnosis says
    explanations: tuple = ()  # names of the changes that explain it
    missing: tuple = ()  # tensors that the target did not return: not covered
    seconds: float = 0.0
    returned: dict = {}  # noqa: RUF012  # what the target returned, float64 by name


class Truth:
    """Expected values of a case and their budgets, each computed when first asked for."""

    def __init__(self, case, want):
        self.case, self.want = case, want
        self._budgets = {}
        self.predictions = {}  # by the name of a change, see diagnosis.py

    @functools.cached_property
    def replay(self):
        """The steps of the case in float64, to be run under changes."""
        return Replay(self.case)

    def budget(self, kind="tree"):
        """Budget by tensor, before storage: "tree", "serial", "single_pass" or "low_statistics"."""
        if kind not in self._budgets:
            m = self.case.samples
            options = {
                "tree": {},
                "serial": {"c": serial(m)},
                "single_pass": {"c": serial(m), "single_pass": True},
                "low_statistics": {"c": serial(m), "low_statistics": True},
            }[kind]
            own = budget(self.case._replace(dtype="float64"), **options)  # of the reference itself
            self._budgets[kind] = {name: a + own[name] for name, a in budget(self.case, **options).items()}
        return self._budgets[kind]

    def ratios(self, name, got, dtype, kind="tree", want=None, looser=1.0):
        """Error over budget of each element; Inf where only one of the two is finite."""
        case, want = self.case, self.want[name] if want is None else want
        allowed = self.budget(kind)[name] * looser
        allowed = allowed + half_ulp(np.abs(want) + allowed, kept_in(case, name, dtype))
        with np.errstate(all="ignore"):
            ratio = np.abs(got - want) / allowed
        both = ~np.isfinite(got) & ~np.isfinite(want)
        ratio = np.where(both, 0.0, np.where(np.isfinite(got) & np.isfinite(want), ratio, np.inf))
        return np.where(judged(case, ratio.shape), ratio, 0.0)


def kept_in(case, name, dtype):
    """The type whose last rounding is granted: that of the case, or the coarser one that the target returned, if the
    case's maps have it."""
    ours = storage(case, name)
    return dtype if dtype in UNITS and UNITS[ours] < UNITS[dtype] <= UNITS[case.dtype] else ours


def judged(case, shape):
    """Where a result is judged: all but the channels that the case leaves out."""
    mask = np.ones(shape, bool)
    for channel in case.unjudged:
        if shape == case.tensors["x"].shape:
            mask[(slice(None),) * channel_axis(case.layout) + (channel,)] = False
        elif shape and shape[-1] == case.channels:
            mask[..., channel] = False
        else:
            mask[...] = False
    return mask


def shaped(a, like):
    """`a` in the shape of `like` where only axes of length 1 differ; else None."""
    squeezed = tuple(n for n in a.shape if n != 1)
    return a.reshape(like.shape) if squeezed == tuple(n for n in like.shape if n != 1) else None


def judge_tensor(truth, name, got, dtype):
    """The verdict on one tensor, as far as it can be had without diagnosis: ERROR, NONFINITE, FAIL or a right one."""
    case, want = truth.case, truth.want[name]
    if shaped(got, want) is None:
        return TensorResult(
            name, "ERROR", np.inf, np.nan, (), np.nan, np.nan, f"has shape {got.shape}; expected {want.shape}"
        )
    got = shaped(got, want)
    ratio = truth.ratios(name, got, dtype)
    if ratio.size == 0:
        return TensorResult(name, "EXACT", 0.0, 0.0, (), np.nan, np.nan)
    index = np.unravel_index(np.argmax(ratio), ratio.shape)
    worst = float(ratio[index])
    place = tuple(int(i) for i in index)
    with np.errstate(invalid="ignore"):  # Inf - Inf
        error = float(np.abs(got[index] - want[index]))
    figures = worst, error, place, float(got[index]), float(want[index])
    if worst == np.inf:
        return TensorResult(name, "NONFINITE", *figures)
    if worst > 1:
        right = truth.ratios(name, got, dtype, "serial").max() <= 1
        return TensorResult(name, "PASS:serial" if right else "FAIL", *figures)
    mask = judged(case, want.shape)
    exact = np.array_equal(got[mask], rounded(want, kept_in(case, name, dtype))[mask], equal_nan=True)
    return TensorResult(name, "EXACT" if exact else "PASS", *figures)
