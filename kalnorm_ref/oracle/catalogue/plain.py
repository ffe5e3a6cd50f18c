"""Questions to every normalizer: layout, values, parameters, gradients."""

import numpy as np

from . import values as v
from .build import DEVIATION
from .questions import ALL, ask

BOTH = "float64", "float32"
SINGLE = ("float32",)
HALF = ("float16",)
SMALL = (2, 3, 2, 6)  # m = 12, in three groups likewise


def layouts():
    shapes = {2: (7, 6), 3: (3, 4, 6), 4: (2, 3, 4, 6), 5: (2, 3, 2, 2, 6)}
    for layout in ("NC", "NCL", "NLC", "NCHW", "NHWC", "NCDHW", "NDHWC"):
        why = f"{layout}: statistics are taken over the wrong axes, or gamma is broadcast along them."
        yield ask(f"layout-{layout}", why, shapes[len(layout)], layout=layout)
    for layout in ("NCHW", "NHWC"):
        why = "All axes have the same length: a wrong axis raises no error, and only the values tell."
        yield ask(f"equal-axes-{layout}", why, (3, 3, 3, 3), layout=layout, large=(12, 12, 12, 12))
        for view, what in (("padded", "gaps behind the channels"), ("reversed", "a negative stride")):
            why = f"x and dy have {what}: a kernel that takes them for contiguous reads something else."
            yield ask(f"view-{view}-{layout}", why, SMALL, layout=layout, view=view)


def inputs(unjudged, all_unjudged):
    """unjudged: the channels that a value of 1e30 in channel 1 spoils; all_unjudged: in the larger shape."""
    # A serial sum of one value m times rounds to one side: it errs by up to m u/4 and is allowed (8 + 2 m^(1/2)) u,
    # which is more for m up to 100.
    few = {"large": (4, 3, 3, 48)}
    why = "The variance is 0: a negative difference under the root is NaN, and rounding of the mean grows by eps^-1/2."
    yield ask("constant", why, SMALL, *BOTH, x=v.constant, **few)
    for sigmas, dtypes in ((100, ALL), (1000, (*BOTH, "float16")), (100000, BOTH)):
        digits = 2 * (len(str(sigmas)) - 1)
        why = f"The mean is {sigmas} deviations: E[x^2] - E[x]^2 loses {digits} digits of the variance."
        yield ask(f"offset-{sigmas}", why, SMALL, *dtypes, offset=DEVIATION * sigmas, more=dtypes)
    why = "The mean is 10^6 deviations: E[x^2] - E[x]^2 keeps four digits in float64, and float32 statistics none."
    yield ask("offset-1000000", why, SMALL, "float64", offset=DEVIATION * 1e6, more=("float64",))
    why = "The variance is far below eps: eps outside the root, or added to the deviation, gives another y by far."
    yield ask("below-eps", why, SMALL, *BOTH, offset=1e-6, scale=1e-6, more=BOTH)
    why = "1e30 in channel 1, whose square overflows: what has no statistic in common with it must not notice."
    yield ask("huge", why, SMALL, x=v.huge, unjudged=unjudged, more=SINGLE, larger={"unjudged": all_unjudged})
    why = "Deviations from 1e-3 to 1e3: the statistic of a neighbour is wrong by orders of magnitude."
    yield ask("unlike-channels", why, SMALL, x=v.unlike_channels)
    why = "Values up to 65504: the sum of two of them in the storage type is Inf."
    yield ask("largest-half", why, SMALL, *HALF, x=v.near_largest_half, more=HALF)
    why = "All of x is subnormal in float16, and eps as small as its variance: flushed, or squared in storage, it is 0."
    tiny = {"x": v.multiples(2.0**-24), "dy": v.normal(2.0**-8), "eps": 1e-12}
    yield ask("subnormal-half", why, SMALL, *HALF, **tiny, more=HALF)
    why = "All of x is subnormal: its variance is 0 in float32, and y is beta, flushed to zero or not."
    yield ask("subnormal", why, SMALL, x=v.multiples(2.0**-140), more=("float32", "bfloat16"))
    why = "0 and -0 are one value: the variance is 0, and only a comparison of bits tells them apart."
    yield ask("signs-of-zero", why, SMALL, x=v.zeros_of_both_signs, beta=None)
    for value, what in ((np.nan, "nan"), (np.inf, "infinity")):
        why = (
            f"One {'NaN' if what == 'nan' else 'Inf'} in x: what shares a statistic with it is lost, and nothing else."
        )
        yield ask(what, why, SMALL, x=v.first(value, 1))
    why = "One NaN in dy: dx that shares a mean with it, dgamma and dbeta are lost; y and the running values are not."
    yield ask("nan-dy", why, SMALL, dy=v.last(np.nan, v.normal(1.0)))
    why = "gamma of channel 1 is NaN: its y is lost, and dx where a mean holds its gradient; dgamma and dbeta are not."
    yield ask("nan-gamma", why, SMALL, gamma=lambda draws, shape: np.where(np.arange(*shape) == 1, np.nan, 1.5))


def parameters():
    why = "eps is 0 and the variance healthy: a floor put under eps, or a test for its truth, shows."
    yield ask("eps-0", why, SMALL, *BOTH, eps=0.0)
    for eps, core, more in ((1e-12, BOTH, BOTH), (1e-5, SINGLE, BOTH), (1e-3, SINGLE, ALL), (1.0, SINGLE, ALL)):
        why = f"eps is {eps:g}, as large as the variance: a fixed eps, or one outside the root, is wrong by far."
        sigma = np.sqrt(eps)
        yield ask(f"eps-{eps:g}", why, SMALL, *core, eps=eps, offset=1.5 * sigma, scale=sigma, more=more)
    why = "gamma is 0 in some channels: x_hat recovered as (y - beta)/gamma is NaN there, and dgamma with it."
    yield ask("gamma-zero", why, SMALL, gamma=v.every_other_zero)
    why = "gamma is negative: a kernel that folds gamma and rstd into one positive scale has the wrong sign."
    yield ask("gamma-negative", why, SMALL, gamma=v.uniform(-2, -0.5))
    why = "gamma is absent: it counts as 1, and there is no dgamma."
    yield ask("no-gamma", why, SMALL, gamma=None)
    why = "beta is absent: it counts as 0, and there is no dbeta."
    yield ask("no-beta", why, SMALL, beta=None)
    why = "gamma and beta are absent: a code path of its own, often untested."
    yield ask("no-parameters", why, SMALL, *BOTH, gamma=None, beta=None)


def gradients():
    why = "dy holds whole numbers, most of them 0: dbeta is exact, and a wrong index is not hidden by noise."
    yield ask("dy-sparse", why, SMALL, dy=v.sparse)
    why = "One element of dy is 1: dx is a column of the Jacobian, and each of its three terms stands alone."
    yield ask("dy-one-hot", why, SMALL, *BOTH, dy=v.one_hot)
    why = "An extra: dy of ones hides the projection, so that this case alone proves nothing."
    yield ask("dy-ones", why, SMALL, dy=v.ones, large=(4, 3, 3, 48))
    why = "The sum of dy leaves the range of float16 and dx does not: dbeta added up in the storage type is Inf."
    large = {"dy": v.uniform(1e4, 2e4), "gamma": v.uniform(0.5, 1)}
    yield ask("dy-large-half", why, SMALL, *HALF, **large, more=HALF)
