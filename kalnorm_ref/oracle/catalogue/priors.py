"""Questions to normalizers with a prior: gains, transitions, noises, priors far and near, each path of a gradient."""

import numpy as np

from . import values as v
from .kalman_values import about, averages, identity, level, second, spread
from .questions import ALL, ask

BOTH = "float64", "float32"
HALF = ("bfloat16", "float16")
FAR = {"previous_mean": about(30, 5)}  # delta^2 of hundreds


def gains(shape):
    why = "The prior alone standardizes; the gradient of the gain sees the batch all the same."
    yield ask("gain-0", why, shape, gain=v.zeros)
    why = "The batch alone standardizes; the gradient of the gain sees the prior all the same."
    yield ask("gain-1", why, shape, gain=v.ones)
    why = "1 - 2q = 0: the one gain that hides delta^2 in its gradient."
    yield ask("gain-0.5", why, shape, gain=spread(0.5))
    why = "0 and 1 beside another: p and q taken for each other."
    yield ask("gain-ends", why, shape, gain=spread(0, 1, 0.25, 1, 0))
    why = "One gain for all: its gradient is summed over them."
    yield ask("gain-number", why, shape, gain=0.3)
    why = "One gain, of 0: a test for its truth takes it for absent."
    yield ask("gain-number-0", why, shape, gain=0.0)
    why = "A far prior and gains off 1/2: every term of the gradient of the gain is large."
    yield ask("gain-uneven", why, shape, "float32", "bfloat16", gain=spread(0.1, 0.9, 0.25, 0.75, 0.05), **FAR)


def transitions(shape, size, large):
    why = "As many channels before: a transposed transition has the right shape, and only the values tell."
    yield ask("square", why, shape, previous=size, larger={"previous": large})
    why = "Fewer channels before."
    yield ask("widening", why, shape, previous=2)
    why = "More channels before."
    yield ask("narrowing", why, shape, previous=2 * size + 1, larger={"previous": 2 * large + 1})
    why = "One channel before: products along it have one term."
    yield ask("from-one", why, shape, previous=1)
    why = "A diagonal transition: its gradient is a vector."
    yield ask("diagonal", why, shape, transition="diagonal")
    why = "The previous estimate as it is: the elements off the diagonal have gradients all the same."
    yield ask("identity", why, shape, transition=identity, previous=size, larger={"previous": large})
    why = "A transition of zeros: the prior is N(0, noise), and the transition's gradient is not zero."
    yield ask("transition-0", why, shape, transition=v.zeros)
    why = "A previous variance of tens: the transition's gradient through the variance outweighs the other."
    yield ask("transition-variance", why, shape, "float32", "bfloat16", previous_var=v.uniform(20, 40))
    why = "One noise for all: its gradient is summed over them."
    yield ask("noise-number", why, shape, noise=0.25)
    why = "A noise of zeros is allowed, and has a gradient."
    yield ask("noise-0", why, shape, noise=v.zeros)
    why = "Noise far above the rest: added once, to the variance and not to the mean."
    yield ask("noise-large", why, shape, noise=v.uniform(40, 60))


def priors(shape, size, large):
    why = "A prior far off: p q delta^2 is most of the variance, and 2 p q dv delta most of what passes to the mean."
    yield ask("prior-far", why, shape, "float32", *HALF, **FAR)
    agreed = {"transition": identity, "noise": 0.0, "previous_mean": spread(3), "previous_var": spread(4), "x": level}
    why = "A prior equal to the batch: the estimate is both, whatever the gain."
    yield ask("prior-agreed", why, shape, previous=size, **agreed, larger={"previous": large})
    why = "A prior variance far below the batch's."
    yield ask("prior-narrow", why, shape, previous_var=v.uniform(0.001, 0.03), noise=0.001)
    why = "Means of 1000 deviations in batch and prior: their difference delta cancels."
    both = {"transition": averages, "x": about(1e3), "previous_mean": about(1e3, 0.5)}
    yield ask("offset-of-both", why, shape, *BOTH, more=BOTH, **both)
    why = "Means of 30 deviations in batch and prior, in half precision."
    yield ask("offset-of-both-half", why, shape, *HALF, transition=averages, x=about(30), previous_mean=about(30, 0.5))
    why = "No prior, but a next normalizer: its gradients reach x through the batch."
    yield ask("first", why, shape, "float32", "bfloat16", prior=False)
    why = "Neither prior nor next normalizer: batch normalization, or group normalization."
    yield ask("first-and-last", why, shape, prior=False, destimate_mean=None, destimate_var=None)
    new = {"gamma": v.ones, "beta": v.zeros, "previous_mean": v.zeros, "previous_var": v.ones, "noise": v.ones}
    why = "Zeros and ones as in a new network: memory that tensors share by mistake shows."
    yield ask("new-network", why, shape, **new)
    why = "A NaN in one noise: that variance is lost, and not the mean beside it."
    yield ask("nan-noise", why, shape, noise=second(np.nan, v.uniform(0.1, 0.6)))
    why = "A NaN in one gain: that estimate is lost, and no other."
    yield ask("nan-gain", why, shape, gain=second(np.nan, v.uniform(0.1, 0.9)))
    why = "A NaN in the previous mean reaches every estimate; dbeta is not lost."
    yield ask("nan-previous", why, shape, previous_mean=second(np.nan, about(2)))


def estimates(shape):
    why = "Random values of everything: a missing term shows here first."
    yield ask("ordinary", why, shape, *ALL)
    why = "The last of a chain: no gradient comes from a next normalizer."
    yield ask("last", why, shape, destimate_mean=None, destimate_var=None)
    why = "Gradients of zeros from the next normalizer."
    yield ask("destimate-0", why, shape, destimate_mean=v.zeros, destimate_var=v.zeros)
    why = "A gradient to the estimate's mean alone."
    yield ask("destimate-mean", why, shape, destimate_var=v.zeros)
    why = "A gradient to the estimate's variance alone."
    yield ask("destimate-var", why, shape, destimate_mean=v.zeros)
    why = "dy = 0: what the next normalizer sends reaches x, prior, transition, noise and gain by itself."
    yield ask("destimate-alone", why, shape, "float32", "bfloat16", dy=v.zeros)
    why = "dy large: what reaches the prior passes through x_hat, mean and rstd."
    yield ask("dy-large", why, shape, dy=about(0, 100))


def of_priors(shape, size, large):
    """All of them, with `size` channels or groups, in the extended tier `large` ones."""
    return (*estimates(shape), *gains(shape), *transitions(shape, size, large), *priors(shape, size, large))
