"""Cases of batch normalization."""

from . import values as v
from .plain import BOTH, SINGLE, SMALL, gradients, inputs, layouts, parameters
from .questions import ALL, ask, asked

FEW = (2, 2, 5)  # m = 4
FAR = {"running_mean": 60.0, "running_var": 900.0}


def cases(tier="core", seed=0):
    """The cases of one tier."""
    return asked("bn", QUESTIONS, tier, seed)


def shapes():
    why = "Nothing is special: a missing term, a wrong sign or a wrong axis shows here first."
    yield ask("ordinary", why, SMALL, *ALL)
    why = "m = 2: the unbiased variance is twice the biased one, so that no tolerance takes one for the other."
    yield ask("two-values", why, (2, 7), *BOTH, large=(2, 512))
    why = "With m = 2 dx vanishes but for eps; here eps is of the order of the variance, and dx is there."
    yield ask("two-values-eps-1", why, (2, 7), eps=1.0, large=(2, 512))
    why = "m = 3: m/(m - 1) is 1.5 in rstd, in the running variance and in the means of the backward, one by one."
    yield ask("three-values", why, (3, 1, 1, 5), large=(3, 1, 1, 257))
    why = "N = 1: a kernel that averages over images alone divides by 1 and finds no variance."
    yield ask("one-image", why, (1, 3, 4, 5), large=(1, 37, 41, 48))
    why = "Height and width are 1: a loop over positions by a vector's width runs past the row, or not at all."
    yield ask("one-position", why, (7, 1, 1, 5), large=(301, 1, 1, 48))
    why = "C = 1: the axis is squeezed away, and gamma is taken for a scalar."
    yield ask("one-channel", why, (3, 2, 3, 1), large=(9, 11, 13, 1))
    why = "13 channels leave a remainder in every vector and every tile: it is skipped, or done twice."
    yield ask("13-channels", why, (3, 2, 1, 13), large=(5, 9, 7, 61))
    why = "One channel more than a warp has threads: a grid rounded down leaves the last one unwritten."
    yield ask("33-channels", why, (2, 2, 33), large=(2, 50, 257))
    why = "Many channels of few values: work split over samples finds none, and its empty sums enter all the same."
    yield ask("many-channels", why, (3, 67), large=(3, 512))
    why = "m = 1001: sums in one accumulator lose digits, and blocks have a remainder."
    yield ask("many-values", why, (7, 143, 1), large=(10, 10000, 2))
    why = "The first value lies 1000 deviations away: differences of squares about it lose the variance."
    yield ask("outlier-first", why, (3, 167, 1), x=v.first(2003.0), more=BOTH, large=(10, 1000, 2))
    why = "m = 1: an unbiased variance divides by 0; an error, y = beta and NaN are all defended."
    yield ask("one-value-per-channel", why, (1, 5), *BOTH, large=None)
    why = "N = 0: 0/0 enters the running values and stays there for good."
    yield ask("empty-batch", why, (0, 2, 2, 5), large=None, more=SINGLE)
    why = "N = 0 with running values: there is nothing to do, and a launch of no blocks is an error."
    yield ask("empty-batch-inference", why, (0, 2, 2, 5), training=False, large=None, more=SINGLE)
    why = "Two halves with statistics of their own: the running variance is the mean of theirs, not that of the whole."
    yield ask("two-statistics-batches", why, (4, 2, 5), *ALL, x=v.unlike_samples, batches=2)


def states():
    why = "The old running values count for nothing: a decay taken as the weight of the new ones keeps them."
    yield ask("decay-0", why, SMALL, decay=0.0)
    why = "The old running values are near 0 and m is 4: biased or unbiased running variance, nothing dilutes it."
    yield ask("decay-0.9", why, FEW, *BOTH, state={"running_mean": 0.0, "running_var": 0.0}, decay=0.9)
    why = "The running values must stay as they are, to the last bit."
    yield ask("decay-1", why, SMALL, decay=1.0)
    why = "decay None at the first step: the old running values count for nothing, however large."
    yield ask("cumulative-first", why, FEW, decay=None, state=FAR)
    why = "decay None at the sixth step: the weights are 5/6 and 1/6, and a counter one off gives others."
    yield ask("cumulative-sixth", why, FEW, *BOTH, decay=None, before=5, x=v.unlike_steps)
    why = "Statistics differ from step to step: a running value overwritten, or updated twice, is far off."
    yield ask("five-steps", why, FEW, before=5, x=v.unlike_steps)
    why = "Twenty steps in float64: the recurrence is known to 14 digits, and nothing else looks like it."
    yield ask("twenty-steps", why, FEW, "float64", before=20, x=v.unlike_steps, more=BOTH)
    why = "Running values far from the batch: training that looks at them, as a shift or a floor, is off."
    yield ask("far-running-values", why, FEW, *BOTH, state=FAR)


def inference():
    still = {"training": False}
    why = "Running values unlike the batch: statistics of the batch in their place, or a dx through them, show."
    yield ask("inference", why, SMALL, *ALL, **still)
    why = "Training, then inference: an update that comes too late, or in inference too, shows."
    yield ask("inference-after-training", why, FEW, *ALL, before=5, x=v.unlike_steps, **still)
    why = "The running variance is far below eps: eps forgotten in inference, or outside the root, is wrong by far."
    tiny = {"running_mean": 3.0, "running_var": 1e-9}
    yield ask("inference-below-eps", why, FEW, *BOTH, state=tiny, eps=1e-3, **still)
    why = "gamma and beta are absent: the scale and shift that inference folds into one lack a part."
    yield ask("inference-no-parameters", why, FEW, gamma=None, beta=None, **still)
    why = "One value per channel is nothing special in inference: it must neither fail nor be beta."
    yield ask("inference-one-value", why, (1, 5), large=(1, 512), **still)
    why = "A NaN in x with running values: one y and one dgamma are lost, and nothing else."
    yield ask("inference-nan", why, SMALL, x=v.first(float("nan"), 1), **still)
    why = "An Inf in x with running values: one y and one dgamma are lost, and nothing else."
    yield ask("inference-infinity", why, SMALL, x=v.first(float("inf"), 1), **still)


def equal_tensors():
    mean, var = v.shared("equal/mean", v.normal(1.0)), v.shared("equal/var", v.uniform(0.5, 3))
    x = v.shared("equal/x", v.ordinary)
    equal = {"gamma": var, "beta": mean, "x": x, "dy": x, "state": {"running_mean": mean, "running_var": var}}
    # Without eps dx would be zero: dy is linear in x.
    why = "gamma equals the running variance, beta the running mean and dy x: a tensor taken for its equal shows."
    yield ask("equal-tensors", why, SMALL, eps=1.0, **equal)
    why = "gamma and the running variance are ones, beta and the running mean zeros: memory shared by mistake shows."
    new = {"gamma": v.ones, "beta": v.zeros, "state": {"running_mean": 0.0, "running_var": 1.0}}
    yield ask("new-layer", why, SMALL, before=2, **new)


QUESTIONS = (
    *shapes(),
    *layouts(),
    *inputs(unjudged=(1,), all_unjudged=(1,)),
    *parameters(),
    *gradients(),
    *states(),
    *inference(),
    *equal_tensors(),
)
