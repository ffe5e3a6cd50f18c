"""Targets that several test files bring before the conformance kit."""

import numpy as np

from kalnorm_ref.oracle import bugs
from kalnorm_ref.oracle.arithmetic import Arithmetic
from kalnorm_ref.oracle.emulation import EVERYTHING, Emulation


class Right(Emulation):
    """Right, in the compute type of the case."""

    def __init__(self, case, changes=None):
        super().__init__(case, Arithmetic(case.compute_dtype, "tree"), changes)


class WithoutProjection(Right):
    """Of bn alone; dx lacks the projection term."""

    capabilities = {name for name in EVERYTHING if "." not in name or name.startswith("bn.")} - {"float16"}

    def __init__(self, case):
        super().__init__(case, bugs.find("dx-lacks-projection").steps)


class NothingButY(Right):
    """Forward alone."""

    capabilities = frozenset({"bn.train", "float32", "NHWC"})

    def forward(self, tensors, training):
        return {"y": super().forward(tensors, training)["y"]}


class CoarseStatistics(Right):
    """Rounds mean and variance to the type of x."""

    def __init__(self, case):
        def mean(x, average):
            return self.rounded(average(x))

        def var(x, mean, average):
            return self.rounded(average((x - mean) ** 2))

        super().__init__(case, {"mean": mean, "var": var})

    def rounded(self, a):
        return a.astype(np.float16).astype(a.dtype)


class Refuses(Right):
    """Knows no case."""

    capabilities = frozenset({"gkn.train", "float64", "NDHWC"})


def raises(case):
    raise RuntimeError("no <device> & no \x1b memory")


def function(x, gamma, beta, eps):
    """Batch normalization as a plain function."""
    axes = tuple(range(x.ndim - 1))
    with np.errstate(all="ignore"):
        x_hat = (x - x.mean(axis=axes)) / np.sqrt(x.var(axis=axes) + eps)
        return gamma * x_hat + beta if x.size else x
