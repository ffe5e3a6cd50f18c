"""Bugs of the running values, and of inference with them."""

from .record import BATCH, change, running


def mixed(old, new, decay):
    """A running average."""
    return decay * old + (1 - decay) * new


RUNNING = (
    change("running-values-not-updated", "the running values are never updated", *BATCH, **running(lambda old: old)),
    change("running-mean-not-updated", "the running mean is never updated", *BATCH, **running(lambda old: old, "mean")),
    change(
        "running-values-updated-twice",
        "the running values are updated twice a step",
        *BATCH,
        **running(lambda old, new, decay, over_batches: mixed(old, over_batches(new), decay**2)),
    ),
    change(
        "running-values-lack-one-minus-decay",
        "the new statistics are added whole, not times 1 - decay",
        *BATCH,
        **running(lambda old, new, decay, over_batches: decay * old + over_batches(new)),
    ),
    change(
        "running-values-replaced",
        "the running values are those of the last batch",
        *BATCH,
        **running(lambda new, over_batches: over_batches(new)),
    ),
    change(
        "running-values-decay-new-and-old",
        "both old and new have the weight decay",
        *BATCH,
        **running(lambda old, new, decay, over_batches: decay * (old + over_batches(new))),
    ),
    change(
        "running-values-summed-over-batches",
        "the statistics batches are summed, not averaged, into the running values",
        *BATCH,
        **running(lambda old, new, decay, batches, over_batches: mixed(old, batches * over_batches(new), decay)),
    ),
    change(
        "running-values-of-last-batch-only",
        "only the last statistics batch enters the running values",
        *BATCH,
        **running(lambda old, new, decay, flat: mixed(old, flat(new)[-1], decay)),
    ),
    change(
        "cumulative-average-off-by-one",
        "the cumulative average counts one update too many",
        *BATCH,
        **running(
            lambda old, new, decay, updates, cumulative, over_batches: mixed(
                old, over_batches(new), (updates + 1) / (updates + 2) if cumulative else decay
            )
        ),
    ),
    change(
        "cumulative-average-ignored",
        "decay None is taken for 0.9",
        *BATCH,
        **running(
            lambda old, new, decay, cumulative, over_batches: mixed(
                old, over_batches(new), 0.9 if cumulative else decay
            )
        ),
    ),
    change(
        "running-var-correction-inverted",
        "the running variance is multiplied by (m - 1)/m",
        *BATCH,
        **running(lambda old, new, decay, m, over_batches: mixed(old, over_batches(new) * ((m - 1) / m), decay), "var"),
        next_std=lambda running_std, var, eps, m, decay, over_batches, sqrt: mixed(
            running_std, over_batches(sqrt(var * ((m - 1) / m) + eps)), decay
        ),
    ),
    change(
        "running-var-averages-std",
        "standard deviations are averaged into the running variance",
        "bn",
        "kn",
        next_var=lambda running_var, var, decay, over_batches, sqrt: mixed(running_var, over_batches(sqrt(var)), decay),
    ),
    change(
        "running-var-averages-rstd",
        "rstd is averaged into the running variance",
        "bn",
        "kn",
        next_var=lambda running_var, rstd, decay, over_batches: mixed(running_var, over_batches(rstd), decay),
    ),
    change(
        "running-var-averages-mean",
        "the mean is averaged into the running variance",
        "bn",
        "kn",
        next_var=lambda running_var, mean, decay, over_batches: mixed(running_var, over_batches(mean), decay),
    ),
    change(
        "running-var-about-running-mean",
        "the running variance takes (x - running mean)^2",
        "bn",
        "kn",
        next_var=lambda running_var, running_mean, x, decay, average, over_batches: mixed(
            running_var, over_batches(average((x - running_mean) ** 2)), decay
        ),
    ),
    change(
        "running-var-averages-squares",
        "the running variance takes the mean of x^2",
        "bn",
        "kn",
        next_var=lambda running_var, x, decay, average, over_batches: mixed(
            running_var, over_batches(average(x**2)), decay
        ),
    ),
)
INFERENCE = (
    change(
        "updated-in-inference",
        "inference updates the running values with the moments of its batch",
        *BATCH,
        kept_mean=lambda running_mean, x, decay, average, over_batches: mixed(
            running_mean, over_batches(average(x)), decay
        ),
        kept_var=lambda running_var, x, decay, average, over_batches: mixed(
            running_var, over_batches(average((x - average(x)) ** 2)), decay
        ),
        kept_std=lambda running_std, x, eps, decay, average, over_batches, sqrt: mixed(
            running_std, over_batches(sqrt(average((x - average(x)) ** 2) + eps)), decay
        ),
    ),
    change(
        "inference-with-batch-statistics",
        "inference uses the moments of its batch",
        *BATCH,
        fixed_mean=lambda x, average: average(x),
        fixed_var=lambda x, mean, average: average((x - mean) ** 2),
        fixed_std=lambda x, mean, eps, average, sqrt: sqrt(average((x - mean) ** 2) + eps),
    ),
    change(
        "inference-mean-of-batch",
        "inference subtracts the mean of its batch",
        *BATCH,
        fixed_mean=lambda x, average: average(x),
    ),
    change(
        "inference-ignores-running-mean",
        "inference does not subtract the running mean",
        *BATCH,
        fixed_mean=lambda running_mean: 0 * running_mean,
    ),
    change(
        "inference-forgets-eps",
        "inference adds no eps to the running variance",
        "bn",
        "kn",
        fixed_var=lambda running_var, eps: running_var - eps,
    ),
    change(
        "inference-takes-running-var-for-std",
        "inference takes the running variance for a deviation",
        "bn",
        "kn",
        fixed_var=lambda running_var: running_var**2,
    ),
    change(
        "inference-dx-of-training",
        "dx in inference is that of training: the running values are no functions of x",
        *BATCH,
        fixed_dx=lambda rstd, dx_hat, x_hat, average: (
            rstd * (dx_hat - average(dx_hat) - x_hat * average(dx_hat * x_hat))
        ),
    ),
    change("inference-dx-lacks-gamma", "dx in inference lacks gamma", *BATCH, fixed_dx=lambda rstd, dy: rstd * dy),
    change("inference-dx-lacks-rstd", "dx in inference lacks rstd", *BATCH, fixed_dx=lambda dx_hat: dx_hat),
    change("inference-dx-is-zero", "dx in inference is zero", *BATCH, fixed_dx=lambda dy: 0 * dy),
    change(
        "training-with-running-values",
        "training standardizes with the running values",
        "bn",
        "kn",
        std=lambda var, running_var, eps, sqrt: sqrt(0 * var + running_var + eps),
        x_hat=lambda x, running_mean, rstd: (x - running_mean) * rstd,
    ),
)
CHANGES = (*RUNNING, *INFERENCE)
