"""What an exercise is: a function to write, data to try it on, its named steps, and the mistakes made in them.

The steps are those of the kit (steps.py): the answer that is expected comes from running them, what a mistake returns
from running them with some bodies replaced, and how far rounding may lead from running them with bounds on the errors.
"""

from typing import NamedTuple

import numpy as np

from .. import bugs
from .. import steps as plans
from ..arithmetic import EXACT, Shape, sums
from ..draws import Draws


class DataSet(NamedTuple):
    """One question to the student's function."""

    name: str  # in words, as a sentence quotes it: "x with mean 300 and deviation 0.5"
    arguments: dict  # by name, in the order of the signature; every number is one that float32 has


class Output(NamedTuple):
    """One result of the function."""

    name: str
    step: str  # the name of the step whose value it is
    like: str  # the argument that has its shape


class Mistake(NamedTuple):
    """Something that students do, as other bodies of some steps."""

    name: str
    text: str  # a sentence for the student, which names what is wrong and does not write down what is right
    steps: dict


class Term(NamedTuple):
    """One of the terms that an output is the sum of, or could be."""

    text: str  # "the term that comes from the mean"
    value: object  # a step
    factor: float  # 1 or -1, 0 for one that does not belong there


class Edge(NamedTuple):
    """A question that is put to a right answer only, which passes whatever it returns."""

    arguments: dict
    results: tuple
    remark: str  # what a student is told whose function returns something else


class Exercise(NamedTuple):
    """A function to write."""

    name: str
    outputs: tuple  # of Output
    sets: tuple  # of DataSet
    given: object  # from arguments by name to the values that the steps start from
    plan: dict  # steps by name
    mistakes: tuple
    terms: dict  # by name of an output, a tuple of Term
    advice: str  # what to try where no mistake is recognized
    bound: object = None  # (arguments, u) to bounds by name of an output; None: run through the steps
    difference: object = None  # (arguments, u) to what a variance by a difference of second moments may add to them
    edges: tuple = ()  # of Edge

    @property
    def parameters(self):
        """Names of the arguments."""
        return tuple(self.sets[0].arguments)


def known(name, text):
    """A mistake that the kit plants in kernels, in words for a student."""
    return Mistake(name, text, bugs.find(name).steps)


def mistake(name, text, **steps):
    """A mistake by the steps that it changes."""
    return Mistake(name, text, steps)


def numbers(name):
    """Draws for the data of an exercise, rounded to float32, and so exact in both types."""
    draws = Draws(f"grading/{name}")

    def normal(*shape, mean=0.0, deviation=1.0):
        return np.float64(np.float32(mean + deviation * draws.normal(*shape)))

    def uniform(low, high, *shape):
        return np.float64(np.float32(draws.uniform(low, high, *shape)))

    return normal, uniform


def start(arguments):
    """The values that the steps start from: maps as one statistics batch, and how to sum."""
    values = {name: a[None] if name in ("x", "dy") else a for name, a in arguments.items()}
    if "x" in arguments:
        values["m"] = float(len(arguments["x"]))
    return values | sums(EXACT, Shape(None)) | {"sqrt": np.sqrt, "clip": np.clip, "expand": lambda a: a}


def changed(exercise, steps, values):
    """The plan of an exercise with other bodies in it, as far as what they need is there."""
    there = {*values, *exercise.plan}
    fitting = {name: step for name, step in steps.items() if there.issuperset(plans.parameters(step))}
    return {name: fitting.get(step.__name__, step) for name, step in exercise.plan.items()}


def values(exercise, data, steps=None):
    """All values by name, of the steps or of changed ones."""
    given = exercise.given(data.arguments)
    with np.errstate(all="ignore"):
        return plans.run(changed(exercise, steps or {}, given), given)


def results(exercise, data, steps=None):
    """What the function has to return, or what it returns with a mistake in it: arrays by name of the output."""
    found = values(exercise, data, steps)
    return {output.name: shaped(found[output.step], output, data) for output in exercise.outputs}


def shaped(a, output, data):
    """A value of a step in the shape of the output."""
    shape = np.shape(data.arguments[output.like])
    return np.broadcast_to(a, shape) if np.ndim(a) == 0 else np.reshape(np.broadcast_to(a, _room(a, shape)), shape)


def _room(a, shape):
    """The shape of the output with the axes of length 1 that a value of a step has in front."""
    return (1,) * (np.ndim(a) - len(shape)) + shape
