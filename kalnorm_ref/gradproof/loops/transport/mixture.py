"""Moments of mixtures of rows, from the differences between all pairs of means and without their mean."""

from ..parts import empty, planter, zeros

MISTAKES = {"mixture": "spread_forgotten half_forgotten rest_as_whole spread_to_itself"}


def parts(estimate, size):
    """(place of the mixture, places of its rows), for every batch and channel."""
    *lead, n, channels = estimate[0].shape
    for batch in _indices(lead):
        for c in range(channels):
            for g, start in enumerate(range(0, n, size)):
                yield (*batch, g, c), [(*batch, i, c) for i in range(start, min(start + size, n))]


def _indices(shape):
    return [()] if not shape else [(i, *rest) for i in range(shape[0]) for rest in _indices(shape[1:])]


def mixture(estimate, size):
    mean, var = estimate
    *lead, n, c = mean.shape
    mixed = tuple(empty((*lead, (n + size - 1) // size, c), part) for part in estimate)
    for place, rows in parts(estimate, size):
        k = len(rows)
        pairs = sum((mean.item(i) - mean.item(j)) ** 2 for i in rows for j in rows if i < j)
        mixed[0][place] = sum(mean.item(i) for i in rows) / k
        mixed[1][place] = sum(var.item(i) for i in rows) / k + pairs / k**2
    return mixed


def mixture_backward(doutput, estimate, size, mistake=None):
    fault = planter(mistake)
    mean, destimate = estimate[0], zeros(estimate)
    for place, rows in parts(estimate, size):
        dmean, dvar = (d.item(place) for d in doutput)
        k = fault(len(rows), rest_as_whole=size)
        for i in rows:
            spread = sum(mean.item(i) - mean.item(j) for j in rows) / k
            spread = fault(spread, spread_to_itself=mean.item(i))
            through_var = fault(2, half_forgotten=1) * dvar * fault(spread, spread_forgotten=0.0)
            destimate[0][i], destimate[1][i] = (dmean + through_var) / k, dvar / k
    return (destimate,)
