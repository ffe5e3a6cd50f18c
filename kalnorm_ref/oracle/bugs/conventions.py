"""Conventions: what others chose otherwise, with gradients that follow from it."""

from .kalman import averages
from .kalman_prior import swapped
from .record import ALL, BATCH, KALMAN, change, observing, running, terms
from .state import mixed


def updated_by_each(old, new, decay, flat):
    """One update after the other."""
    for statistics in flat(new):
        old = mixed(old, statistics, decay)
    return old


STATE = (
    change(
        "decay-weighs-new",
        "decay, or momentum, is the weight of the new value",
        *BATCH,
        **running(lambda old, new, decay, over_batches: mixed(old, over_batches(new), 1 - decay)),
    ),
    change(
        "running-var-unbiased",
        "the running variance is unbiased: m/(m - 1)",
        *BATCH,
        **running(lambda old, new, decay, m, over_batches: mixed(old, over_batches(new) * (m / (m - 1)), decay), "var"),
        next_std=lambda running_std, var, eps, m, decay, over_batches, sqrt: mixed(
            running_std, over_batches(sqrt(var * (m / (m - 1)) + eps)), decay
        ),
    ),
    change(
        "running-var-of-whole-batch",
        "the running variance is that of the gradient batch: the means of its statistics batches vary",
        "bn",
        "kn",
        next_var=lambda running_var, var, mean, decay, flat, over_batches: mixed(
            running_var, over_batches(var) + flat(mean).var(axis=0), decay
        ),
    ),
    change(
        "running-var-contains-eps",
        "the running variance contains eps",
        "bn",
        "kn",
        next_var=lambda running_var, var, eps, decay, over_batches: mixed(running_var, over_batches(var) + eps, decay),
    ),
    change(
        "running-values-of-first-batch-only",
        "only the first statistics batch enters the running values",
        *BATCH,
        **running(lambda old, new, decay, flat: mixed(old, flat(new)[0], decay)),
    ),
    change(
        "one-update-per-statistics-batch",
        "each statistics batch updates the running values",
        *BATCH,
        **running(updated_by_each),
    ),
    change(
        "running-values-start-at-first-batch",
        "the first update replaces the running values",
        *BATCH,
        **running(
            lambda old, new, decay, updates, over_batches: mixed(old, over_batches(new), decay if updates else 0)
        ),
    ),
    change(
        "running-std-averages-variance",
        "the running deviation is the root of an averaged variance",
        "brn",
        next_std=lambda running_std, std, decay, over_batches, sqrt: sqrt(
            mixed(running_std**2, over_batches(std**2), decay)
        ),
    ),
    change(
        "running-std-without-eps",
        "the running deviation does not contain eps",
        "brn",
        next_std=lambda running_std, var, decay, over_batches, sqrt: mixed(running_std, over_batches(sqrt(var)), decay),
    ),
    change(
        "running-averages-observed",
        "the running values average the batch's moments, not the estimate",
        "kn",
        **averages("observed_mean", "observed_var"),
    ),
    change(
        "corrections-after-update",
        "r and d are taken from the running values after this batch's update",
        "brn",
        corr_r=lambda std, running_std, decay, r_max, clip, over_batches: clip(
            std / mixed(running_std, over_batches(std), decay), 1 / r_max, r_max
        ),
        corr_d=lambda mean, std, running_mean, running_std, decay, d_max, clip, over_batches: clip(
            (mean - mixed(running_mean, over_batches(mean), decay)) / mixed(running_std, over_batches(std), decay),
            -d_max,
            d_max,
        ),
    ),
    change(
        "inference-corrects-variance",
        "inference multiplies the running variance by m/(m - 1), with m of its batch",
        "bn",
        "kn",
        fixed_var=lambda running_var, m: running_var * (m / (m - 1)),
    ),
)
RETURNED = (
    change("rstd-is-std", "rstd holds the deviation (var + eps)^(1/2)", "bn", "brn", saved_rstd=lambda std: std),
    change("rstd-is-var", "rstd holds the variance", "bn", "brn", saved_rstd=lambda var: var),
    change(
        "returns-unbiased-var",
        "the variance that forward returns is unbiased",
        *BATCH,
        "gkn",
        saved_var=lambda var, m: var * (m / (m - 1)),
    ),
    change(
        "returns-var-with-eps",
        "the variance that forward returns contains eps",
        *BATCH,
        "gkn",
        saved_var=lambda var, eps: var + eps,
    ),
)
FORWARD = (
    change(
        "eps-outside-root",
        "eps is added to the deviation: var^(1/2) + eps",
        *ALL,
        std=lambda var, eps, sqrt: sqrt(var) + eps,
        **terms(
            projection=lambda dx_hat, x_hat, std, var, sqrt, average: average(dx_hat * x_hat) * std / sqrt(var),
        ),
        dvar=lambda rstd, var, dx_hat, x_hat, destimate_var, sqrt, samples_sum: (
            destimate_var - rstd / sqrt(var) * samples_sum(dx_hat * x_hat) / 2
        ),
    ),
    change(
        "var-unbiased",
        "x is standardized with the unbiased variance",
        *ALL,
        **observing(var=lambda x, mean, m, samples_sum: samples_sum((x - mean) ** 2) / (m - 1)),
        **terms(projection=lambda dx_hat, x_hat, m, samples_sum: samples_sum(dx_hat * x_hat) / (m - 1)),
        kalman_dx=lambda rstd, dx_hat, ddelta, dobserved_var, x, observed_mean, m: (
            rstd * dx_hat + ddelta / m + 2 * dobserved_var / (m - 1) * (x - observed_mean)
        ),
    ),
    change(
        "gamma-plus-one",
        "1 + gamma multiplies: gamma is centred at zero",
        *ALL,
        y=lambda x_hat, gamma, beta: (1 + gamma) * x_hat + beta,
        dx_hat=lambda dy, gamma: dy * (1 + gamma),
    ),
)
KALMAN_FORMS = (
    change(
        "gain-weighs-prior",
        "the gain is the weight of the prior",
        *KALMAN,
        fused_mean=lambda prior_mean, observed_mean, gain: gain * prior_mean + (1 - gain) * observed_mean,
        fused_var=lambda prior_var, observed_var, delta, gain: (
            gain * prior_var + (1 - gain) * observed_var + gain * (1 - gain) * delta**2
        ),
        ddelta=lambda dmean, dvar, delta, gain: (1 - gain) * dmean + (2 * gain * (1 - gain)) * dvar * delta,
        dobserved_var=lambda dvar, gain: (1 - gain) * dvar,
        dprior_var=lambda dvar, gain: gain * dvar,
        dgain=lambda dmean, dvar, delta, observed_var, prior_var, gain, to_gain: to_gain(
            dvar * (prior_var - observed_var + (1 - 2 * gain) * delta**2) - dmean * delta
        ),
    ),
    change(
        "estimate-var-of-a-filter",
        "the estimate's variance is that of a filter's error: p b",
        *KALMAN,
        fused_var=lambda prior_var, gain: (1 - gain) * prior_var,
        ddelta=lambda dmean, gain: gain * dmean,
        dobserved_var=lambda dvar: 0 * dvar,
        dgain=lambda dmean, dvar, delta, prior_var, to_gain: to_gain(dmean * delta - dvar * prior_var),
    ),
    change(
        "disagreement-left-out",
        "the estimate's variance is p b + q S, without p q delta^2",
        *KALMAN,
        fused_var=lambda prior_var, observed_var, gain: (1 - gain) * prior_var + gain * observed_var,
        ddelta=lambda dmean, gain: gain * dmean,
        dgain=lambda dmean, dvar, delta, observed_var, prior_var, to_gain: to_gain(
            dmean * delta + dvar * (observed_var - prior_var)
        ),
    ),
    change(
        "noise-is-deviation",
        "the noise is a standard deviation",
        *KALMAN,
        prior_var=lambda previous_var, transition, noise, expand: expand(previous_var @ (transition**2).T + noise**2),
        dnoise=lambda dprior_var, noise, flat, to_noise: to_noise(flat(dprior_var) * (2 * noise)),
    ),
    change(
        "transition-from-left",
        "the transition is given transposed: a = mu' A",
        *KALMAN,
        prior_mean=lambda previous_mean, transition, expand: expand(previous_mean @ swapped(transition).T),
        prior_var=lambda previous_var, transition, noise, expand: expand(
            previous_var @ (swapped(transition) ** 2).T + noise
        ),
        dprevious_mean=lambda dprior_mean, transition, flat: flat(dprior_mean) @ swapped(transition),
        dprevious_var=lambda dprior_var, transition, flat: flat(dprior_var) @ swapped(transition) ** 2,
        dtransition=lambda dprior_mean, dprior_var, previous_mean, previous_var, transition, flat, to_transition: (
            to_transition(
                swapped(
                    flat(dprior_mean).T @ previous_mean + 2 * swapped(transition) * (flat(dprior_var).T @ previous_var)
                )
            )
        ),
    ),
)
CHANGES = tuple(c._replace(convention=True) for c in (*STATE, *RETURNED, *FORWARD, *KALMAN_FORMS))
