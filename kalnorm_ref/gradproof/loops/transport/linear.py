"""Moments after linear maps and convolutions, position by position.

Each position of a convolved map has an exact mean and variance, and pooling them is the law of total variance; the
package has border sums instead.
"""

import numpy as np

from ..parts import add as add_at
from ..parts import at, each, empty, increase, planter, zeros

MISTAKES = {
    "linear": "weight_var_dropped two_forgotten square_forgotten bias_from_var",
    "conv2d": "between_dropped weight_var_dropped two_forgotten square_forgotten border_ignored sign_flipped",
}


def linear(estimate, weight, bias=None):
    shape = (*np.shape(estimate[0])[:-1], weight.shape[1])
    mean, var = empty(shape, weight), empty(shape, weight)
    for *batch, o in np.ndindex(shape):
        here = (*batch, o)
        mean[here] = at(bias, batch, o, default=0.0)
        for c in range(weight.shape[0]):
            increase(mean, here, weight.item((c, o)) * at(estimate[0], batch, c))
            increase(var, here, weight.item((c, o)) ** 2 * at(estimate[1], batch, c))
    return mean, var


def linear_backward(doutput, estimate, weight, bias=None, mistake=None):
    fault = planter(mistake)
    destimate, dweight, dbias = map(zeros, (estimate, weight, bias))
    for (*batch, o), dm, dv in each(doutput):
        add_at(dbias, batch, o, fault(dm, bias_from_var=dv))
        for c in range(weight.shape[0]):
            w, (mean, var) = weight.item((c, o)), (at(t, batch, c) for t in estimate)
            add_at(destimate[0], batch, c, w * dm)
            add_at(destimate[1], batch, c, fault(w**2, square_forgotten=w) * dv)
            spread = fault(2.0, two_forgotten=1.0) * w * var * dv
            increase(dweight, (c, o), mean * dm + fault(spread, weight_var_dropped=0.0))
    return destimate, dweight, dbias


def taps(weight, stride, padding, input_size):
    """For each output position, the list of (tap, row, column) that lie inside the image."""
    (top, bottom), (left, right) = padding if np.ndim(padding) else ((padding,) * 2,) * 2
    (h, w), (kh, kw) = input_size, weight.shape[:2]
    for i in range((h + top + bottom - kh) // stride + 1):
        for j in range((w + left + right - kw) // stride + 1):
            at_taps = [((a, b), stride * i + a - top, stride * j + b - left) for a in range(kh) for b in range(kw)]
            yield (i, j), [(tap, u, v) for tap, u, v in at_taps if 0 <= u < h and 0 <= v < w]


def conv2d_positions(estimate, weight, stride, padding, input_size, batch, o):
    """Mean and variance at every output position, and the taps inside there."""
    found = []
    for _, inside in taps(weight, stride, padding, input_size):
        mean = var = 0.0
        for tap, _, _ in inside:
            for c in range(weight.shape[2]):
                w = weight.item((*tap, c, o))
                mean += w * at(estimate[0], batch, c)
                var += w**2 * at(estimate[1], batch, c)
        found.append((mean, var, inside))
    return found


def conv2d(estimate, weight, stride, padding, input_size):
    shape = (*np.shape(estimate[0])[:-1], weight.shape[3])
    mean, var = empty(shape, weight), empty(shape, weight)
    for *batch, o in np.ndindex(shape):
        found = conv2d_positions(estimate, weight, stride, padding, input_size, batch, o)
        pooled = sum(m for m, _, _ in found) / len(found)
        mean[(*batch, o)] = pooled
        var[(*batch, o)] = sum(v + (m - pooled) ** 2 for m, v, _ in found) / len(found)
    return mean, var


def conv2d_backward(doutput, estimate, weight, stride, padding, input_size, mistake=None):
    fault = planter(mistake)
    destimate, dweight = zeros(estimate), zeros(weight)
    everywhere = [((a, b), 0, 0) for a in range(weight.shape[0]) for b in range(weight.shape[1])]
    for (*batch, o), dm, dv in each(doutput):
        found = conv2d_positions(estimate, weight, stride, padding, input_size, batch, o)
        pooled = sum(m for m, _, _ in found) / len(found)
        for mean, _, inside in found:
            apart = fault(2 * dv * (mean - pooled), between_dropped=0.0, sign_flipped=-2 * dv * (mean - pooled))
            here_m, here_v = (dm + apart) / len(found), dv / len(found)
            for tap, _, _ in fault(inside, border_ignored=everywhere):
                for c in range(weight.shape[2]):
                    w, (mu, v) = weight.item((*tap, c, o)), (at(t, batch, c) for t in estimate)
                    add_at(destimate[0], batch, c, w * here_m)
                    add_at(destimate[1], batch, c, fault(w**2, square_forgotten=w) * here_v)
                    spread = fault(2.0, two_forgotten=1.0) * w * v * here_v
                    increase(dweight, (*tap, c, o), mu * here_m + fault(spread, weight_var_dropped=0.0))
    return destimate, dweight
