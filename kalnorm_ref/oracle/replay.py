"""A case computed once, then again under one change after the other: only what depends on a change is computed anew."""

import numpy as np

from . import steps as plans
from .arithmetic import EXACT, changed, evaluate, given_values, named, stored_maps


class Replay:
    """The steps of a case in an arithmetic; `storage` as in `evaluate`."""

    def __init__(self, case, arithmetic=EXACT, storage=None):
        self.case, self.arithmetic, self.storage = case, arithmetic, storage
        self.results = evaluate(case, arithmetic, None, storage)
        if not case.before:
            with np.errstate(all="ignore"):
                self.given = given_values(case, arithmetic, 0)
                self.steps = changed(case, {}, self.given)
                self.values = plans.run(self.steps, self.given)

    def under(self, changes):
        """The results under changes, as `evaluate` has them; those without where none of them enters the case."""
        if self.case.before:  # the state that they lead to differs too
            return evaluate(self.case, self.arithmetic, changes, self.storage)
        values, anew = dict(self.values), set()
        with np.errstate(all="ignore"):
            for name, step in changed(self.case, changes, self.given).items():
                if step is not self.steps[name] or anew.intersection(plans.parameters(step)):
                    values[name] = step(**{needed: values[needed] for needed in plans.parameters(step)})
                    anew.add(name)
            if not anew:
                return self.results
            out = named(values, self.case)
            return out if self.storage is None else stored_maps(out, self.storage)
