"""A second derivation of the closed-form transport and of the layers, as loops over positions and channels.

Convolved moments are taken here over the positions themselves: each has an exact mean and variance, and pooling them is
the law of total variance; the package has border sums instead. As in derivations.py, nothing is shared with the
package, a backward takes its forward's arguments, and it can plant one `mistake` of those listed in MISTAKES.
"""

import math

import numpy as np
from derivations import add as add_at
from derivations import at, planter, zeros

MISTAKES = {
    "relu": "half_forgotten complement_forgotten two_forgotten tail_term_dropped sign_flipped",
    "leaky_relu": "half_forgotten covariance_dropped slope_squared_dropped one_minus_slope_forgotten",
    "dropout": "keep_squared two_forgotten mean_path_dropped",
    "linear": "weight_var_dropped two_forgotten square_forgotten bias_from_var",
    "conv2d": "between_dropped weight_var_dropped two_forgotten square_forgotten border_ignored sign_flipped",
    "avg_pool": "correlation_forgotten mean_divided",
    "max_pool": "half_forgotten mean_path_dropped constants_swapped",
    "add": "second_negated squared",
    "pad_channels": "shifted",
    "push": "r_fourth_forgotten eps_term_dropped two_forgotten half_forgotten mean_to_gamma_dropped sign_flipped",
}


def each(estimate):
    """(index, mean, var) for every statistic of a pair of equal shapes."""
    for index in np.ndindex(np.shape(estimate[0])):
        yield index, float(estimate[0][index]), float(estimate[1][index])


def phi(t):
    return math.exp(-t * t / 2) / math.sqrt(2 * math.pi)


def cdf(t):
    return math.erfc(-t / math.sqrt(2)) / 2


def unary(of_one):
    """The backward of a function that treats every channel alike, from its derivatives at one channel.

    of_one(m, v, fault, *rest) returns (dmean/dm, dmean/dv, dvar/dm, dvar/dv).
    """

    def backward(doutput, estimate, *rest, mistake=None):
        destimate = zeros(estimate)
        for index, m, v in each(estimate):
            mean_m, mean_v, var_m, var_v = of_one(m, v, planter(mistake), *rest)
            destimate[0][index] = doutput[0][index] * mean_m + doutput[1][index] * var_m
            destimate[1][index] = doutput[0][index] * mean_v + doutput[1][index] * var_v
        return (destimate,)

    return backward


@unary
def relu_backward(m, v, fault):
    s = math.sqrt(v)
    t = m / s
    mean = m * cdf(t) + s * phi(t)
    var_m = fault(2.0, two_forgotten=1.0) * mean * fault(cdf(-t), complement_forgotten=1.0)
    var_v = cdf(t) - fault(mean * phi(t) / s, tail_term_dropped=0.0)
    return cdf(t), phi(t) / fault(2 * s, half_forgotten=s), fault(var_m, sign_flipped=-var_m), var_v


@unary
def leaky_relu_backward(m, v, fault, a):
    """From second moments: E y^2 = Phi (m^2 + v) + m s phi + a^2 (the same of -z), and V = E y^2 - (E y)^2."""
    s = math.sqrt(v)
    t, b = m / s, fault(1 - a, one_minus_slope_forgotten=1.0)
    mean = a * m + b * (m * cdf(t) + s * phi(t))
    mean_m, mean_v = a + b * cdf(t), b * phi(t) / fault(2 * s, half_forgotten=s)
    share = fault(a * a, slope_squared_dropped=0.0) * cdf(-t) + cdf(t)  # E of the squared slope
    edge = fault(1 - a * a, covariance_dropped=(1 - a) ** 2)
    second_m = 2 * (a * a * m + edge * (m * cdf(t) + s * phi(t)))
    return mean_m, mean_v, second_m - 2 * mean * mean_m, share - 2 * mean * mean_v


@unary
def dropout_backward(m, v, fault, keep):
    spread = fault(2.0, two_forgotten=1.0) * m * (1 - keep) / keep
    return 1.0, 0.0, fault(spread, mean_path_dropped=0.0), 1 / fault(keep, keep_squared=keep**2)


@unary
def avg_pool_backward(m, v, fault, size, correlation=0.0):
    pairs = size**4 - size**2  # ordered pairs of different values in a block
    k = size**2
    shared = fault(correlation, correlation_forgotten=0.0)
    return fault(1.0, mean_divided=1 / k), 0.0, 0.0, (k + pairs * shared) / k**2


C_4 = 3 / math.sqrt(math.pi) * (0.5 + math.asin(1 / 3) / math.pi)  # mean and variance of the largest of 4 normals
MAX_OF_4 = C_4, 1 + math.sqrt(3) / math.pi - C_4**2


@unary
def max_pool_backward(m, v, fault, size):
    assert size == 2
    c, d = fault(MAX_OF_4, constants_swapped=MAX_OF_4[::-1])
    slope = c / (fault(2, half_forgotten=1) * math.sqrt(v))
    return 1.0, fault(slope, mean_path_dropped=0.0), 0.0, d


def linear_backward(doutput, estimate, weight, bias=None, mistake=None):
    fault = planter(mistake)
    destimate, dweight, dbias = zeros(estimate), np.zeros(weight.shape), zeros(bias)
    for (*batch, o), dm, dv in each(doutput):
        add_at(dbias, batch, o, fault(dm, bias_from_var=dv))
        for c in range(weight.shape[0]):
            here, w = (*batch, c), weight[c, o]
            destimate[0][here] += w * dm
            destimate[1][here] += fault(w**2, square_forgotten=w) * dv
            spread = fault(2.0, two_forgotten=1.0) * w * estimate[1][here] * dv
            dweight[c, o] += estimate[0][here] * dm + fault(spread, weight_var_dropped=0.0)
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
                mean += weight[(*tap, c, o)] * estimate[0][(*batch, c)]
                var += weight[(*tap, c, o)] ** 2 * estimate[1][(*batch, c)]
        found.append((mean, var, inside))
    return found


def conv2d(estimate, weight, stride, padding, input_size):
    shape = (*np.shape(estimate[0])[:-1], weight.shape[3])
    mean, var = np.zeros(shape), np.zeros(shape)
    for *batch, o in np.ndindex(shape):
        found = conv2d_positions(estimate, weight, stride, padding, input_size, batch, o)
        pooled = sum(m for m, _, _ in found) / len(found)
        mean[(*batch, o)] = pooled
        var[(*batch, o)] = sum(v + (m - pooled) ** 2 for m, v, _ in found) / len(found)
    return mean, var


def conv2d_backward(doutput, estimate, weight, stride, padding, input_size, mistake=None):
    fault = planter(mistake)
    destimate, dweight = zeros(estimate), np.zeros(weight.shape)
    for (*batch, o), dm, dv in each(doutput):
        found = conv2d_positions(estimate, weight, stride, padding, input_size, batch, o)
        pooled = sum(m for m, _, _ in found) / len(found)
        for mean, _, inside in found:
            apart = fault(2 * dv * (mean - pooled), between_dropped=0.0, sign_flipped=-2 * dv * (mean - pooled))
            here_m, here_v = (dm + apart) / len(found), dv / len(found)
            everywhere = [((a, b), 0, 0) for a in range(weight.shape[0]) for b in range(weight.shape[1])]
            for tap, _, _ in fault(inside, border_ignored=everywhere):
                for c in range(weight.shape[2]):
                    w, source = weight[(*tap, c, o)], (*batch, c)
                    destimate[0][source] += w * here_m
                    destimate[1][source] += fault(w**2, square_forgotten=w) * here_v
                    spread = fault(2.0, two_forgotten=1.0) * w * estimate[1][source] * here_v
                    dweight[(*tap, c, o)] += estimate[0][source] * here_m + fault(spread, weight_var_dropped=0.0)
    return destimate, dweight


def add_backward(doutput, a, b, mistake=None):
    fault = planter(mistake)
    da, db = zeros(a), zeros(b)
    for which in (0, 1):
        for *batch, c in np.ndindex(doutput[which].shape):
            d = float(doutput[which][(*batch, c)])
            add_at(da[which], batch, c, fault(d, squared=2 * d))
            add_at(db[which], batch, c, fault(d, second_negated=-d))
    return da, db


def pad_channels_backward(doutput, estimate, before, after, mistake=None):
    destimate = zeros(estimate)
    for index, _, _ in each(estimate):
        source = (*index[:-1], index[-1] + planter(mistake)(before, shifted=before + 1))
        destimate[0][index], destimate[1][index] = doutput[0][source], doutput[1][source]
    return (destimate,)


def push_backward(doutput, mode, estimate, observed, gamma, beta, eps=1e-5, mistake=None):
    """Through s = (v + eps)^(1/2) step by step: tm = beta + gamma z, z = (xbar - mu) / s ; tv = gamma^2 w / s^2."""
    fault = planter(mistake)
    destimate, dobserved, dgamma, dbeta = map(zeros, (estimate, observed, gamma, beta))
    for (*batch, c), dtm, dtv in each(doutput):
        here, mu, v = (*batch, c), float(estimate[0][(*batch, c)]), float(estimate[1][(*batch, c)])
        if mode == "released":
            destimate[0][here], destimate[1][here] = fault(dtm, sign_flipped=-dtm), dtv
            continue
        g, s = at(gamma, batch, c), math.sqrt(v + eps)
        add_at(dbeta, batch, c, dtm)
        two = fault(2.0, two_forgotten=1.0)
        if mode == "belief":
            add_at(dgamma, batch, c, two * g * v / s**2 * dtv)
            shrink = eps / s ** fault(4, r_fourth_forgotten=2)
            destimate[1][here] += g**2 * fault(shrink, eps_term_dropped=0.0, sign_flipped=-shrink) * dtv
            continue
        xbar, width = at(observed[0], batch, c), at(observed[1], batch, c)
        z = (xbar - mu) / s
        add_at(dgamma, batch, c, fault(z, mean_to_gamma_dropped=0.0) * dtm + two * g * width / s**2 * dtv)
        add_at(dobserved[0], batch, c, g / s * dtm)
        add_at(dobserved[1], batch, c, g**2 / s**2 * dtv)
        destimate[0][here] += fault(-1, sign_flipped=1) * g / s * dtm
        dwidth = -(g**2) * width / s ** fault(4, r_fourth_forgotten=2) * dtv
        destimate[1][here] += dwidth - g * z * dtm / (fault(2, half_forgotten=1) * s**2)
    return destimate, dobserved, dgamma, dbeta


def image_conv2d(x, weight, bias, stride, padding):
    """Convolution of images (N, H, W, C), one multiplication at a time."""
    where = list(taps(weight, stride, padding, x.shape[1:3]))
    (rows, columns), outputs = where[-1][0], weight.shape[3]
    y = np.zeros((len(x), rows + 1, columns + 1, outputs))
    for n, o in np.ndindex(len(x), outputs):
        for position, inside in where:
            total = 0.0 if bias is None else float(bias[o])
            for tap, u, v in inside:
                for c in range(x.shape[3]):
                    total += x[n, u, v, c] * weight[(*tap, c, o)]
            y[(n, *position, o)] = total
    return y


def image_conv2d_backward(dy, x, weight, bias, stride, padding, mistake=None):
    fault = planter(mistake)
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(weight.shape), zeros(bias)
    for n, o in np.ndindex(len(x), weight.shape[3]):
        for position, inside in taps(weight, stride, padding, x.shape[1:3]):
            d = dy[(n, *position, o)]
            add_at(dbias, (), o, d)
            for tap, u, v in inside:
                flipped = (weight.shape[0] - 1 - tap[0], weight.shape[1] - 1 - tap[1])
                for c in range(x.shape[3]):
                    dx[n, u, v, c] += weight[(*fault(tap, flipped=flipped), c, o)] * d
                    dweight[(*tap, c, o)] += x[n, u, v, c] * d
    return dx, dweight, dbias
