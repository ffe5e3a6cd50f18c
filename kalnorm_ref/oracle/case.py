"""What a case is: inputs in their storage type, what to compute, why; and how its layout maps to rows of channels."""

import math
from typing import NamedTuple

import numpy as np

OPS = ("bn", "brn", "kn", "gn", "gkn")
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}  # roundoff u
COMPUTED_IN = {"float64": "float64", "float32": "float32", "bfloat16": "float32", "float16": "float32"}
LAYOUTS = ("NC", "NLC", "NHWC", "NDHWC", "NCL", "NCHW", "NCDHW")
VIEWS = ("padded", "reversed")  # strides: rows with a gap behind them, samples backwards in memory
MAPS = ("x", "y", "dy", "dx")  # tensors in the layout of the case
CONVENTION = {
    "decay": "weight of the old running value",
    "running_var": "biased",
    "running_std": "average of the standard deviation, which contains eps",
    "eps": "inside the square root",
    "corrections": "from the running values before this batch's update",
    "estimate_average": "mean over the statistics batches",
}


class Case(NamedTuple):
    """One question to a normalizer.

    tensors: what forward is given, by name; dy and the other gradients are in `upstream`. Statistics are (C,), or
    (B, C) with params["statistics_batches"] = B > 1. before: x of training steps that come first, without backward.
    training: whether the judged forward is one of training. state: running values at the start. params: eps, decay
    (None: cumulative), groups, r_max, d_max, statistics_batches. unjudged: channels whose values nobody promises
    (an overflow, say), while the others must be right.
    """

    id: str
    op: str
    why: str
    dtype: str  # storage: float64, float32, bfloat16, float16
    layout: str  # one of LAYOUTS
    params: dict
    tensors: dict
    upstream: dict
    state: dict
    before: tuple = ()
    training: bool = True
    view: str | None = None  # one of VIEWS
    unjudged: tuple = ()
    kills: tuple = ()  # names of the seeded bugs that this case is known to kill

    @property
    def convention(self):
        """The conventions that its expected values follow."""
        return CONVENTION

    @property
    def batches(self):
        return self.params.get("statistics_batches", 1)

    @property
    def channels(self):
        return self.tensors["x"].shape[channel_axis(self.layout)]

    @property
    def samples(self):
        """m: the values behind one statistic."""
        if self.op in ("gn", "gkn"):
            return math.prod(self.tensors["x"].shape[1:]) // self.params["groups"]
        return self.tensors["x"].size // max(1, self.channels * self.batches)

    @property
    def compute_dtype(self):
        return COMPUTED_IN[self.dtype]


def channel_axis(layout):
    return layout.index("C")


def to_rows(a, case):
    """A map of the case as (B, m, C): statistics batches, samples, channels; for gn and gkn (N, L, C)."""
    a = np.moveaxis(a, channel_axis(case.layout), -1)
    first = len(a) if case.op in ("gn", "gkn") else case.batches
    return a.reshape(first, math.prod(a.shape[:-1]) // max(1, first), a.shape[-1])


def from_rows(rows, case):
    """The inverse of to_rows."""
    axis = channel_axis(case.layout)
    shape = list(case.tensors["x"].shape)
    shape.append(shape.pop(axis))
    return np.moveaxis(rows.reshape(shape), -1, axis)


def rounded(a, dtype):
    """float64 values of `a` rounded to the storage type, ties to even. bfloat16 has no NumPy type."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return np.asarray(a, dtype).astype(np.float64)
    with np.errstate(over="ignore"):
        single = np.asarray(a, np.float64).astype(np.float32)
    bits = single.view(np.uint32).astype(np.uint64)
    nearest = ((bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)).astype(np.uint32)
    return np.where(np.isfinite(single), nearest.view(np.float32), single).astype(np.float64)


def half_ulp(a, dtype):
    """Half a unit in the last place of `a` in the storage type: what the last rounding may add."""
    exponent = {"float64": -1022, "float32": -126, "bfloat16": -126, "float16": -14}[dtype]
    with np.errstate(all="ignore"):
        power = np.floor(np.log2(np.abs(a)))
        power = np.maximum(np.where(np.isfinite(power), power, exponent), exponent)
        return UNITS[dtype] * 2.0**power
