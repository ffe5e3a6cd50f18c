"""Batch normalization, forward (B1).

Each channel by itself: the mean of its samples, the mean of the squared distances from that mean, then
(x - mean) / sqrt(var + eps), scaled and shifted. Samples stand in axis 0, so both means run over axis 0.

What goes wrong most often:

- the variance is divided by m - 1; batch normalization standardizes with the biased one, divided by m;
- eps is added to the standard deviation; it stands beside the variance, inside the root;
- the mean is taken over the whole array, over samples and channels together.

mean(x^2) - mean(x)^2 is the same variance on paper. In floating point it cancels where the mean is large.
"""

import numpy as np


def bn_forward(x, gamma, beta, eps):
    mean = x.mean(axis=0)
    var = ((x - mean) ** 2).mean(axis=0)
    x_hat = (x - mean) / np.sqrt(var + eps)
    return gamma * x_hat + beta
