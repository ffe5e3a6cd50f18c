"""The rules of a hunt: one bug, six suspects, hints, and an experiment for everybody who is innocent."""

from typing import NamedTuple

import numpy as np

from .. import bugs
from ..draws import Draws
from .experiments import EXPERIMENTS, FAILS, PASSES, backwards, batch, forwards
from .methods import METHODS

SUSPECTS = 6


class Suspect(NamedTuple):
    """A bug that may be the one."""

    name: str
    text: str


class Accusation(NamedTuple):
    """The answer to an accusation."""

    right: bool
    text: str

    def __repr__(self):
        return self.text


class Hunt:
    """An implementation with one bug. `forward` and `backward` are its functions, `suspects` what it may be."""

    def __init__(self, seed, method, guilty, suspects):
        self.seed, self.suspects = seed, suspects
        self.forward, self.backward = method.make(bugs.find(guilty).steps)
        self._method, self._guilty, self._hints = method, guilty, 0

    def __repr__(self):
        between = "".join(f", {name}" for name in self._method.extra)
        width = max(len(s.name) for s in self.suspects)
        lines = [
            f"hunt {self.seed}: {self._method.title} with one bug",
            f"forward(x, gamma, beta{between}, eps) -> {', '.join(self._method.outputs)}",
            f"backward(dy, x, gamma{between}, eps) -> {', '.join(self._method.gradients)}",
            "suspects:",
            *(f"  {s.name:<{width}}  {s.text}" for s in self.suspects),
        ]
        return "\n".join(lines)

    def batch(self):
        """Arguments by name for an experiment: those of forward, and dy."""
        return batch(self._method)

    def accuse(self, name):
        """Whether it is this one; if not, an experiment that shows why not.

        Returns: Accusation: right, and text. Raises: ValueError for a name that is no suspect's.
        """
        if name not in [s.name for s in self.suspects]:
            raise ValueError(
                f"no suspect is called {name!r}; expected one of {', '.join(s.name for s in self.suspects)}"
            )
        if name == self._guilty:
            return Accusation(True, f"Yes: {bugs.find(name).text}.")
        return Accusation(False, f"No, {name} is innocent. {_alibi(self._method, name, self.forward, self.backward)}")

    def hint(self):
        """A hint, each call a further one: which function, which result, which experiment. The last one stays."""
        self._hints += 1
        wrong = _wrong(self._method, self.forward, self.backward)
        if self._hints == 1:
            where = {name != "y" for name in wrong}
            both = "forward and backward return wrong numbers"
            return both + "." if len(where) == 2 else _only("backward" if True in where else "forward")
        if self._hints == 2:
            return f"Wrong: {', '.join(wrong)}. Right: {', '.join(_right(self._method, wrong)) or 'nothing'}."
        return _revealing(self._method, self.forward, self.backward)


def hunt(seed):
    """A hunt for a bug: an implementation of a normalizer with exactly one planted in it. The same seed, the same bug.

    seed: a whole number >= 0. Returns: Hunt: forward and backward, plain functions of float64 arrays; suspects, one of
    which it is; accuse(name) and hint(). Raises: TypeError or ValueError for another seed.

    >>> import kalnorm_ref as kr
    >>> h = kr.oracle.hunt(3)
    >>> sum(h.accuse(suspect.name).right for suspect in h.suspects)
    1
    """
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed is {seed!r}; expected a whole number")
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected a number >= 0")
    draws = Draws(f"hunt/{seed}")
    method = METHODS[int(draws.integers(0, len(METHODS), 1)[0])]
    order = np.argsort(draws.uniform(0, 1, len(method.suspects)))[:SUSPECTS]
    names = [method.suspects[i] for i in order]
    guilty = names[int(draws.integers(0, SUSPECTS, 1)[0])]
    return Hunt(seed, method, guilty, tuple(Suspect(name, bugs.find(name).text) for name in names))


# ---- what can be said of an implementation -----------------------------------------------------------------------


def results(method, forward, backward):
    """What an implementation returns for a batch, by name."""
    a = batch(method)
    return {"y": forwards(method, forward, a)} | backwards(method, backward, a)


def _wrong(method, forward, backward):
    """Names of the results that are wrong."""
    got, want = results(method, forward, backward), results(method, *method.make({}))
    return [name for name in want if not np.allclose(got[name], want[name], rtol=1e-9, atol=1e-9)]


def _right(method, wrong):
    return [name for name in (*method.outputs, *method.gradients) if name not in wrong]


def _only(name):
    other = "forward" if name == "backward" else "backward"
    return f"{name} returns wrong numbers. {other} returns right ones."


def _alibi(method, suspect, forward, backward):
    """An experiment that the bug would fail and this implementation passes; else a number that tells the two apart."""
    other = method.make(bugs.find(suspect).steps)
    for experiment in EXPERIMENTS:
        here, there = experiment.measure(method, forward, backward), experiment.measure(method, *other)
        if here < PASSES and there > FAILS:
            return f"{experiment.text} With that bug it would be off by {_percent(there)}; here it is not."
    return _numbers(method, results(method, forward, backward), results(method, *other))


def _percent(a):
    return f"{100 * a:.3g} % of the largest value"


def _numbers(method, here, there):
    """The element that differs most."""
    sizes = {name: np.max(np.abs(here[name] - there[name])) / np.max(np.abs(there[name])) for name in here}
    name = max(sizes, key=sizes.get)
    at = np.unravel_index(np.argmax(np.abs(here[name] - there[name])), here[name].shape)
    place = name + (f"[{', '.join(map(str, at))}]" if at else "")
    return (
        f"On the arguments that batch() of this hunt returns, {place} would be {there[name][at]:.6g} with that bug; "
        f"here it is {here[name][at]:.6g}."
    )


def _revealing(method, forward, backward):
    """The first experiment that the implementation fails."""
    for experiment in EXPERIMENTS:
        if experiment.measure(method, forward, backward) > FAILS:
            return f"An experiment that fails here: {experiment.text}"
    return "No simple experiment shows it: compare every result with one that you have worked out by hand."
