"""Seeded bugs and conventions: what people get wrong, each as the steps that it changes.

A convention is a difference that somebody chose (an unbiased running variance, say), and its gradients follow from it.
A bug is one that nobody wants, in the place that its text names and nowhere else.
"""

from ..case import OPS
from . import (
    backward,
    conventions,
    forward,
    group,
    kalman,
    kalman_backward,
    kalman_parameters,
    kalman_prior,
    moments,
    parameters,
    renorm,
    renorm_backward,
    state,
)
from .record import Change, change

ALL = (
    *conventions.CHANGES,
    *moments.CHANGES,
    *forward.CHANGES,
    *backward.CHANGES,
    *parameters.CHANGES,
    *state.CHANGES,
    *renorm.CHANGES,
    *renorm_backward.CHANGES,
    *kalman_prior.CHANGES,
    *kalman.CHANGES,
    *kalman_backward.CHANGES,
    *kalman_parameters.CHANGES,
    *group.CHANGES,
)


def changes(op, convention=None):
    """The changes of an operation: the conventions, the bugs, or with None both."""
    if op not in OPS:
        raise ValueError(f"op is {op!r}; expected one of {', '.join(OPS)}")
    return [c for c in ALL if op in c.ops and convention in (None, c.convention)]


def find(name):
    """The change of that name; ValueError if there is none."""
    for c in ALL:
        if c.name == name:
            return c
    raise ValueError(f"no bug or convention is called {name!r}; bugs.ALL lists all {len(ALL)} of them")


__all__ = ["ALL", "Change", "change", "changes", "find"]
