"""Backward of batch Kalman normalization, for a normalizer to which the next one sends nothing back.

Derived by the chain rule, from the output to the input (B0, B5). With mu and v as independent inputs, standardizing gives
dmu = - r sum g and dv = - 1/2 r^2 sum(g x_hat), g = gamma dy. Fuse has mu = a + q delta and
v = p b + q S + p q delta^2, so delta = xbar - a gets q dmu + 2 p q dv delta, a what is left of dmu, b the share p of dv
and S the share q. A sample then has three paths: itself, xbar (1/m each) and S (2 (x_i - xbar)/m each).

Self-test: sum dx + da = 0, because shifting x and a together changes nothing; and for eps = 0
sum x dx + a da + 2 b db = 0, because stretching all of them changes nothing either.

Mistakes that students make:

- The path of delta through v is forgotten, 2 p q dv delta. With a prior mean near the batch mean it hardly shows.
- The path through S is centred at mu instead of xbar. For gain 1 the two are equal, and the mistake hides.
- dprior_mean is p dmu: right for the path through mu, but a reaches v through delta too.
"""

import numpy as np


def kn_backward(dy, x, gamma, prior_mean, prior_var, gain, eps):
    m, p, q = len(x), 1 - gain, gain
    xbar = x.mean(axis=0)
    s = ((x - xbar) ** 2).mean(axis=0)
    delta = xbar - prior_mean
    mu = p * prior_mean + q * xbar
    r = 1 / np.sqrt(p * prior_var + q * s + p * q * delta**2 + eps)
    x_hat = (x - mu) * r

    g = gamma * dy
    dmu = -r * g.sum(axis=0)
    dv = -(r**2) * (g * x_hat).sum(axis=0) / 2
    ddelta = q * dmu + 2 * p * q * dv * delta
    dx = r * g + ddelta / m + 2 * q * dv / m * (x - xbar)
    return dx, dmu - ddelta, p * dv
