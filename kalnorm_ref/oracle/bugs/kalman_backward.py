"""Bugs of Kalman normalization in the backward: through the estimate to x and to the prior."""

from .record import KALMAN, change

TO_MOMENTS = (
    change(
        "dmean-ignores-destimate",
        "the gradient of the estimate's mean is not added",
        *KALMAN,
        dmean=lambda rstd, dx_hat, samples_sum: -rstd * samples_sum(dx_hat),
    ),
    change(
        "dvar-ignores-destimate",
        "the gradient of the estimate's variance is not added",
        *KALMAN,
        dvar=lambda rstd, dx_hat, x_hat, samples_sum: -(rstd**2) * samples_sum(dx_hat * x_hat) / 2,
    ),
    change(
        "destimate-ignored",
        "the gradients of the estimate are not added",
        *KALMAN,
        dmean=lambda rstd, dx_hat, samples_sum: -rstd * samples_sum(dx_hat),
        dvar=lambda rstd, dx_hat, x_hat, samples_sum: -(rstd**2) * samples_sum(dx_hat * x_hat) / 2,
    ),
    change(
        "destimate-subtracted",
        "the gradients of the estimate are subtracted",
        *KALMAN,
        dmean=lambda rstd, dx_hat, destimate_mean, samples_sum: -destimate_mean - rstd * samples_sum(dx_hat),
        dvar=lambda rstd, dx_hat, x_hat, destimate_var, samples_sum: (
            -destimate_var - rstd**2 * samples_sum(dx_hat * x_hat) / 2
        ),
    ),
    change(
        "destimate-var-taken-for-std",
        "the gradient of the estimate's variance is taken for that of the deviation",
        *KALMAN,
        dvar=lambda rstd, dx_hat, x_hat, destimate_var, samples_sum: (
            destimate_var * rstd / 2 - rstd**2 * samples_sum(dx_hat * x_hat) / 2
        ),
    ),
    change(
        "dmean-sign",
        "the gradient of the mean has the wrong sign",
        *KALMAN,
        dmean=lambda rstd, dx_hat, destimate_mean, samples_sum: destimate_mean + rstd * samples_sum(dx_hat),
    ),
    change(
        "dmean-lacks-rstd",
        "the gradient of the mean lacks rstd",
        *KALMAN,
        dmean=lambda dx_hat, destimate_mean, samples_sum: destimate_mean - samples_sum(dx_hat),
    ),
    change(
        "dmean-is-average",
        "the gradient of the mean is a mean over the samples, not a sum",
        *KALMAN,
        dmean=lambda rstd, dx_hat, destimate_mean, average: destimate_mean - rstd * average(dx_hat),
    ),
    change(
        "dvar-sign",
        "the gradient of the variance has the wrong sign",
        *KALMAN,
        dvar=lambda rstd, dx_hat, x_hat, destimate_var, samples_sum: (
            destimate_var + rstd**2 * samples_sum(dx_hat * x_hat) / 2
        ),
    ),
    change(
        "dvar-lacks-half",
        "the gradient of the variance lacks 1/2",
        *KALMAN,
        dvar=lambda rstd, dx_hat, x_hat, destimate_var, samples_sum: (
            destimate_var - rstd**2 * samples_sum(dx_hat * x_hat)
        ),
    ),
    change(
        "dvar-rstd-cubed",
        "the gradient of the variance has rstd^3 x_hat: one rstd too many",
        *KALMAN,
        dvar=lambda rstd, dx_hat, x_hat, destimate_var, samples_sum: (
            destimate_var - rstd**3 * samples_sum(dx_hat * x_hat) / 2
        ),
    ),
    change(
        "dvar-lacks-rstd",
        "the gradient of the variance is that of the deviation: one rstd is missing",
        *KALMAN,
        dvar=lambda rstd, dx_hat, x_hat, destimate_var, samples_sum: (
            destimate_var - rstd * samples_sum(dx_hat * x_hat) / 2
        ),
    ),
    change(
        "dvar-is-average",
        "the gradient of the variance is a mean over the samples, not a sum",
        *KALMAN,
        dvar=lambda rstd, dx_hat, x_hat, destimate_var, average: destimate_var - rstd**2 * average(dx_hat * x_hat) / 2,
    ),
    change(
        "dvar-about-observed-mean",
        "the gradient of the variance takes (x - batch's mean) for (x - estimate's mean)",
        *KALMAN,
        dvar=lambda rstd, dx_hat, x, observed_mean, destimate_var, samples_sum: (
            destimate_var - rstd**3 * samples_sum(dx_hat * (x - observed_mean)) / 2
        ),
    ),
    change(
        "dvar-drops-last-sample",
        "the sum of dvar lacks the last sample: the tail of a block is not handled",
        *KALMAN,
        dvar=lambda rstd, dx_hat, x_hat, destimate_var, samples_sum: (
            destimate_var - rstd**2 * samples_sum((dx_hat * x_hat)[:, :-1]) / 2
        ),
    ),
)
TO_X = (
    change(
        "dx-stops-at-moments",
        "dx has the direct path only: the gradient stops at the batch's moments",
        *KALMAN,
        kalman_dx=lambda rstd, dx_hat: rstd * dx_hat,
    ),
    change(
        "dx-lacks-path-of-mean",
        "dx lacks the path through the batch's mean",
        *KALMAN,
        kalman_dx=lambda rstd, dx_hat, dobserved_var, x, observed_mean, m: (
            rstd * dx_hat + (2 * dobserved_var / m) * (x - observed_mean)
        ),
    ),
    change(
        "dx-lacks-path-of-var",
        "dx lacks the path through the batch's variance",
        *KALMAN,
        kalman_dx=lambda rstd, dx_hat, ddelta, m: rstd * dx_hat + ddelta / m,
    ),
    change(
        "dx-lacks-direct-path",
        "dx lacks the direct path",
        *KALMAN,
        kalman_dx=lambda ddelta, dobserved_var, x, observed_mean, m: (
            ddelta / m + (2 * dobserved_var / m) * (x - observed_mean)
        ),
    ),
    change(
        "dx-lacks-rstd-of-direct-path",
        "the direct path of dx lacks rstd",
        *KALMAN,
        kalman_dx=lambda dx_hat, ddelta, dobserved_var, x, observed_mean, m: (
            dx_hat + ddelta / m + (2 * dobserved_var / m) * (x - observed_mean)
        ),
    ),
    change(
        "dx-about-estimate",
        "dx takes (x - estimate's mean) for (x - batch's mean)",
        *KALMAN,
        kalman_dx=lambda rstd, dx_hat, ddelta, dobserved_var, x, mean, m: (
            rstd * dx_hat + ddelta / m + (2 * dobserved_var / m) * (x - mean)
        ),
    ),
    change(
        "dx-var-path-with-x-hat",
        "dx takes x_hat for (x - batch's mean)",
        *KALMAN,
        kalman_dx=lambda rstd, dx_hat, ddelta, dobserved_var, x_hat, m: (
            rstd * dx_hat + ddelta / m + (2 * dobserved_var / m) * x_hat
        ),
    ),
    change(
        "dx-var-path-lacks-2",
        "the path of dx through the variance lacks its 2",
        *KALMAN,
        kalman_dx=lambda rstd, dx_hat, ddelta, dobserved_var, x, observed_mean, m: (
            rstd * dx_hat + ddelta / m + dobserved_var / m * (x - observed_mean)
        ),
    ),
    change(
        "dx-var-path-over-m-minus-1",
        "the path of dx through the variance is divided by m - 1",
        *KALMAN,
        kalman_dx=lambda rstd, dx_hat, ddelta, dobserved_var, x, observed_mean, m: (
            rstd * dx_hat + ddelta / m + 2 * dobserved_var / (m - 1) * (x - observed_mean)
        ),
    ),
    change(
        "dx-lacks-1-over-m",
        "the path of dx through the mean is not divided by m",
        *KALMAN,
        kalman_dx=lambda rstd, dx_hat, ddelta, dobserved_var, x, observed_mean, m: (
            rstd * dx_hat + ddelta + (2 * dobserved_var / m) * (x - observed_mean)
        ),
    ),
    change(
        "dx-m-of-gradient-batch",
        "dx divides by the samples of the gradient batch, or of all groups, not by m",
        *KALMAN,
        kalman_dx=lambda rstd, dx_hat, ddelta, dobserved_var, x, observed_mean, m: (
            rstd * dx_hat + (ddelta + 2 * dobserved_var * (x - observed_mean)) * (x.shape[2] / x.size)
        ),
    ),
)
THROUGH_GAIN = (
    change(
        "delta-sign-in-backward",
        "delta has the wrong sign in the backward: prior - batch",
        *KALMAN,
        delta=lambda observed_mean, prior_mean: prior_mean - observed_mean,
    ),
    change(
        "ddelta-lacks-gain",
        "the gradient of delta lacks the gain of the mean's path",
        *KALMAN,
        ddelta=lambda dmean, dvar, delta, gain: dmean + (2 * gain * (1 - gain)) * dvar * delta,
    ),
    change(
        "ddelta-lacks-variance",
        "the gradient of delta lacks 2 p q dv delta",
        *KALMAN,
        ddelta=lambda dmean, gain: gain * dmean,
    ),
    change(
        "ddelta-lacks-2",
        "the gradient of delta has p q dv delta: the 2 is missing",
        *KALMAN,
        ddelta=lambda dmean, dvar, delta, gain: gain * dmean + (gain * (1 - gain)) * dvar * delta,
    ),
    change(
        "ddelta-lacks-p",
        "the gradient of delta has 2 q dv delta: p is missing",
        *KALMAN,
        ddelta=lambda dmean, dvar, delta, gain: gain * dmean + 2 * gain * dvar * delta,
    ),
    change(
        "dobserved-var-lacks-gain",
        "the gradient of the batch's variance lacks the gain",
        *KALMAN,
        dobserved_var=lambda dvar: dvar,
    ),
    change(
        "dobserved-var-with-p",
        "the gradient of the batch's variance has 1 - gain for the gain",
        *KALMAN,
        dobserved_var=lambda dvar, gain: (1 - gain) * dvar,
    ),
    change(
        "dprior-stopped",
        "the gradient stops at the prior",
        *KALMAN,
        dprior_mean=lambda dmean: 0 * dmean,
        dprior_var=lambda dvar: 0 * dvar,
    ),
    change(
        "dprior-mean-stopped", "the gradient stops at the prior's mean", *KALMAN, dprior_mean=lambda dmean: 0 * dmean
    ),
    change(
        "dprior-var-stopped", "the gradient stops at the prior's variance", *KALMAN, dprior_var=lambda dvar: 0 * dvar
    ),
    change(
        "dprior-mean-lacks-variance",
        "the gradient of the prior's mean is p dmean: its path through the variance is missing",
        *KALMAN,
        dprior_mean=lambda dmean, gain: (1 - gain) * dmean,
    ),
    change(
        "dprior-mean-is-dmean",
        "the gradient of the prior's mean is dmean: ddelta is not subtracted",
        *KALMAN,
        dprior_mean=lambda dmean: dmean,
    ),
    change(
        "dprior-mean-sign-of-ddelta",
        "ddelta is added to the gradient of the prior's mean",
        *KALMAN,
        dprior_mean=lambda dmean, ddelta: dmean + ddelta,
    ),
    change(
        "dprior-mean-with-q",
        "the gradient of the prior's mean is ddelta, that of the batch's mean",
        *KALMAN,
        dprior_mean=lambda ddelta: ddelta,
    ),
    change(
        "dprior-var-with-q",
        "the gradient of the prior's variance has the gain for 1 - gain",
        *KALMAN,
        dprior_var=lambda dvar, gain: gain * dvar,
    ),
    change(
        "dprior-var-lacks-p",
        "the gradient of the prior's variance lacks 1 - gain",
        *KALMAN,
        dprior_var=lambda dvar: dvar,
    ),
)
CHANGES = (*TO_MOMENTS, *TO_X, *THROUGH_GAIN)
