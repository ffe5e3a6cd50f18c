"""Exercise brn-backward: the gradient of batch renormalization, r and d constant (B2).

From the loss back: y = gamma x_hat + beta gives dgamma = sum dy x_hat, dbeta = sum dy and dx_hat = gamma dy. With
x_hat = z r + d, of which r and d are constants, dz = r dx_hat: call it g. From z to x it is batch normalization
without gamma, so dx = (g - mean g - z mean(g z))/s.

Usual mistakes: to project on x_hat in place of z, which alone has mean 0 and variance 1 in this batch; to leave r out
of g; to take dgamma from z; to send a gradient through r and d, which without clipping leaves gamma dy/Sg.
"""

import numpy as np


def brn_backward(dy, x, gamma, r, d, eps):
    """dx, dgamma, dbeta of y = gamma (z r + d) + beta, z = (x - mean)/s, with r and d held constant."""
    s = np.sqrt(x.var(axis=0) + eps)
    z = (x - x.mean(axis=0)) / s
    g = gamma * r * dy
    dx = (g - g.mean(axis=0) - z * (g * z).mean(axis=0)) / s
    return dx, (dy * (z * r + d)).sum(axis=0), dy.sum(axis=0)
