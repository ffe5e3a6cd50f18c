"""Exercise brn-corrections: the two corrections of batch renormalization (B2).

Batch statistics give z = (x - mu)/s, running ones (x - M)/Sg. Both are straight lines in x, so (x - M)/Sg = z r + d:
equal slopes ask for r/s = 1/Sg, so r = s/Sg; at x = mu, where z = 0, what is left is d = (mu - M)/Sg. Then both are
clipped, r symmetrically under r -> 1/r, d under d -> -d.

Usual mistakes: to divide by the batch's s in d; to use the variance, or s without eps, although the running deviation
contains it; to clip r to [0, r_max] or [-r_max, r_max] in place of [1/r_max, r_max].
"""

import numpy as np


def brn_corrections(mean, var, running_mean, running_std, r_max, d_max, eps):
    """r = clip(s/Sg, 1/r_max, r_max) and d = clip((mu - M)/Sg, -d_max, d_max), s = (var + eps)^(1/2)."""
    s = np.sqrt(var + eps)
    r = np.clip(s / running_std, 1 / r_max, r_max)
    d = np.clip((mean - running_mean) / running_std, -d_max, d_max)
    return r, d
