"""Bugs of Kalman normalization in the forward: gain and estimate."""

import numpy as np

from .record import KALMAN, change, renamed
from .state import mixed


def averages(mean, var):
    """Running averages of other moments than those of the estimate."""
    return {
        "next_mean": renamed(
            lambda old, new, decay, over_batches: mixed(old, over_batches(new), decay), old="running_mean", new=mean
        ),
        "next_var": renamed(
            lambda old, new, decay, over_batches: mixed(old, over_batches(new), decay), old="running_var", new=var
        ),
    }


FUSE = (
    change(
        "gain-swapped-in-forward-only",
        "the forward takes the gain for the weight of the prior",
        *KALMAN,
        fused_mean=lambda prior_mean, observed_mean, gain: gain * prior_mean + (1 - gain) * observed_mean,
        fused_var=lambda prior_var, observed_var, delta, gain: (
            gain * prior_var + (1 - gain) * observed_var + gain * (1 - gain) * delta**2
        ),
    ),
    change(
        "gain-swapped-in-mean",
        "the estimate's mean takes the gain for the weight of the prior",
        *KALMAN,
        fused_mean=lambda prior_mean, observed_mean, gain: gain * prior_mean + (1 - gain) * observed_mean,
    ),
    change(
        "gain-swapped-in-var",
        "the estimate's variance takes the gain for the weight of the prior",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, delta, gain: (
            gain * prior_var + (1 - gain) * observed_var + gain * (1 - gain) * delta**2
        ),
    ),
    change(
        "gain-of-neighbour",
        "the gain is that of the neighbouring channel or group",
        *KALMAN,
        fused_mean=lambda prior_mean, observed_mean, delta, gain: prior_mean + np.roll(gain, 1) * delta,
    ),
    change(
        "estimate-mean-adds-gain-times-mean",
        "the estimate's mean is a + q xbar, not a + q (xbar - a)",
        *KALMAN,
        fused_mean=lambda prior_mean, observed_mean, gain: prior_mean + gain * observed_mean,
    ),
    change(
        "estimate-mean-is-observed",
        "the estimate's mean is that of the batch",
        *KALMAN,
        fused_mean=lambda observed_mean: observed_mean,
    ),
    change(
        "estimate-var-is-observed",
        "the estimate's variance is that of the batch",
        *KALMAN,
        fused_var=lambda observed_var: observed_var,
    ),
    change(
        "estimate-is-prior",
        "the estimate is the prior",
        *KALMAN,
        fused_mean=lambda prior_mean: prior_mean,
        fused_var=lambda prior_var: prior_var,
    ),
    change(
        "estimate-is-observed",
        "the estimate is the batch's moments: batch or group normalization",
        *KALMAN,
        fused_mean=lambda observed_mean: observed_mean,
        fused_var=lambda observed_var: observed_var,
    ),
    change(
        "disagreement-missing-in-forward-only",
        "the estimate's variance lacks p q delta^2, which the gradient has",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, gain: (1 - gain) * prior_var + gain * observed_var,
    ),
    change(
        "disagreement-with-q-squared",
        "the estimate's variance has p q^2 delta^2",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, delta, gain: (
            (1 - gain) * prior_var + gain * observed_var + gain**2 * (1 - gain) * delta**2
        ),
    ),
    change(
        "disagreement-with-p-squared",
        "the estimate's variance has p^2 q delta^2",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, delta, gain: (
            (1 - gain) * prior_var + gain * observed_var + gain * (1 - gain) ** 2 * delta**2
        ),
    ),
    change(
        "disagreement-lacks-p",
        "the estimate's variance has q delta^2",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, delta, gain: (
            (1 - gain) * prior_var + gain * observed_var + gain * delta**2
        ),
    ),
    change(
        "disagreement-lacks-q",
        "the estimate's variance has p delta^2",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, delta, gain: (
            (1 - gain) * prior_var + gain * observed_var + (1 - gain) * delta**2
        ),
    ),
    change(
        "disagreement-subtracted",
        "p q delta^2 is subtracted from the estimate's variance",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, delta, gain: (
            (1 - gain) * prior_var + gain * observed_var - gain * (1 - gain) * delta**2
        ),
    ),
    change(
        "disagreement-not-squared",
        "the estimate's variance has p q |delta|",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, delta, gain: (
            (1 - gain) * prior_var + gain * observed_var + gain * (1 - gain) * abs(delta)
        ),
    ),
    change(
        "estimate-var-mixes-deviations",
        "the estimate's variance is the square of p b^(1/2) + q S^(1/2)",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, delta, gain, sqrt: (
            ((1 - gain) * sqrt(prior_var) + gain * sqrt(observed_var)) ** 2 + gain * (1 - gain) * delta**2
        ),
    ),
    change(
        "estimate-var-mixes-precisions",
        "the estimate's variance is 1/(p/b + q/S): a product of Gaussians, not a mixture",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, gain: 1 / ((1 - gain) / prior_var + gain / observed_var),
    ),
    change(
        "gain-squared-in-var",
        "the estimate's variance is p^2 b + q^2 S + p q delta^2",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, delta, gain: (
            (1 - gain) ** 2 * prior_var + gain**2 * observed_var + gain * (1 - gain) * delta**2
        ),
    ),
    change(
        "standardizes-with-prior-var",
        "x is divided by the prior's deviation, the estimate's is returned",
        *KALMAN,
        std=lambda prior_var, eps, sqrt: sqrt(prior_var + eps),
    ),
    change(
        "standardizes-with-observed-var",
        "x is divided by the batch's deviation, the estimate's is returned",
        *KALMAN,
        std=lambda observed_var, eps, sqrt: sqrt(observed_var + eps),
    ),
    change(
        "standardizes-with-prior-mean",
        "the prior's mean is subtracted, the estimate's is returned",
        *KALMAN,
        x_hat=lambda x, prior_mean, rstd: (x - prior_mean) * rstd,
    ),
    change(
        "standardizes-with-observed-mean",
        "the batch's mean is subtracted, the estimate's is returned",
        *KALMAN,
        x_hat=lambda x, observed_mean, rstd: (x - observed_mean) * rstd,
    ),
    change(
        "returns-observed",
        "the batch's moments are returned as the estimate",
        *KALMAN,
        saved_mean=lambda observed_mean: observed_mean,
        saved_var=lambda observed_var: observed_var,
    ),
    change(
        "returns-prior",
        "the prior is returned as the estimate",
        *KALMAN,
        saved_mean=lambda prior_mean: prior_mean,
        saved_var=lambda prior_var: prior_var,
    ),
    change(
        "returns-std",
        "the estimate's deviation is returned as its variance",
        *KALMAN,
        saved_var=lambda var, sqrt: sqrt(var),
    ),
)
STATE = (
    change(
        "running-averages-prior", "the running values average the prior", "kn", **averages("prior_mean", "prior_var")
    ),
    change(
        "running-mean-averages-observed",
        "the running mean averages the batch's mean, the running variance the estimate's",
        "kn",
        next_mean=averages("observed_mean", "observed_var")["next_mean"],
    ),
    change(
        "running-var-averages-observed",
        "the running variance averages the batch's variance, the running mean the estimate's",
        "kn",
        next_var=averages("observed_mean", "observed_var")["next_var"],
    ),
)
CHANGES = (*FUSE, *STATE)
