"""The steps as a target: honest implementations in every precision, and seeded bugs that run like any other code."""

import numpy as np

from .arithmetic import EXACT, evaluate
from .arrays import stored
from .case import LAYOUTS, OPS, UNITS, VIEWS, rounded

NEEDED = ("train", "eval", "backward", "state")
EVERYTHING = {f"{op}.{what}" for op in OPS for what in NEEDED} | {*UNITS, *LAYOUTS, *VIEWS, "statistics_batches"}


class Emulation:
    """A target made of the steps: `arithmetic` says how it computes, `changes` what it gets wrong."""

    capabilities = EVERYTHING
    conventions = ()

    def __init__(self, case, arithmetic=EXACT, changes=None):
        self.case, self.arithmetic, self.changes = case, arithmetic, changes
        self.state, self.updates = dict(case.state), 0

    def set_state(self, state):
        self.state = {name: np.array(a) for name, a in state.items()}

    def get_state(self):
        return self.state

    def forward(self, tensors, training):
        given = {name: np.asarray(a, np.float64) for name, a in tensors.items()}
        self.seen = self.case._replace(tensors=given, state=self.state, before=(), training=training)
        out = self._run({"dy": np.zeros_like(given["x"])})
        self.before = self.updates
        self.state = {name: out[name] for name in self.state}
        self.updates += training
        return {name: a for name, a in out.items() if name not in self.state and not name.startswith("d")}

    def backward(self, dy, **upstream):
        given = {"dy": dy, **upstream}
        self.updates, updates = self.before, self.updates
        out = self._run({name: np.asarray(a, np.float64) for name, a in given.items()})
        self.updates = updates
        return {name: a for name, a in out.items() if name.startswith("d")}

    def _run(self, upstream):
        case = self.seen._replace(upstream=upstream)
        out = evaluate(case, self.arithmetic, self.changes, None, self.updates)
        maps = {name: stored(rounded(out[name], case.dtype), case.dtype) for name in ("y", "dx")}
        return {name: np.asarray(a) for name, a in (out | maps).items()}


def emulated(arithmetic=EXACT, changes=None):
    """A factory of Emulations."""
    return lambda case: Emulation(case, arithmetic, changes)
