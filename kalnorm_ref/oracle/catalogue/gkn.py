"""Group Kalman normalization's cases: what any prior is asked of rows, groups of every size."""

from . import values as v
from .kalman_values import about, for_all
from .plain import gradients, inputs, layouts, parameters
from .priors import HALF, of_priors
from .questions import ask, asked

SHAPE = (2, 1, 4, 6)


def cases(tier="core", seed=0):
    """The cases of group Kalman normalization, in a fixed order. tier: core or extended; seed: of all draws."""
    return asked("gkn", QUESTIONS, tier, seed)


def groups():
    why = "G = 1: a row is a sample."
    yield ask("one-group", why, SHAPE, groups=1)
    why = "Two groups of three neighbours, not of every other channel."
    yield ask("two-groups", why, SHAPE, x=v.unlike_channels, groups=2)
    why = "G = C: a row is one channel of one sample."
    yield ask("group-per-channel", why, SHAPE, groups=6, large=(8, 9, 11, 6))
    why = "L = 1: a row is the channels of its group."
    yield ask("one-position", why, (5, 9), large=(256, 48))
    why = "Rows of two values: 1/m and 1/(m - 1) taken for each other, at their largest."
    yield ask("two-values", why, (5, 6), large=(256, 6))
    why = "L = 1 and G = C: the row has no variance, the prior gives it, and dx is not 0."
    yield ask("one-value", why, (5, 6), groups=6, large=(256, 6))
    why = "A row of more values than a block of 256, with a remainder."
    yield ask("many-values", why, (1, 9, 15, 2), groups=1, large=(2, 31, 37, 6))
    why = "N = 1: one row a group, and gradients of the transition from it alone."
    yield ask("one-image", why, (1, 3, 3, 6), large=(1, 31, 29, 48))
    why = "One previous estimate for all samples: its gradients are summed over them."
    shared = {"previous_mean": for_all(about(2)), "previous_var": for_all(v.uniform(0.5, 3))}
    yield ask("one-previous", why, SHAPE, **shared)
    why = "One gain and one noise: their gradients are summed over samples and groups."
    yield ask("numbers", why, SHAPE, gain=0.3, noise=0.25)
    why = "Large eps, negative gamma and a square transition, all in half precision."
    yield ask("rare-half", why, SHAPE, *HALF, eps=2.0, gamma=v.uniform(-2, -0.5), previous=3)


def plain():
    """What any normalizer is asked."""
    return (*layouts(), *inputs((0, 1), tuple(range(16))), *parameters(), *gradients())


QUESTIONS = (*of_priors(SHAPE, 3, 3), *groups(), *plain())
