"""Fuse, the Kalman step of batch Kalman normalization: the first two moments of a mixture.

Derived by the laws of total mean and total variance. A value comes from the prior N(a, b) with probability p = 1 - q and
from the batch N(xbar, S) with probability q. The mean of the means is p a + q xbar. The variance is the mean of the
variances, p b + q S, plus the variance of the means: they lie q delta and p delta from the fused mean, delta = xbar - a,
and p (q delta)^2 + q (p delta)^2 = p q delta^2 (A1, B5).

Mistakes that students make:

- The term p q delta^2 is left out, so that prior and batch seem to agree whatever they say.
- p and q are swapped: the gain is the weight of the batch.
- The variances get the weights p^2 and q^2, as in the variance of a weighted mean. That is the error of an estimate of
  the mean; here the spread of the data is asked for.
"""


def kn_fuse(prior_mean, prior_var, mean, var, gain):
    p, q = 1 - gain, gain
    delta = mean - prior_mean
    return p * prior_mean + q * mean, p * prior_var + q * var + p * q * delta**2
