"""Cases of group normalization: three groups where nothing else is said."""

from . import values as v
from .plain import BOTH, SINGLE, SMALL, gradients, inputs, layouts, parameters
from .questions import ALL, ask, asked


def cases(tier="core", seed=0):
    """The cases of one tier."""
    return asked("gn", QUESTIONS, tier, seed)


def shapes():
    why = "Nothing is special: a missing term, a wrong sign or a wrong axis shows here first."
    yield ask("ordinary", why, SMALL, *ALL)
    why = "One group is layer normalization over positions and channels: normalizing channels alone shows."
    yield ask("one-group", why, SMALL, *BOTH, groups=1)
    why = "A group per channel is instance normalization: a mean over a group of one channel must not leave its axis."
    yield ask("a-group-per-channel", why, SMALL, *BOTH, groups=6, larger={"groups": 48})
    why = "Two groups of three channels: the number of groups taken for the channels of a group shows."
    yield ask("two-groups", why, SMALL, groups=2)
    why = "Deviations differ from channel to channel: groups of every third channel, not of consecutive ones, show."
    yield ask("consecutive-groups", why, (2, 2, 2, 6), x=v.unlike_channels)
    why = "Samples have means of their own: statistics over the batch show."
    yield ask("unlike-samples", why, SMALL, x=v.unlike_samples)
    why = "L = 1 and three channels a group: statistics over positions alone find one value."
    yield ask("one-position", why, (5, 6), groups=2, large=(256, 48))
    why = "Height and width are 1 in a map: the axes are there, and there is nothing along them."
    yield ask("one-position-map", why, (4, 1, 1, 6), groups=2, large=(61, 1, 1, 48))
    why = "m = 2: the unbiased variance is twice the biased one, so that no tolerance takes one for the other."
    yield ask("two-values", why, (3, 6), *BOTH, groups=3, eps=1.0, large=(3, 512), larger={"groups": 256})
    why = "N = 1: what is kept for each sample is squeezed away."
    yield ask("one-image", why, (1, 3, 4, 6), large=(1, 37, 41, 48))
    why = "C = 1: one group of one channel, and gamma is taken for a scalar."
    yield ask("one-channel", why, (3, 2, 3, 1), groups=1, large=(9, 11, 13, 1))
    why = "Five groups of three channels: neither is a power of two, and both leave remainders."
    yield ask("15-channels", why, (2, 2, 2, 15), groups=5, large=(5, 9, 7, 61 * 3), larger={"groups": 61})
    why = "One channel more than a warp has threads, and eleven to a group: the last one is left unwritten."
    yield ask("33-channels", why, (2, 2, 33), groups=3, large=(2, 50, 33 * 7), larger={"groups": 21})
    why = "Many groups of few values: work split within a group finds none, and its empty sums enter all the same."
    yield ask("many-groups", why, (2, 64), groups=32, large=(2, 512), larger={"groups": 256})
    why = "m = 1002: sums in one accumulator lose digits, and blocks have a remainder."
    yield ask("many-values", why, (1, 167, 6), groups=1, large=(2, 10000, 10))
    why = "The first value lies 1000 deviations away: differences of squares about it lose the variance."
    yield ask("outlier-first", why, (1, 251, 2), groups=1, x=v.first(2003.0), more=BOTH, large=(2, 1000, 10))
    why = "One channel a group and one position: m = 1, where x_hat is 0 and y is beta."
    yield ask("one-value-per-channel", why, (4, 6), *BOTH, groups=6, large=None)
    why = "N = 0: there is nothing to do, and a launch of no blocks is an error."
    yield ask("empty-batch", why, (0, 2, 2, 6), large=None, more=SINGLE)
    why = "Inference is the same computation: there are no running values."
    yield ask("inference", why, SMALL, training=False)
    x, beta = v.shared("equal/x", v.ordinary), v.shared("equal/beta", v.normal(1.0))
    why = "dy equals x, and gamma beta: a tensor taken for its equal shows."
    yield ask("equal-tensors", why, SMALL, x=x, dy=x, gamma=beta, beta=beta)
    why = "gamma is ones and beta zeros, as at the start of a training: memory shared by mistake shows."
    yield ask("new-layer", why, SMALL, gamma=v.ones, beta=v.zeros)


QUESTIONS = (
    *shapes(),
    *layouts(),
    *inputs(unjudged=(0, 1), all_unjudged=range(16)),
    *parameters(),
    *gradients(),
)
