"""Bugs of the gradients that leave Kalman normalization: to gain, transition, noise and the previous normalizer."""

import numpy as np

from .kalman_prior import swapped
from .record import KALMAN, change


def first_only(a):
    """Zeros but in the first statistics batch, or sample."""
    return np.concatenate([a[:1], 0 * a[1:]])


def averaged_dtransition(
    dprior_mean, dprior_var, previous_mean, previous_var, transition, flat, to_transition, batches
):
    through_mean = flat(dprior_mean).T @ previous_mean
    return to_transition(through_mean + 2 * transition * (flat(dprior_var).T @ previous_var)) / batches


DGAIN = (
    change(
        "dgain-lacks-variance",
        "dgain lacks the path through the variance",
        *KALMAN,
        dgain=lambda dmean, delta, to_gain: to_gain(dmean * delta),
    ),
    change(
        "dgain-lacks-mean",
        "dgain lacks the path through the mean",
        *KALMAN,
        dgain=lambda dvar, delta, observed_var, prior_var, gain, to_gain: to_gain(
            dvar * (observed_var - prior_var + (1 - 2 * gain) * delta**2)
        ),
    ),
    change(
        "dgain-lacks-disagreement",
        "dgain lacks (1 - 2q) delta^2",
        *KALMAN,
        dgain=lambda dmean, dvar, delta, observed_var, prior_var, to_gain: to_gain(
            dmean * delta + dvar * (observed_var - prior_var)
        ),
    ),
    change(
        "dgain-disagreement-lacks-2",
        "dgain has (1 - q) delta^2",
        *KALMAN,
        dgain=lambda dmean, dvar, delta, observed_var, prior_var, gain, to_gain: to_gain(
            dmean * delta + dvar * (observed_var - prior_var + (1 - gain) * delta**2)
        ),
    ),
    change(
        "dgain-disagreement-with-p-q",
        "dgain has p q delta^2: not differentiated",
        *KALMAN,
        dgain=lambda dmean, dvar, delta, observed_var, prior_var, gain, to_gain: to_gain(
            dmean * delta + dvar * (observed_var - prior_var + gain * (1 - gain) * delta**2)
        ),
    ),
    change(
        "dgain-variances-swapped",
        "dgain has prior - batch for the variances",
        *KALMAN,
        dgain=lambda dmean, dvar, delta, observed_var, prior_var, gain, to_gain: to_gain(
            dmean * delta + dvar * (prior_var - observed_var + (1 - 2 * gain) * delta**2)
        ),
    ),
    change(
        "dgain-lacks-prior-var",
        "dgain has S for S - b",
        *KALMAN,
        dgain=lambda dmean, dvar, delta, observed_var, gain, to_gain: to_gain(
            dmean * delta + dvar * (observed_var + (1 - 2 * gain) * delta**2)
        ),
    ),
    change(
        "dgain-through-sigmoid",
        "dgain has the factor q (1 - q) of a sigmoid, which the gain is not here",
        *KALMAN,
        dgain=lambda dmean, dvar, delta, observed_var, prior_var, gain, to_gain: to_gain(
            gain * (1 - gain) * (dmean * delta + dvar * (observed_var - prior_var + (1 - 2 * gain) * delta**2))
        ),
    ),
    change(
        "dgain-of-first-batch",
        "dgain is that of the first statistics batch, or sample",
        *KALMAN,
        dgain=lambda dmean, dvar, delta, observed_var, prior_var, gain, to_gain: to_gain(
            (dmean * delta + dvar * (observed_var - prior_var + (1 - 2 * gain) * delta**2))[:1]
        ),
    ),
    change(
        "dgain-is-mean",
        "dgain is a mean over the statistics batches, or samples",
        *KALMAN,
        dgain=lambda dmean, dvar, delta, observed_var, prior_var, gain, batches, to_gain: (
            to_gain(dmean * delta + dvar * (observed_var - prior_var + (1 - 2 * gain) * delta**2)) / batches
        ),
    ),
)
TO_PREVIOUS = (
    change(
        "dprevious-stopped",
        "no gradient reaches the previous normalizer",
        *KALMAN,
        dprevious_mean=lambda dprior_mean, transition, flat: 0 * flat(dprior_mean) @ transition,
        dprevious_var=lambda dprior_var, transition, flat: 0 * flat(dprior_var) @ transition,
    ),
    change(
        "dprevious-of-first-batch",
        "only the first statistics batch, or sample, sends a gradient to the previous normalizer",
        *KALMAN,
        dprevious_mean=lambda dprior_mean, transition, flat: first_only(flat(dprior_mean) @ transition),
        dprevious_var=lambda dprior_var, transition, flat: first_only(flat(dprior_var) @ transition**2),
    ),
    change(
        "dprevious-is-mean",
        "the gradients of the previous estimate are divided by the number of statistics batches, or samples",
        *KALMAN,
        dprevious_mean=lambda dprior_mean, transition, flat, batches: flat(dprior_mean) @ transition / batches,
        dprevious_var=lambda dprior_var, transition, flat, batches: flat(dprior_var) @ transition**2 / batches,
    ),
    change(
        "dprevious-mean-transposed",
        "the gradient of the previous mean takes the transition transposed",
        *KALMAN,
        dprevious_mean=lambda dprior_mean, transition, flat: flat(dprior_mean) @ swapped(transition),
    ),
    change(
        "dprevious-var-transposed",
        "the gradient of the previous variance takes the transition transposed",
        *KALMAN,
        dprevious_var=lambda dprior_var, transition, flat: flat(dprior_var) @ swapped(transition) ** 2,
    ),
    change(
        "dprevious-var-not-squared",
        "the gradient of the previous variance has A for A*A",
        *KALMAN,
        dprevious_var=lambda dprior_var, transition, flat: flat(dprior_var) @ transition,
    ),
    change(
        "dtransition-lacks-variance",
        "dA lacks 2 A db v'",
        *KALMAN,
        dtransition=lambda dprior_mean, previous_mean, flat, to_transition: to_transition(
            flat(dprior_mean).T @ previous_mean
        ),
    ),
    change(
        "dtransition-lacks-mean",
        "dA lacks da mu'",
        *KALMAN,
        dtransition=lambda dprior_var, previous_var, transition, flat, to_transition: to_transition(
            2 * transition * (flat(dprior_var).T @ previous_var)
        ),
    ),
    change(
        "dtransition-lacks-2",
        "dA has A db v': the 2 is missing",
        *KALMAN,
        dtransition=lambda dprior_mean, dprior_var, previous_mean, previous_var, transition, flat, to_transition: (
            to_transition(flat(dprior_mean).T @ previous_mean + transition * (flat(dprior_var).T @ previous_var))
        ),
    ),
    change(
        "dtransition-lacks-transition",
        "dA has 2 db v': A is missing",
        *KALMAN,
        dtransition=lambda dprior_mean, dprior_var, previous_mean, previous_var, flat, to_transition: to_transition(
            flat(dprior_mean).T @ previous_mean + 2 * (flat(dprior_var).T @ previous_var)
        ),
    ),
    change(
        "dtransition-transposed",
        "dA is transposed",
        *KALMAN,
        dtransition=lambda dprior_mean, dprior_var, previous_mean, previous_var, transition, flat, to_transition: (
            to_transition(
                swapped(flat(dprior_mean).T @ previous_mean + 2 * transition * (flat(dprior_var).T @ previous_var))
            )
        ),
    ),
    change(
        "dtransition-of-first-batch",
        "dA is that of the first statistics batch, or sample",
        *KALMAN,
        dtransition=lambda dprior_mean, dprior_var, previous_mean, previous_var, transition, flat, to_transition: (
            to_transition(
                flat(dprior_mean)[:1].T @ previous_mean[:1]
                + 2 * transition * (flat(dprior_var)[:1].T @ previous_var[:1])
            )
        ),
    ),
    change(
        "dtransition-is-mean",
        "dA is a mean over the statistics batches, or samples",
        *KALMAN,
        dtransition=averaged_dtransition,
    ),
    change(
        "dnoise-is-mean",
        "dnoise is a mean over the statistics batches, or samples",
        *KALMAN,
        dnoise=lambda dprior_var, flat, batches, to_noise: to_noise(flat(dprior_var)) / batches,
    ),
    change(
        "dnoise-of-first-batch",
        "dnoise is that of the first statistics batch, or sample",
        *KALMAN,
        dnoise=lambda dprior_var, flat, to_noise: to_noise(flat(dprior_var)[:1]),
    ),
    change(
        "dnoise-with-dvar",
        "dnoise is sum dv: 1 - gain is missing",
        *KALMAN,
        dnoise=lambda dvar, flat, to_noise: to_noise(flat(dvar)),
    ),
    change(
        "dnoise-through-exponential",
        "dnoise has the noise as a factor, as of a logarithm, which the noise is not here",
        *KALMAN,
        dnoise=lambda dprior_var, noise, flat, to_noise: to_noise(flat(dprior_var) * noise),
    ),
)
CHANGES = (*DGAIN, *TO_PREVIOUS)
