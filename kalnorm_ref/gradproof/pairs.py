"""What a pair is: a public f with its f_backward, the loops that say the same, and small random cases of it.

Functions are looked up in their module at every call, so that what is judged is what a user gets.
"""

import inspect
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..moments import Moments

C, M, G = 3, 5, 2  # channels, samples, statistics batches of the cases
EPS = 1e-3


class Pair(NamedTuple):
    """A forward, its backward, and the loops for both."""

    name: str  # as it is written after kr., without _forward
    owner: ModuleType  # of the package, where both are
    forward: str
    backward: str
    names: tuple  # of the arguments of forward
    differentiable: tuple  # (index, name) of each argument that has a gradient, in the order of the gradients
    loops: ModuleType
    kind: str  # what backward receives after the gradients from above: "arguments", "cache", "result" (all arguments,
    # then the result), "result alone", "options" (the arguments that have no gradient); or "loss": forward itself has
    # returned the gradient
    twin: bool  # whether there is a compiled twin
    draw: Callable  # of a Draw: yields label, arguments, gradients from above

    @property
    def title(self):
        return self.backward.removesuffix("_backward")

    @property
    def mistakes(self):
        return self.loops.MISTAKES[self.title].split()

    def loop(self, *arguments):
        return getattr(self.loops, self.title)(*arguments)

    def loop_backward(self, *arguments, mistake=None):
        return getattr(self.loops, self.backward)(*arguments, mistake=mistake)

    def cases(self):
        return [Case(self, *case) for case in self.draw(Draw(self.name))]


class Case(NamedTuple):
    """One pair on one set of arguments."""

    pair: Pair
    label: str  # what is special about it, or ""
    arguments: tuple
    given: tuple  # gradients of the first results, as backward receives them

    @property
    def name(self):
        return f"{self.pair.name}, {self.label}" if self.label else self.pair.name


def pair(owner, name, differentiable, loops, kind="arguments", twin=False):
    """Make a Pair of the function of a Draw that yields its cases."""

    def decorate(draw):
        title = name.rpartition(".")[2]
        forward = f"{title}_forward" if hasattr(owner, f"{title}_forward") else title
        names = tuple(inspect.signature(getattr(owner, forward)).parameters)
        found = tuple((names.index(argument), argument) for argument in differentiable.split())
        return Pair(name, owner, forward, f"{title}_backward", names, found, loops, kind, twin, draw)

    return decorate


class Draw:
    """Random arguments; every pair has a generator of its own, so that another pair does not change its cases."""

    def __init__(self, name):
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def normal(self, *shape, mean=0.0, std=1.0):
        return self.rng.normal(mean, std, shape)

    def positive(self, *shape):
        return self.rng.uniform(2.0, 20.0, shape)

    def x(self, *shape):
        """Data far from zero, as all of them should be: a forgotten mean shows."""
        return self.normal(*shape, mean=7.0, std=3.0)

    def moments(self, *shape):
        """Statistics near those of x."""
        return Moments(self.normal(*shape, mean=5.0, std=2.0), self.positive(*shape))

    def gaussian(self, *shape):
        """Statistics with both signs of the mean, from -3 to 5 standard deviations."""
        var = self.rng.uniform(0.5, 9.0, shape)
        return Moments(np.sqrt(var) * np.linspace(-3, 5, var.size).reshape(shape), var)

    def gradient(self, *shape):
        """From above, of Moments."""
        return Moments(self.normal(*shape), self.normal(*shape))

    def gamma(self):
        return self.rng.uniform(0.5, 2.0, C) * [1, -1, 1]

    def beta(self):
        return self.normal(C, mean=1.0)

    def gains(self, n=C):
        return self.rng.uniform(0.1, 0.9, n)
