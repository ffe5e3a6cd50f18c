"""Worked examples by name. The exact ones have eps = 0 and numbers that a reader can follow as fractions, by hand."""

from typing import NamedTuple

import numpy as np


class Example(NamedTuple):
    """A worked example of a method."""

    about: str
    arguments: dict
    fractions: bool  # whether to show 7/4 beside 1.75


def a(*values):
    return np.array(values, float)


def _exact(about, **arguments):
    return Example(about, arguments, True)


def _decimal(about, **arguments):
    return Example(about, arguments, False)


# four samples, two channels, standard deviations 3 and 3/2
FOUR = {
    "x": a([1, 4], [7, 1], [7, 0], [9, 1]),
    "dy": a([2, 1], [1, 2], [-1, -1], [2, 2]),
    "gamma": a(3, -2),
    "beta": a(1, -1),
    "eps": 0.0,
}
# three channels, of which the transition makes the prior (7, 3), (5/4, 1/2)
PREVIOUS = {
    "estimate_mean": a(6, 2, -1),
    "estimate_var": a(1 / 2, 1 / 2, 1 / 8),
    "transition": a([1 / 2, 1, -2], [1 / 2, 1 / 2, 1]),
    "noise": 1 / 8,
}
PAIR = {"doutput_mean": a(0.7, -1.2), "doutput_var": a(1.3, 0.4)}
GAUSSIAN = {"estimate_mean": a(0.5, -1.5), "estimate_var": a(2.25, 1.0)}
# two samples of two positions and four channels: the rows of four values have the deviations of FOUR
ROWS = {
    "x": a([[1, 7, 4, 1], [7, 9, 0, 1]], [[9, 1, 1, 4], [7, 7, 1, 0]]),
    "dy": a([[2, 1, 1, 2], [-1, 2, -1, 2]], [[1, -1, 2, 1], [2, 2, 1, -2]]),
    "groups": 2,
    "gamma": a(3, -2, 2, 1),
    "beta": a(1, -1, 0, 2),
    "eps": 0.0,
}

EXAMPLES = {
    "kn": {
        "exact": _exact(
            "two samples, two channels, fractions throughout",
            x=a([7 / 2, 5], [5 / 2, 3]),
            dy=a([-1, 2], [3, -1]),
            prior_mean=a(7, 3),
            prior_var=a(5 / 4, 1 / 2),
            gain=a(1 / 4, 1 / 2),
            gamma=a(4, 2),
            beta=a(2, 1),
            destimate_mean=a(3, 3),
            destimate_var=a(-1, 2),
            eps=0.0,
        ),
        "decimal": _decimal(
            "four samples, two channels, one gain, last normalizer of a chain",
            x=a([2.1, -0.4], [3.5, 0.9], [1.2, -1.7], [2.8, 0.3]),
            dy=a([0.3, -0.8], [1.1, 0.5], [-0.6, 0.2], [0.9, -1.4]),
            prior_mean=a(2.0, 0.5),
            prior_var=a(1.5, 0.8),
            gain=0.1,
            gamma=a(1.2, 0.7),
            beta=a(0.1, -0.3),
        ),
        "micro-batch": _decimal(
            "one sample alone: its variance is zero, and what holds is the prior",
            x=a([2.1, -0.4]),
            dy=a([0.3, -0.8]),
            prior_mean=a(2.0, 0.5),
            prior_var=a(1.5, 0.8),
            gain=0.1,
            gamma=a(1.2, 0.7),
            beta=a(0.1, -0.3),
        ),
    },
    "kn-predicted": {
        "exact": _exact(
            "the prior comes from three channels of the previous normalizer",
            x=a([7 / 2, 5], [5 / 2, 3]),
            dy=a([-1, 2], [3, -1]),
            **PREVIOUS,
            gain=a(1 / 4, 1 / 2),
            gamma=a(4, 2),
            beta=a(2, 1),
            eps=0.0,
        ),
    },
    "bn": {
        "exact": _exact("four samples, two channels, standard deviations 3 and 3/2", **FOUR),
        "two-samples": _exact(
            "with two samples in a batch, what batch normalization sends back is zero, whatever comes in",
            x=a([1, 4], [5, 1]),
            dy=a([2, 1], [-3, 2]),
            gamma=a(3, -2),
            beta=a(1, -1),
            eps=0.0,
        ),
    },
    "brn": {
        "exact": _exact(
            "the batch of bn, far enough from the running mean that d is clipped in the second channel",
            **FOUR,
            running_mean=a(5, 9 / 2),
            running_std=a(2, 2),
            r_max=2.0,
            d_max=1.0,
        ),
    },
    "gn": {
        "exact": _exact("two samples, two positions, four channels in two groups", **ROWS),
        "layer": _decimal("one group of all channels: layer normalization", **{**ROWS, "groups": 1, "eps": 1e-5}),
        "instance": _decimal("a group for each channel: instance normalization", **{**ROWS, "groups": 4, "eps": 1e-5}),
    },
    "gkn": {
        "exact": _exact(
            "the batch of gn with a prior for each sample and group",
            **ROWS,
            prior_mean=a([4, 1 / 2], [8, 5 / 2]),
            prior_var=a([7, 21 / 4], [7, 21 / 4]),
            gain=1 / 2,
            destimate_mean=a([1, -1], [2, 1]),
            destimate_var=a([2, 1], [-1, 1]),
        ),
    },
    "full-kn": {
        "exact": _exact(
            "two samples, two channels; the covariance of the prior has an off-diagonal part",
            x=a([1, 5], [3, 3]),
            dy=a([1, 2], [3, -1]),
            prior_mean=a(0, 3),
            prior_cov=a([5, 1 / 2], [1 / 2, 1 / 2]),
            gain=1 / 2,
            gamma=a(4, 2),
            beta=a(2, 1),
            dmean=a(1, -2),
            dcov=a([1, 1 / 2], [1 / 2, -1]),
            eps=0.0,
        ),
    },
    "full-predict": {
        "exact": _exact(
            "two channels from two",
            mean=a(2, -1),
            cov=a([4, 1 / 2], [1 / 2, 1]),
            transition=a([1, 1 / 2], [-1, 2]),
            noise_cov=a([1, 1 / 4], [1 / 4, 1 / 2]),
            dmean=a(1, -2),
            dcov=a([1, 1 / 2], [1 / 2, -1]),
        ),
    },
    "filter": {
        "exact": _exact(
            "two samples, two channels; the gain follows from the variances",
            x=a([1, 5], [5, 3]),
            dy=a([1, 2], [3, -1]),
            prior_mean=a(0, 1),
            prior_var=a(2, 3 / 2),
            gamma=a(5, 2),
            beta=a(2, 1),
            destimate_mean=a(1, -2),
            destimate_var=a(1, 2),
            eps=0.0,
        ),
    },
    "observe": {"exact": _exact("four samples, two channels", x=FOUR["x"], dmean=a(2, -1), dvar=a(1, 3))},
    "fuse": {
        "exact": _exact(
            "two channels, each with a gain of its own",
            prior_mean=a(7, 3),
            prior_var=a(5 / 4, 1 / 2),
            observed_mean=a(3, 4),
            observed_var=a(1 / 4, 1),
            gain=a(1 / 4, 1 / 2),
            dmean=a(-1, 1),
            dvar=a(1, -3 / 2),
        ),
    },
    "predict": {
        "exact": _exact(
            "two channels from three",
            **PREVIOUS,
            dprior_mean=a(1, -2),
            dprior_var=a(2, 1 / 2),
        ),
    },
    "standardize": {
        "exact": _exact(
            "two samples, two channels",
            x=a([7 / 2, 5], [5 / 2, 3]),
            dy=a([-1, 2], [3, -1]),
            mean=a(6, 7 / 2),
            var=a(4, 1),
            gamma=a(4, 2),
            beta=a(2, 1),
            eps=0.0,
        ),
    },
    "relu": {"decimal": _decimal("one Gaussian to the right of zero, one to the left", **GAUSSIAN, **PAIR)},
    "leaky-relu": {"decimal": _decimal("slope 0.1", **GAUSSIAN, slope=0.1, **PAIR)},
    "linear": {
        "exact": _exact(
            "two channels into two",
            estimate_mean=a(1, -2),
            estimate_var=a(2, 1 / 2),
            weight=a([1, -1 / 2], [2, 1]),
            bias=a(1 / 2, 1),
            doutput_mean=a(1, -2),
            doutput_var=a(2, 1 / 2),
        ),
    },
    "conv2d": {
        "exact": _exact(
            "a row of three taps over four positions; the border counts",
            estimate_mean=a(1, -2),
            estimate_var=a(2, 1 / 2),
            weight=a([[[1], [2]], [[-1], [1]], [[2], [-2]]]),
            height=1,
            width=4,
            padding=((0, 0), (1, 1)),
            doutput_mean=a(1),
            doutput_var=a(2),
        ),
    },
    "max-pool": {"decimal": _decimal("the largest of 2 x 2 positions", **GAUSSIAN, size=2, **PAIR)},
    "avg-pool": {"decimal": _decimal("2 x 2 positions", **GAUSSIAN, **PAIR, size=2, correlation=0.5)},
    "dropout": {"decimal": _decimal("keeps one value in two", **GAUSSIAN, **PAIR, keep=0.5)},
    "push": {
        mode: _exact(
            f"the {mode} moments",
            mode=mode,
            estimate_mean=a(6, 7 / 2),
            estimate_var=a(15 / 4, 3 / 4),
            observed_mean=a(3, 4),
            observed_var=a(1 / 4, 1),
            doutput_mean=a(1, -2),
            doutput_var=a(2, 1 / 2),
            gamma=a(4, 2),
            beta=a(2, 1),
            eps=0.25,
        )
        for mode in ("belief", "observed", "released")
    },
    "sampled": {
        "exact": _exact(
            "one map of 2 x 2 positions, two channels into one",
            estimate_mean=a(1, -1),
            estimate_var=a(4, 1),
            draws=a([[1, 2], [-1, 1 / 2]], [[1 / 2, 3], [-1 / 4, 3 / 2]]),
            weight=a([[[1], [-2]]]),
            doutput_mean=a(1),
            doutput_var=a(2),
        ),
    },
}
