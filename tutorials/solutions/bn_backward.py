"""Batch normalization, backward (B1).

With g = gamma dy and r = 1 / sqrt(var + eps), three paths lead to a sample: the direct one, the one through the mean
and the one through the variance:

    dx = r g + dmean / m + 2 dvar (x - mean) / m ,  dmean = - r sum g ,  dvar = - 1/2 r^2 sum (g x_hat)

Put dmean and dvar in, write x - mean as x_hat / r, and take r out of all three:

    dx = r (g - mean g - x_hat mean(g x_hat))

What goes wrong most often:

- mean and variance are taken for constants, and only r g is left;
- one of the two means is missing, or is a sum;
- dgamma = sum dy x_hat and dbeta = sum dy are made of g where dy belongs.

An upstream gradient of ones finds only part of this: the right dx is then zero, and some wrong ones are zero with it.
"""

import numpy as np


def bn_backward(dy, x, gamma, eps):
    mean = x.mean(axis=0)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(axis=0) + eps)
    x_hat = (x - mean) * rstd
    g = gamma * dy
    dx = rstd * (g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0))
    return dx, (dy * x_hat).sum(axis=0), dy.sum(axis=0)
