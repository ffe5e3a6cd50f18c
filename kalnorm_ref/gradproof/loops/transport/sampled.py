"""The sampled transition of the released code, pixel by pixel of its synthetic map, and its padding value by value."""

import numpy as np

from ..parts import at, average, each, empty, increase, planter, sqrt, variance, zeros
from .linear import taps

MISTAKES = {
    "sampled": "relu_forgotten half_forgotten draw_forgotten root_forgotten spread_dropped mean_path_dropped "
    "sign_flipped flipped",
    "pad_concatenated": "each_by_itself",
}


def maps(estimate, draws, batch):
    """The Gaussian z at every pixel of one map: {(row, column, channel): z}."""
    found = {}
    for pixel in np.ndindex(draws.shape[-3:]):
        mean, var = (at(t, batch, pixel[-1]) for t in estimate)
        found[pixel] = mean + sqrt(var) * draws.item((*batch, *pixel))
    return found


def convolved(z, inside, weight, o):
    """One output position: the sum over the taps inside the image and the channels, of rectified values."""
    return sum(max(z[u, v, c], 0) * weight.item((*tap, c, o)) for tap, u, v in inside for c in range(weight.shape[2]))


def sampled(estimate, draws, weight, stride, padding):
    shape = (*draws.shape[:-3], weight.shape[3])
    mean, var = empty(shape, draws), empty(shape, draws)
    for *batch, o in np.ndindex(shape):
        z = maps(estimate, draws, batch)
        u = [convolved(z, inside, weight, o) for _, inside in taps(weight, stride, padding, draws.shape[-3:-1])]
        mean[(*batch, o)], var[(*batch, o)] = average(u), variance(u)
    return mean, var


def sampled_backward(doutput, estimate, draws, weight, stride, padding, mistake=None):
    fault = planter(mistake)
    destimate, ddraws, dweight = map(zeros, (estimate, draws, weight))
    where = [inside for _, inside in taps(weight, stride, padding, draws.shape[-3:-1])]
    for (*batch, o), dm, dv in each(doutput):
        z = maps(estimate, draws, batch)
        u = [convolved(z, inside, weight, o) for inside in where]
        for value, inside in zip(u, where, strict=True):
            spread = fault(2 * dv, spread_dropped=0.0, sign_flipped=-2 * dv) * (value - average(u))
            du = (fault(dm, mean_path_dropped=0.0) + spread) / len(u)
            for tap, row, column in inside:
                turned = (weight.shape[0] - 1 - tap[0], weight.shape[1] - 1 - tap[1])
                for c in range(weight.shape[2]):
                    pixel, s = (*batch, row, column, c), sqrt(at(estimate[1], batch, c))
                    n, open_ = draws.item(pixel), z[row, column, c] > 0
                    increase(dweight, (*tap, c, o), max(z[row, column, c], 0) * du)
                    dz = weight.item((*fault(tap, flipped=turned), c, o)) * du * fault(open_, relu_forgotten=True)
                    increase(destimate[0], (*batch, c), dz)
                    of_var = fault(n, draw_forgotten=1.0) / (fault(2, half_forgotten=1) * fault(s, root_forgotten=s**2))
                    increase(destimate[1], (*batch, c), dz * of_var)
                    increase(ddraws, pixel, dz * s)
    return destimate, ddraws, dweight


def laid_out(estimate, before, after):
    """(index of a value, where it lies in the padded result): all statistics batches stand end to end."""
    *lead, c = np.shape(estimate[0])
    batches = list(np.ndindex(*lead))
    places = [(*batch, k) for batch in batches for k in range(before + c + after)]
    values = [(*batch, k) for batch in batches for k in range(c)]
    return list(zip(values, places[len(batches) * before :], strict=False))


def pad_concatenated(estimate, before, after):
    *lead, c = np.shape(estimate[0])
    padded = tuple(empty((*lead, before + c + after), t) for t in estimate)
    for value, place in laid_out(estimate, before, after):
        for source, target in zip(estimate, padded, strict=True):
            target[place] = source.item(value)
    return padded


def pad_concatenated_backward(doutput, estimate, before, after, mistake=None):
    destimate = zeros(estimate)
    for value, place in laid_out(estimate, before, after):
        place = planter(mistake)(place, each_by_itself=(*value[:-1], before + value[-1]))
        for d, target in zip(doutput, destimate, strict=True):
            target[value] = d.item(place)
    return (destimate,)
