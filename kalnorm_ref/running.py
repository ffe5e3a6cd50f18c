"""Running averages of statistics, as the stateful normalizers keep them for inference."""

from . import backend


def running_average(old, new, decay, updates):
    """One step of a running average.

    Equations: old <- decay old + (1 - decay) new. With decay None the cumulative average: decay = n / (n + 1), where n
        is the number of updates so far. `decay` is the weight of the OLD value (A9); PyTorch's momentum is 1 - decay.
    Shapes: old and new alike; decay in [0, 1] or None; updates >= 0.
    Returns: the new average.
    """
    weight = updates / (updates + 1) if decay is None else decay
    return weight * old + (1 - weight) * new


def update_average(old, new, decay, updates):
    """running_average in place: `old` becomes the new one. The compiled one does it in one pass, to the same bits."""
    weight = updates / (updates + 1) if decay is None else decay
    if not backend.average(old, new, weight):
        old[...] = running_average(old, new, decay, updates)


def unbiased(var, m):
    """Unbiased variance from the biased one of m samples: m / (m - 1) var. ValueError for m = 1."""
    if m < 2:
        raise ValueError("the unbiased running variance needs at least 2 samples per channel, got m = 1")
    return var * (m / (m - 1))
