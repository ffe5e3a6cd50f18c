"""Bugs of the prior of Kalman normalization: what the previous estimate, the transition and the noise make."""

import numpy as np

from .record import KALMAN, change


def swapped(a):
    """The transpose, where the shape allows it to go unnoticed."""
    return a.T if a.shape[0] == a.shape[1] else a


CHANGES = (
    change(
        "prior-var-transition-not-squared",
        "the prior's variance is A v' + noise: A is not squared",
        *KALMAN,
        prior_var=lambda previous_var, transition, noise, expand: expand(previous_var @ transition.T + noise),
    ),
    change(
        "prior-var-transition-absolute",
        "the prior's variance is |A| v' + noise",
        *KALMAN,
        prior_var=lambda previous_var, transition, noise, expand: expand(previous_var @ abs(transition).T + noise),
    ),
    change(
        "prior-var-of-sum",
        "the prior's variance is (A v'^(1/2))^2 + noise: deviations are added",
        *KALMAN,
        prior_var=lambda previous_var, transition, noise, expand, sqrt: expand(
            (sqrt(previous_var) @ transition.T) ** 2 + noise
        ),
    ),
    change(
        "noise-missing",
        "the noise is not added to the prior's variance",
        *KALMAN,
        prior_var=lambda previous_var, transition, expand: expand(previous_var @ (transition**2).T),
    ),
    change(
        "noise-squared-in-forward-only",
        "the noise is squared in the prior's variance, and its gradient is that of a variance",
        *KALMAN,
        prior_var=lambda previous_var, transition, noise, expand: expand(previous_var @ (transition**2).T + noise**2),
    ),
    change(
        "noise-taken-for-logarithm",
        "exp(noise) is added to the prior's variance",
        *KALMAN,
        prior_var=lambda previous_var, transition, noise, expand: expand(
            previous_var @ (transition**2).T + np.exp(noise)
        ),
    ),
    change(
        "noise-added-to-mean",
        "the noise is added to the prior's mean",
        *KALMAN,
        prior_mean=lambda previous_mean, transition, noise, expand: expand(previous_mean @ transition.T + noise),
    ),
    change(
        "noise-before-transition",
        "the noise, its mean, goes through the transition: (A*A)(v' + noise)",
        *KALMAN,
        prior_var=lambda previous_var, transition, noise, expand: expand(
            (previous_var + noise.mean()) @ (transition**2).T
        ),
    ),
    change(
        "prior-mean-transposed",
        "the prior's mean takes the transition transposed",
        *KALMAN,
        prior_mean=lambda previous_mean, transition, expand: expand(previous_mean @ swapped(transition).T),
    ),
    change(
        "prior-var-transposed",
        "the prior's variance takes the transition transposed",
        *KALMAN,
        prior_var=lambda previous_var, transition, noise, expand: expand(
            previous_var @ (swapped(transition) ** 2).T + noise
        ),
    ),
    change(
        "prior-of-neighbour",
        "the prior is that of the neighbouring channel or group",
        *KALMAN,
        prior_mean=lambda previous_mean, transition, expand: expand(np.roll(previous_mean @ transition.T, 1, axis=1)),
        prior_var=lambda previous_var, transition, noise, expand: expand(
            np.roll(previous_var @ (transition**2).T + noise, 1, axis=1)
        ),
    ),
    change(
        "prior-of-first-batch",
        "all statistics batches, or samples, take the prior of the first",
        *KALMAN,
        prior_mean=lambda previous_mean, transition, expand, batches: expand(
            (previous_mean @ transition.T)[[0] * batches]
        ),
        prior_var=lambda previous_var, transition, noise, expand, batches: expand(
            (previous_var @ (transition**2).T + noise)[[0] * batches]
        ),
    ),
    change(
        "prior-var-with-eps",
        "eps is added to the prior's variance",
        *KALMAN,
        prior_var=lambda previous_var, transition, noise, eps, expand: expand(
            previous_var @ (transition**2).T + noise + eps
        ),
    ),
)
