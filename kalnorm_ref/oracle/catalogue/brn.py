"""Batch renormalization's cases: every clip regime, and running values near and far."""

import numpy as np

from . import values as v
from .kalman_values import about, level, plus_minus, spread
from .plain import gradients, inputs, layouts, parameters
from .questions import ALL, ask, asked
from .stateful import running

BOTH, HALF = ("float64", "float32"), ("bfloat16", "float16")
SHAPE = (3, 2, 2, 5)
RATIOS = np.repeat([0.3, 1.25, 3.0], 3)  # s over the running std; between 1/2 and 2 it is not clipped
SHIFTS = np.tile([-2.5, 0.4, 2.5], 3)  # mean less running mean, in running stds; between -1 and 1 it is not clipped


def cases(tier="core", seed=0):
    """The cases of batch renormalization, in a fixed order. tier: core or extended; seed: of all draws."""
    return asked("brn", QUESTIONS, tier, seed)


def state(ratios, shifts):
    """Running values for which a batch of mean 3 and deviation 2 has these r and d, were nothing clipped."""
    std = 2 / np.array(ratios)
    return {"running_mean": spread(*(3 - np.array(shifts) * std)), "running_std": spread(*std)}


REGIMES = {"x": level, "r_max": 2.0, "d_max": 1.0, "state": state(RATIOS, SHIFTS)}
OPEN = {"r_max": 1000.0, "d_max": 1000.0}


def clipping():
    why = "r low, free, high by d low, free, high: where nothing is clipped y is that of inference, whatever the batch."
    yield ask("every-regime", why, (3, 2, 2, 9), *ALL, **REGIMES)
    limits = state([2, 0.5, 1, 2, 0.5], [0.5, -0.5, 0.5, 0, -0.25])
    limits = {"x": plus_minus, "eps": 0.0, "r_max": 2.0, "d_max": 0.5, "state": limits}
    why = "r and d exactly on their limits, in numbers exact in every type: no gradient passes there either."
    yield ask("on-the-limits", why, SHAPE, *ALL, **limits)
    why = "r_max = 1 and d_max = 0: batch normalization."
    yield ask("closed", why, SHAPE, r_max=1.0, d_max=0.0)
    why = "Nothing is clipped: y is that of inference, dx that of training."
    yield ask("open", why, SHAPE, **OPEN)
    why = "r_max = 3 and d_max = 5, where the published schedule ends."
    yield ask("published-limits", why, SHAPE, r_max=3.0, d_max=5.0)
    why = "d_max = 0 with r free: one limit taken for the other shows."
    yield ask("r-alone", why, SHAPE, r_max=4.0, d_max=0.0)
    why = "r_max = 1 with d free: the lower limit of r is 1/r_max, neither 0 nor -r_max."
    yield ask("d-alone", why, SHAPE, r_max=1.0, d_max=3.0)


def running_values():
    far = {"running_mean": spread(40, -25, 3, 60, 0), "running_std": spread(0.02, 50, 0.1, 20, 5)}
    why = "Running values far from the batch: a ratio upside down is hard to see near 1."
    yield ask("far", why, SHAPE, state=far, **OPEN)
    why = "The same, clipped: r and d are their limits, whatever rounding does to the statistics."
    yield ask("far-clipped", why, SHAPE, "float32", "bfloat16", state=far)
    why = "Inference with running values far from the batch."
    yield ask("inference-far", why, SHAPE, training=False, state=far)
    why = "Running values equal to the batch's: d cancels, and r = 1."
    yield ask("equal-to-batch", why, SHAPE, x=level, state=state([1], [0]))
    why = "Six steps with nothing clipped: the running values before each update reach y in full."
    yield ask("sequence-open", why, SHAPE, x=v.unlike_steps, before=5, **OPEN)
    why = "Six steps with eps = 1: the running std averages roots that hold eps, not roots of averages."
    yield ask("sequence-eps-1", why, SHAPE, x=v.unlike_steps, before=5, eps=1.0)
    why = "eps = 1 with nothing clipped: eps added again to the running std shows in r and d."
    yield ask("open-eps-1", why, SHAPE, eps=1.0, **OPEN)
    new = {"gamma": v.ones, "beta": v.zeros, "state": {"running_mean": 0.0, "running_std": 1.0}}
    why = "gamma equals the running std, beta the running mean: memory that they share by mistake shows."
    yield ask("new-layer", why, SHAPE, before=2, **new)
    near = {"running_mean": spread(1000.25, 999.5, 1001, 998, 1000)}
    why = "Batch and running mean 1000 deviations from zero: mean less running mean cancels."
    yield ask("offset-of-both", why, SHAPE, *BOTH, x=about(1e3), state=near, more=BOTH, **OPEN)


def statistics_batches():
    why = "Two statistics batches: statistics and corrections apart, one update with the mean over them."
    yield ask("batches-2", why, (4, 1, 3, 5), "float32", "bfloat16", x=v.unlike_samples, batches=2)
    why = "Four statistics batches of one image, channels first: consecutive images, not consecutive rows."
    yield ask("batches-4-NCHW", why, (4, 1, 3, 5), layout="NCHW", x=v.unlike_samples, batches=4, **OPEN)
    why = "Six steps of two statistics batches each: one update a step."
    yield ask("batches-sequence", why, (4, 1, 3, 5), x=v.unlike_steps, batches=2, before=5)
    rare = {"eps": 2.0, "gamma": v.uniform(-2, -0.5), "decay": None, "before": 2, "batches": 2}
    why = "Large eps, negative gamma, a cumulative average and two statistics batches, all in half precision."
    yield ask("rare-half", why, (4, 1, 3, 5), *HALF, x=v.unlike_steps, **rare, **OPEN)


def sizes():
    why = "m = 2: 1/m and 1/(m - 1) taken for each other, at their largest."
    yield ask("two-values", why, (2, 5), large=(2, 48))
    why = "m = 1: y is gamma d + beta, and dx is 0."
    yield ask("one-value", why, (1, 5), large=(1, 48))
    why = "N = 1: the samples are positions."
    yield ask("one-image", why, (1, 3, 3, 5), large=(1, 31, 29, 48))
    why = "C = 1: axes of length 1 are squeezed away."
    yield ask("one-channel", why, (3, 2, 2, 1), large=(9, 11, 13, 1))
    why = "33 channels of three values: a remainder in every vector and tile."
    yield ask("33-channels", why, (3, 33), large=(5, 513))
    why = "m = 585: more than a block of 256, with a remainder."
    yield ask("many-values", why, (5, 9, 13, 1), large=(31, 17, 19, 2))


def plain():
    """What any normalizer is asked. The limit that clips an infinite d is finite, or NaN: both are defended."""
    for q in (*layouts(), *inputs((1,), (1,)), *parameters(), *gradients()):
        yield q._replace(change=q.change | {"unjudged": (1,)}) if q.name == "infinity" else q


QUESTIONS = (*clipping(), *running_values(), *running(), *statistics_batches(), *sizes(), *plain())
