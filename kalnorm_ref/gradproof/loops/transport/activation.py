"""Moments after a ReLU, a leaky ReLU and dropout, from first and second moments of a Gaussian.

The variance is E y^2 - (E y)^2, which cancels in both tails: keep |t| small in floats, or compute with more digits.
"""

from ..parts import cdf, each, phi, planter, sqrt, zeros

MISTAKES = {
    "relu": "half_forgotten complement_forgotten two_forgotten tail_term_dropped sign_flipped",
    "leaky_relu": "half_forgotten covariance_dropped slope_squared_dropped one_minus_slope_forgotten",
    "dropout": "keep_squared two_forgotten mean_path_dropped",
}


def by_channel(of_one):
    """A function of an estimate that treats every channel alike, from of_one(m, v, *rest) -> (mean, var)."""

    def forward(estimate, *rest):
        mean, var = zeros(estimate)
        for index, m, v in each(estimate):
            mean[index], var[index] = of_one(m, v, *rest)
        return mean, var

    return forward


def by_channel_backward(of_one):
    """Its backward, from of_one(m, v, fault, *rest) -> (dmean/dm, dmean/dv, dvar/dm, dvar/dv)."""

    def backward(doutput, estimate, *rest, mistake=None):
        destimate = zeros(estimate)
        for index, m, v in each(estimate):
            mean_m, mean_v, var_m, var_v = of_one(m, v, planter(mistake), *rest)
            dmean, dvar = (d.item(index) for d in doutput)
            destimate[0][index], destimate[1][index] = dmean * mean_m + dvar * var_m, dmean * mean_v + dvar * var_v
        return (destimate,)

    return backward


def rectified(m, v):
    """E max(z, 0) and E max(z, 0)^2 for z ~ N(m, v)."""
    s = sqrt(v)
    t = m / s
    return m * cdf(t) + s * phi(t), (m**2 + v) * cdf(t) + m * s * phi(t)


@by_channel
def relu(m, v):
    mean, second = rectified(m, v)
    return mean, second - mean**2


@by_channel_backward
def relu_backward(m, v, fault):
    s = sqrt(v)
    t, (mean, _) = m / s, rectified(m, v)
    var_m = fault(2.0, two_forgotten=1.0) * mean * fault(cdf(-t), complement_forgotten=1.0)
    var_v = cdf(t) - fault(mean * phi(t) / s, tail_term_dropped=0.0)
    return cdf(t), phi(t) / fault(2 * s, half_forgotten=s), fault(var_m, sign_flipped=-var_m), var_v


@by_channel
def leaky_relu(m, v, a):
    """y = max(z, 0) - a max(-z, 0), where at most one of the two is not zero."""
    (up, up_second), (down, down_second) = rectified(m, v), rectified(-m, v)
    mean = up - a * down
    return mean, up_second + a**2 * down_second - mean**2


@by_channel_backward
def leaky_relu_backward(m, v, fault, a):
    """From second moments: E y^2 = Phi (m^2 + v) + m s phi + a^2 (the same of -z), and V = E y^2 - (E y)^2."""
    s = sqrt(v)
    t, b, (rectified_mean, _) = m / s, fault(1 - a, one_minus_slope_forgotten=1.0), rectified(m, v)
    mean = a * m + b * rectified_mean
    mean_m, mean_v = a + b * cdf(t), b * phi(t) / fault(2 * s, half_forgotten=s)
    share = fault(a * a, slope_squared_dropped=0.0) * cdf(-t) + cdf(t)  # E of the squared slope
    edge = fault(1 - a * a, covariance_dropped=(1 - a) ** 2)
    second_m = 2 * (a * a * m + edge * rectified_mean)
    return mean_m, mean_v, second_m - 2 * mean * mean_m, share - 2 * mean * mean_v


@by_channel
def dropout(m, v, keep):
    """The variance of z B / keep, B = 1 with probability keep: E (z B / keep)^2 - m^2."""
    return m, (v + m**2) / keep - m**2


@by_channel_backward
def dropout_backward(m, v, fault, keep):
    spread = fault(2.0, two_forgotten=1.0) * m * (1 - keep) / keep
    return 1.0, 0.0, fault(spread, mean_path_dropped=0.0), 1 / fault(keep, keep_squared=keep**2)
