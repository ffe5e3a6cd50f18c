"""Every intermediate value of a forward and a backward, in order, beside its equation and the line that made it.

>>> import numpy as np, kalnorm_ref as kr
>>> trace = kr.trace(kr.observe, np.array([[1.0], [3.0]]))
>>> [(step.symbol, step.equation, step.value.ravel().tolist()) for step in trace.steps]
[('x', '', [1.0, 3.0]), ('xbar', 'B1', [2.0]), ('S', 'B1', [1.0])]
"""

import dataclasses
from pathlib import Path

import numpy as np

from .recorder import Note, Recorder, Step

__all__ = ["Note", "Step", "Trace", "trace"]


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """What a function did: `steps` in order, a note on each, and the function's own result."""

    title: str
    steps: tuple[Step, ...]
    notes: tuple[Note, ...]
    result: object
    about: str = ""  # one line on what was run

    def text(self, fractions=False):
        """All steps as text, in ASCII; with `fractions`, 7/4 = 1.75 where a fraction of small denominator is meant."""
        from . import text

        return text.render(self, fractions)

    def html(self, fractions=False):
        """All steps as one page of HTML that needs no other file and asks for none."""
        from . import page

        return page.render(self, fractions)

    def save(self, path):
        """Write all values to `path` (npz, without pickle): an array "NNN name" for each step, and the arrays names,
        symbols, equations, files and lines."""
        arrays = {f"{number:03d} {step.name}": step.value for number, step in enumerate(self.steps, 1)}
        for field in ("name", "symbol", "equation", "file", "line"):
            arrays[f"{field}s"] = np.array([getattr(step, field) for step in self.steps])
        with Path(path).open("wb") as stream:
            np.savez(stream, **arrays)


def trace(function, /, *args, **kwargs):
    """Run function(*args, **kwargs) in the NumPy backend and record every value that it computes.

    Followed are the public definitions of this package, their staged siblings, and `function` itself: each name that a
    line of theirs binds, and each result, is a step. A value that only changes hands is a step once. Private helpers
    are one operation. Of a function without readable source (typed at a prompt) the arguments and results are steps.
    Shapes: any; Moments become two steps, caches none.
    Returns: Trace, with `steps` of (name, symbol, equation, shape, value, file, line).
    Raises: TypeError if `function` cannot be called; ValueError if nothing in it could be followed; and whatever
        `function` raises.
    """
    if not callable(function):
        raise TypeError(f"function is {type(function).__name__}; expected something to call, such as kr.observe")
    recorder = Recorder()
    result = recorder.run(function, args, kwargs)
    name = getattr(function, "__name__", type(function).__name__)
    if not recorder.steps:
        raise ValueError(f"{name} has no step; expected a function in Python, or one that calls those of kalnorm_ref")
    return Trace(name, tuple(recorder.steps), tuple(recorder.notes), result)
