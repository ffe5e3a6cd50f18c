"""The exercise kn-backward: the last normalizer of a chain, so that nothing but y sends a gradient."""

from .. import kalman_steps as kalman
from ..shared_steps import dx_hat, rstd, std, steps, x_hat
from .bn_backward import SLOPES
from .bn_forward import maps, upstream
from .exercise import DataSet, Exercise, Output, Term, known, mistake, numbers, start

NORMAL, UNIFORM = numbers("kn-backward")

PLAN = (
    steps(kalman.observed_mean, kalman.observed_var, kalman.delta)
    | {"mean": kalman.fused_mean, "var": kalman.fused_var}
    | steps(std, rstd, x_hat, dx_hat, kalman.dvar, kalman.dmean, kalman.ddelta, kalman.dobserved_var)
    | steps(kalman.dprior_mean, kalman.dprior_var)
    | {"dx": kalman.kalman_dx}
)


def _sets():
    for (name, x, gamma, eps), gain in zip(maps(), (0.25, 0.625, 1.0, 0.375, 0.75, 0.0), strict=True):
        channels = x.shape[1]
        centre, var = x.mean(axis=0), x.var(axis=0) + 0.25
        prior_mean = (centre + NORMAL(channels)).astype("f4").astype("f8")
        prior_var = (var * UNIFORM(0.5, 2.0, channels)).astype("f4").astype("f8")
        arguments = {"dy": upstream(x), "x": x, "gamma": gamma, "prior_mean": prior_mean, "prior_var": prior_var}
        yield DataSet(f"{name}, gain {gain:g}", arguments | {"gain": gain, "eps": eps})


def _given(arguments):
    return start(arguments) | {"destimate_mean": 0.0, "destimate_var": 0.0}


def _path_of_mean(x, dmean, gain, m):
    return gain * dmean / m + 0 * x


def _path_of_disagreement(x, dvar, delta, gain, m):
    return 2 * gain * (1 - gain) * dvar * delta / m + 0 * x


def _path_of_var(dobserved_var, x, observed_mean, m):
    return (2 * dobserved_var / m) * (x - observed_mean)


DIRECT = "the direct path (each sample moves its own output)"
VIA_MEAN = "the path through the mean of the batch"
VIA_VAR = "the path through the variance of the batch"
CROSS = "the path through the disagreement of the two means, which is part of the fused variance"

THROUGH_VARIANCE = (
    "The gradient of the fused mean has a part that comes through the fused variance. That variance does not contain "
    "the fused mean: what depends on the mean of the batch is followed there. In batch normalization the same part is "
    "there too, and zero."
)


def _through_variance(weight):
    def dmean(rstd, dx_hat, x, mean, dvar, gain, samples_sum, average):
        return -rstd * samples_sum(dx_hat) - 2 * weight(gain) * dvar * average(x - mean)

    return dmean


GRADIENT = (
    known(
        "dx-stops-at-moments", "dx has the direct path only: it lacks the paths through mean and variance of the batch."
    ),
    known("dx-lacks-path-of-mean", f"dx lacks {VIA_MEAN}."),
    known("dx-lacks-path-of-var", f"dx lacks {VIA_VAR}."),
    known("dx-lacks-direct-path", f"dx lacks {DIRECT}."),
    known("dx-lacks-rstd-of-direct-path", f"In dx {DIRECT} is not divided by the deviation."),
    known(
        "dx-about-estimate",
        f"In dx {VIA_VAR} takes x minus the fused mean: x minus the mean of the batch belongs there.",
    ),
    known(
        "dx-var-path-with-x-hat",
        f"In dx {VIA_VAR} takes the normalized x: x minus the mean of the batch belongs there.",
    ),
    known(
        "dx-var-path-lacks-2",
        f"In dx {VIA_VAR} is half of what it should be: the 2 of the square's derivative is lost.",
    ),
    known("dx-var-path-over-m-minus-1", f"In dx {VIA_VAR} is divided by m - 1, not m."),
    known("dx-lacks-1-over-m", f"In dx {VIA_MEAN} is not divided by the number of samples."),
    mistake(
        "dx-var-path-lacks-1-over-m",
        f"In dx {VIA_VAR} is not divided by the number of samples.",
        kalman_dx=lambda rstd, dx_hat, ddelta, dobserved_var, x, observed_mean, m: (
            rstd * dx_hat + ddelta / m + 2 * dobserved_var * (x - observed_mean)
        ),
    ),
    mistake(
        "dx-of-bn",
        "dx is that of batch normalization with the fused statistics: it takes them for mean and variance of the "
        "batch, as if the gain were 1. In dprior_mean the path through the disagreement of the two means is missing.",
        ddelta=lambda dmean: dmean,
        dobserved_var=lambda dvar: dvar,
        kalman_dx=lambda rstd, dx_hat, ddelta, dobserved_var, x, mean, m: (
            rstd * dx_hat + ddelta / m + (2 * dobserved_var / m) * (x - mean)
        ),
        dprior_mean=lambda dmean, gain: (1 - gain) * dmean,
    ),
    mistake(
        "dx-alone-of-bn",
        "dx is that of batch normalization with the fused statistics: it takes them for mean and variance of the "
        "batch, as if the gain were 1.",
        kalman_dx=lambda rstd, dx_hat, dmean, dvar, x, mean, m: rstd * dx_hat + dmean / m + (2 * dvar / m) * (x - mean),
    ),
    mistake("dmean-through-variance", THROUGH_VARIANCE, dmean=_through_variance(lambda gain: 1)),
    mistake("dmean-through-batch-variance", THROUGH_VARIANCE, dmean=_through_variance(lambda gain: gain)),
    mistake(
        "moments-without-gamma",
        "The gradients of the fused mean and variance lack gamma: dy has to be multiplied by it before the sums.",
        dx_hat=lambda dy: dy,
        kalman_dx=lambda rstd, dx_hat, ddelta, dobserved_var, x, observed_mean, m, gamma: kalman.kalman_dx(
            rstd, gamma * dx_hat, ddelta, dobserved_var, x, observed_mean, m
        ),
    ),
    known("delta-sign-in-backward", "The disagreement of the two means has the wrong sign in the backward."),
    known("ddelta-lacks-gain", "The gradient that reaches the batch's mean through the fused mean lacks the gain."),
    known("ddelta-lacks-variance", f"{CROSS.capitalize()}, is missing in dx and dprior_mean."),
    known(
        "ddelta-lacks-2",
        f"{CROSS.capitalize()}, is half of what it should be: the 2 of the square's derivative is lost.",
    ),
    known("ddelta-lacks-p", f"{CROSS.capitalize()}, lacks the factor 1 - gain."),
    mistake(
        "ddelta-lacks-q",
        f"{CROSS.capitalize()}, lacks the factor gain.",
        ddelta=lambda dmean, dvar, delta, gain: gain * dmean + 2 * (1 - gain) * dvar * delta,
    ),
    mistake(
        "ddelta-unweighted",
        f"{CROSS.capitalize()}, lacks both its weights.",
        ddelta=lambda dmean, dvar, delta, gain: gain * dmean + 2 * dvar * delta,
    ),
    mistake(
        "cross-missing-in-dx",
        f"{CROSS.capitalize()}, is missing in dx.",
        kalman_dx=lambda rstd, dx_hat, dmean, gain, dobserved_var, x, observed_mean, m: (
            rstd * dx_hat + gain * dmean / m + (2 * dobserved_var / m) * (x - observed_mean)
        ),
    ),
    known("dobserved-var-lacks-gain", f"In dx {VIA_VAR} lacks the factor gain."),
    known("dobserved-var-with-p", f"In dx {VIA_VAR} has 1 - gain as its weight: gain and 1 - gain are swapped."),
    known("dprior-mean-lacks-variance", f"dprior_mean lacks {CROSS}."),
    known(
        "dprior-mean-is-dmean",
        "dprior_mean is the whole gradient of the fused mean: the part that belongs to the "
        "batch is not taken off, nor is the disagreement of the two means followed.",
    ),
    mistake(
        "dprior-mean-through-delta-only",
        "dprior_mean has only what comes through the disagreement: the prior's mean is also part of the fused mean.",
        dprior_mean=lambda ddelta: -ddelta,
    ),
    known(
        "dprior-mean-sign-of-ddelta",
        "In dprior_mean the part that belongs to the batch is added. It has the wrong sign.",
    ),
    known(
        "dprior-mean-with-q",
        "dprior_mean is the gradient of the batch's mean: gain and 1 - gain are swapped, and the "
        "disagreement counts with the wrong sign.",
    ),
    mistake(
        "dprior-mean-swapped",
        "In dprior_mean gain and 1 - gain are swapped in the weight of the fused mean.",
        dprior_mean=lambda dmean, dvar, delta, gain: gain * dmean - 2 * gain * (1 - gain) * dvar * delta,
    ),
    mistake(
        "dprior-mean-sign-of-cross",
        f"In dprior_mean {CROSS}, has the wrong sign: a larger prior mean makes the disagreement smaller where the "
        "batch lies above it.",
        dprior_mean=lambda dmean, dvar, delta, gain: (1 - gain) * dmean + 2 * gain * (1 - gain) * dvar * delta,
    ),
    known(
        "dprior-var-with-q",
        "In dprior_var gain and 1 - gain are swapped: the prior's variance has the weight 1 - gain.",
    ),
    known("dprior-var-lacks-p", "dprior_var lacks the weight of the prior, 1 - gain."),
    known("dprior-stopped", "dprior_mean and dprior_var are zero: no gradient reaches the prior."),
    known("dprior-mean-stopped", "dprior_mean is zero: no gradient reaches the prior's mean."),
    known("dprior-var-stopped", "dprior_var is zero: no gradient reaches the prior's variance."),
    mistake(
        "dprior-mean-sign",
        "The whole of dprior_mean has the wrong sign.",
        dprior_mean=lambda dmean, ddelta: ddelta - dmean,
    ),
    mistake(
        "dprior-var-sign",
        "The whole of dprior_var has the wrong sign.",
        dprior_var=lambda dvar, gain: (gain - 1) * dvar,
    ),
    known("dmean-sign", "The gradient of the fused mean has the wrong sign: a larger mean makes each output smaller."),
    known("dmean-lacks-rstd", "The gradient of the fused mean is not divided by the deviation."),
    known("dmean-is-average", "The gradient of the fused mean is a mean over the samples and should be a sum."),
    known(
        "dvar-sign", "The gradient of the fused variance has the wrong sign: a larger variance makes outputs smaller."
    ),
    known(
        "dvar-lacks-half", "The gradient of the fused variance is twice what it should be: the 1/2 of the root is lost."
    ),
    known("dvar-rstd-cubed", "The gradient of the fused variance is divided by the deviation once too often."),
    known(
        "dvar-lacks-rstd",
        "The gradient of the fused variance is not divided by the deviation often enough: once is missing.",
    ),
    known("dvar-is-average", "The gradient of the fused variance is a mean over the samples and should be a sum."),
    known(
        "dvar-about-observed-mean",
        "x is standardized with the mean of the batch, or the gradient of the fused variance takes x minus that mean. "
        "The fused mean belongs there.",
    ),
    known("dx-gamma-missing", "gamma is missing: the gradient has to pass the multiplication by gamma first."),
    known("dx-gamma-squared", "gamma is a factor twice."),
    known("dx-gamma-divides", "The gradients are divided by gamma and should be multiplied by it."),
    known("dx-gamma-absolute", "gamma lost its sign."),
)
FORWARD = (
    known(
        "gain-swapped-in-forward-only",
        "In the fused mean and variance gain and 1 - gain are swapped; the gradients "
        "behind them have the gain in the right place.",
    ),
    mistake(
        "gain-swapped",
        "The gain weighs the prior throughout, forward and backward: gain and 1 - gain are swapped.",
        fused_mean=lambda prior_mean, observed_mean, gain: kalman.fused_mean(prior_mean, observed_mean, 1 - gain),
        fused_var=lambda prior_var, observed_var, delta, gain: kalman.fused_var(
            prior_var, observed_var, delta, 1 - gain
        ),
        ddelta=lambda dmean, dvar, delta, gain: kalman.ddelta(dmean, dvar, delta, 1 - gain),
        dobserved_var=lambda dvar, gain: (1 - gain) * dvar,
        dprior_var=lambda dvar, gain: gain * dvar,
    ),
    mistake(
        "prior-ignored",
        "The prior and the gain are ignored: dx is that of batch normalization, and nothing reaches the prior.",
        fused_mean=lambda observed_mean: observed_mean,
        fused_var=lambda observed_var: observed_var,
        ddelta=lambda dmean: dmean,
        dobserved_var=lambda dvar: dvar,
        dprior_mean=lambda dmean: 0 * dmean,
        dprior_var=lambda dvar: 0 * dvar,
    ),
    known(
        "estimate-var-is-observed",
        "x is standardized with the variance of the batch: the fused variance belongs there.",
    ),
    known(
        "disagreement-missing-in-forward-only",
        "The fused variance lacks the disagreement of the two means, which the gradients follow nevertheless.",
    ),
    mistake(
        "disagreement-missing",
        "The disagreement of the two means is missing throughout, in the fused variance and in the gradients behind "
        "it.",
        fused_var=lambda prior_var, observed_var, gain: (1 - gain) * prior_var + gain * observed_var,
        ddelta=lambda dmean, gain: gain * dmean,
    ),
    known("var-is-sum", "The variance of the batch is a sum of squares: not divided by the number of samples."),
    known("var-not-centred", "The second moment of the batch stands in the place of its variance."),
    known("var-unbiased-in-forward-only", "The variance of the batch is the unbiased one, divided by m - 1."),
    known("mean-is-sum", "The mean of the batch is a sum: not divided by the number of samples."),
    known("eps-missing", "eps is missing: it is never added to the variance."),
    known("eps-outside-root-in-forward-only", "eps stands outside the root, added to the deviation."),
    known("eps-added-twice", "eps is added twice."),
    known("eps-fixed", "eps is fixed at 1e-5 in the code: the argument eps is ignored."),
    known("rstd-lacks-root", "The root is missing: the variance stands in the place of the deviation."),
)

EXERCISE = Exercise(
    "kn-backward",
    (
        Output("dx", "dx", "x"),
        Output("dprior_mean", "dprior_mean", "prior_mean"),
        Output("dprior_var", "dprior_var", "prior_var"),
    ),
    tuple(_sets()),
    _given,
    PLAN,
    (*GRADIENT, *FORWARD),
    {
        "dx": (
            Term(DIRECT, lambda rstd, dx_hat: rstd * dx_hat, 1),
            Term(f"{VIA_MEAN}, as far as it goes on through the fused mean,", _path_of_mean, 1),
            Term(f"{CROSS},", _path_of_disagreement, 1),
            Term(VIA_VAR, _path_of_var, 1),
        ),
        "dprior_mean": (
            Term("the part that comes from the fused mean", lambda dmean, gain: (1 - gain) * dmean, 1),
            Term(f"{CROSS},", lambda dvar, delta, gain: 2 * gain * (1 - gain) * dvar * delta, -1),
        ),
        "dprior_var": (Term("what it should be", kalman.dprior_var, 1),),
    },
    SLOPES,
)
