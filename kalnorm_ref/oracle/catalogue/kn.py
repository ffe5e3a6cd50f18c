"""Kalman normalization's cases: what any prior is asked, statistics batches, running estimates, sizes."""

from . import values as v
from .kalman_values import about, for_all
from .plain import gradients, inputs, layouts, parameters
from .priors import HALF, of_priors
from .questions import ask, asked
from .stateful import running

SHAPE, FOUR = (3, 2, 2, 5), (4, 1, 3, 5)


def cases(tier="core", seed=0):
    """The cases of Kalman normalization, in a fixed order. tier: core or extended; seed: of all draws."""
    return asked("kn", QUESTIONS, tier, seed)


def statistics_batches():
    why = "Two statistics batches of two images: statistics apart, gradients of the parameters summed."
    yield ask("batches-2", why, FOUR, "float32", "bfloat16", x=v.unlike_samples, batches=2)
    why = "Four statistics batches of one image."
    yield ask("batches-4", why, FOUR, batches=4)
    why = "Four statistics batches, channels first: a batch is consecutive images, not consecutive rows."
    yield ask("batches-4-NCHW", why, FOUR, layout="NCHW", x=v.unlike_samples, batches=4)
    why = "A diagonal transition in each of two statistics batches."
    yield ask("batches-diagonal", why, FOUR, batches=2, transition="diagonal")
    why = "One gain and one noise for all: their gradients are summed over statistics batches and channels."
    yield ask("batches-numbers", why, FOUR, batches=2, gain=0.3, noise=0.25)
    shared = {"previous_mean": for_all(about(2)), "previous_var": for_all(v.uniform(0.5, 3))}
    why = "One previous estimate for all statistics batches: its gradients are summed."
    yield ask("batches-one-previous", why, FOUR, batches=2, **shared)
    why = "Statistics batches without a prior."
    yield ask("batches-first", why, FOUR, x=v.unlike_samples, batches=2, prior=False)
    why = "Six steps of two statistics batches: one update each, with the mean of the estimates over them."
    yield ask("batches-sequence", why, FOUR, x=v.unlike_steps, batches=2, before=5)
    rare = {"eps": 2.0, "gamma": v.uniform(-2, -0.5), "decay": None, "before": 2, "batches": 2}
    why = "Large eps, negative gamma, a cumulative average and a square transition, all in half precision."
    yield ask("rare-half", why, FOUR, *HALF, x=v.unlike_steps, previous=5, **rare, larger={"previous": 48})


def chains():
    why = "Six steps without a prior: the estimate is that of the batch."
    yield ask("first-sequence", why, SHAPE, x=v.unlike_steps, prior=False, before=5)
    why = "Inference without a prior."
    yield ask("inference-first", why, SHAPE, prior=False, training=False)


def sizes():
    why = "m = 2: 1/m and 1/(m - 1) taken for each other, at their largest."
    yield ask("two-values", why, (2, 5), large=(2, 48))
    why = "m = 1: the batch has no variance, the prior gives it, and dx is not 0."
    yield ask("one-value", why, (1, 5), large=(1, 48))
    why = "N = 1: the samples are positions."
    yield ask("one-image", why, (1, 3, 3, 5), large=(1, 31, 29, 48))
    why = "C = 1: axes of length 1 are squeezed away."
    yield ask("one-channel", why, (3, 2, 2, 1), large=(9, 11, 13, 1))
    why = "33 channels of three values: a remainder in every vector and tile."
    yield ask("33-channels", why, (3, 33), previous=3, large=(5, 513))
    why = "m = 585: more than a block of 256, with a remainder."
    yield ask("many-values", why, (5, 9, 13, 1), large=(31, 17, 19, 2))


def plain():
    """What any normalizer is asked."""
    return (*layouts(), *inputs((1,), (1,)), *parameters(), *gradients())


QUESTIONS = (*of_priors(SHAPE, 5, 48), *statistics_batches(), *chains(), *running(), *sizes(), *plain())
