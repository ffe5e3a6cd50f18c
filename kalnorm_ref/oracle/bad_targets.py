"""Targets that are wrong as a whole, in ways that no step shows: what they do to memory, types, calls and state."""

from typing import NamedTuple

import numpy as np

from .arithmetic import Arithmetic
from .case import MAPS, channel_axis, rounded
from .emulation import Emulation

STATEFUL = ("bn", "brn", "kn")
ALL = (*STATEFUL, "gn", "gkn")


class BadTarget(NamedTuple):
    """A bug of a whole target."""

    name: str
    text: str  # what is wrong
    ops: tuple
    factory: object  # a function of nothing that returns the factory of one run


class Tree(Emulation):
    """What they are made of: an honest emulation in the compute type of the case, in sums like trees."""

    def __init__(self, case):
        super().__init__(case, Arithmetic(case.compute_dtype, "tree"))


def mapped(out, f):
    """The results with `f` done to the maps."""
    return {name: f(a) if name in MAPS else a for name, a in out.items()}


class WritesOverX(Tree):
    def forward(self, tensors, training):
        out = super().forward(tensors, training)
        tensors["x"][...] = out["y"]
        return out


class WritesOverDy(Tree):
    def backward(self, dy, **upstream):
        out = super().backward(dy, **upstream)
        dy[...] = out["dx"]
        return out


class AccumulatesGradients(Tree):
    so_far = None

    def backward(self, dy, **upstream):
        out = super().backward(dy, **upstream)
        if self.so_far is not None:
            out |= {name: out[name] + self.so_far[name] for name in ("dgamma", "dbeta") if name in out}
        self.so_far = out
        return out


class CoarserResults(Tree):
    """y and dx in half as many bits as x."""

    def forward(self, tensors, training):
        return mapped(super().forward(tensors, training), self._coarser)

    def backward(self, dy, **upstream):
        return mapped(super().backward(dy, **upstream), self._coarser)

    def _coarser(self, a):
        if self.case.dtype == "float64":
            return np.asarray(a, np.float32)
        return np.asarray(rounded(np.asarray(a, np.float64), "bfloat16"), np.float32)


def contiguous(a):
    """What lies in memory where an array with strides begins, read without them."""
    return a if a.base is None or a.flags.c_contiguous else a.base.reshape(-1)[: a.size].reshape(a.shape)


class IgnoresStrides(Tree):
    def forward(self, tensors, training):
        return super().forward(tensors | {"x": contiguous(tensors["x"])}, training)

    def backward(self, dy, **upstream):
        return super().backward(contiguous(dy), **upstream)


class IgnoresTheLayout(Tree):
    """Channels are taken to lie where they lie in the most common layout of the other kind, first or last."""

    def forward(self, tensors, training):
        return self._back(super().forward(tensors | {"x": self._other(tensors["x"])}, training))

    def backward(self, dy, **upstream):
        return self._back(super().backward(self._other(dy), **upstream))

    def _axes(self, a):
        """Channel axis of the case, and the one that memory is taken to have."""
        own = channel_axis(self.case.layout)
        return own, 1 if own == a.ndim - 1 else a.ndim - 1

    def _other(self, a):
        own, taken = self._axes(a)
        shape = np.moveaxis(a, own, taken).shape
        return np.moveaxis(np.ascontiguousarray(a).reshape(shape), taken, own)

    def _back(self, out):
        def back(a):
            own, taken = self._axes(a)
            return np.ascontiguousarray(np.moveaxis(a, own, taken)).reshape(a.shape)

        return mapped(out, back)


class UpdatesInInference(Tree):
    def forward(self, tensors, training):
        out = super().forward(tensors, training)
        if not training:
            seen = self.seen
            super().forward(tensors, True)
            self.seen = seen
        return out


class SwallowsNaN(Tree):
    def forward(self, tensors, training):
        return super().forward(tensors | {"x": np.nan_to_num(tensors["x"])}, training)


class TrainsForever(Tree):
    """The statistics of the batch, in inference too."""

    def forward(self, tensors, training):
        return super().forward(tensors, True)


class KeepsTheFirstX(Tree):
    """What backward needs is saved by the first forward alone."""

    saved = None

    def forward(self, tensors, training):
        out = super().forward(tensors, training)
        self.saved = self.saved or (self.seen, self.before)
        return out

    def backward(self, dy, **upstream):
        self.seen, self.before = self.saved
        return super().backward(dy, **upstream)


class StateInSixteenBits(Tree):
    def get_state(self):
        coarse = self.case.dtype if self.case.dtype in ("float16", "bfloat16") else "float16"
        return {name: rounded(np.asarray(a, np.float64), coarse) for name, a in super().get_state().items()}


class WholeTilesOnly(Tree):
    """Channels behind the last whole tile of four are never written."""

    def forward(self, tensors, training):
        return mapped(super().forward(tensors, training), self._tiled)

    def backward(self, dy, **upstream):
        return mapped(super().backward(dy, **upstream), self._tiled)

    def _tiled(self, a):
        axis = channel_axis(self.case.layout)
        whole = a.shape[axis] // 4 * 4
        return np.where(np.arange(a.shape[axis]).reshape([-1 if i == axis else 1 for i in range(a.ndim)]) < whole, a, 0)


def statistics_kept_by_shape():
    """Statistics are computed once for each shape of x, and kept for whoever comes next with the same."""
    kept = {}

    def mean(x, average):
        return kept.setdefault(("mean", x.shape, x.dtype), average(x))

    def var(x, average):
        return kept.setdefault(("var", x.shape, x.dtype), average((x - average(x)) ** 2))

    def factory(case):
        target = Tree(case)
        target.changes = {"mean": mean, "var": var, "observed_mean": mean, "observed_var": var}
        if case.op in ("kn", "gkn"):  # their mean and var are those of the estimate
            del target.changes["mean"], target.changes["var"]
        return target

    return factory


def always(target):
    """Runs that keep nothing."""
    return lambda: target


BAD_TARGETS = (
    BadTarget("writes-over-x", "y is written over x", ALL, always(WritesOverX)),
    BadTarget("writes-over-dy", "dx is written over dy", ALL, always(WritesOverDy)),
    BadTarget(
        "gradients-accumulate",
        "dgamma and dbeta add up over the calls: the accumulators are not cleared",
        ALL,
        always(AccumulatesGradients),
    ),
    BadTarget("coarser-results", "y and dx come in a type of half as many bits", ALL, always(CoarserResults)),
    BadTarget("ignores-strides", "a view is read as if it were contiguous", ALL, always(IgnoresStrides)),
    BadTarget("ignores-layout", "channels first and channels last are confused", ALL, always(IgnoresTheLayout)),
    BadTarget("updates-in-inference", "inference updates the running values", STATEFUL, always(UpdatesInInference)),
    BadTarget("swallows-nan", "NaN in x is taken for 0, Inf for the largest number", ALL, always(SwallowsNaN)),
    BadTarget("trains-forever", "inference normalizes with the batch, and updates", STATEFUL, always(TrainsForever)),
    BadTarget("keeps-first-x", "backward uses what the first forward saved", STATEFUL, always(KeepsTheFirstX)),
    BadTarget("state-in-coarse-type", "the running values are kept in 16 bits", STATEFUL, always(StateInSixteenBits)),
    BadTarget("whole-tiles-only", "channels behind the last tile of four stay 0", ALL, always(WholeTilesOnly)),
    BadTarget("stale-statistics", "statistics are kept by the shape of x", ALL, statistics_kept_by_shape),
)
