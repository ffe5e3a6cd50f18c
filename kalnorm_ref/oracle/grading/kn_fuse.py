"""The exercise kn-fuse."""

from .. import kalman_steps
from ..shared_steps import steps
from .exercise import DataSet, Exercise, Output, Term, known, mistake, numbers, start

NORMAL, UNIFORM = numbers("kn-fuse")
PLAN = steps(kalman_steps.delta) | {"mean": kalman_steps.fused_mean, "var": kalman_steps.fused_var}


def _set(name, channels, gain, apart=2.0, scale=1.0):
    prior_mean = NORMAL(channels, mean=3.0)
    mean = prior_mean + apart * UNIFORM(0.5, 1.0, channels) * [(-1.0) ** i for i in range(channels)]
    prior_var, var = scale * UNIFORM(0.5, 3.0, channels), scale * UNIFORM(4.0, 6.0, channels)
    arguments = {"prior_mean": prior_mean, "prior_var": prior_var, "mean": mean, "var": var, "gain": gain}
    return DataSet(
        name, {key: float(a) if key == "gain" else a.astype("f4").astype("f8") for key, a in arguments.items()}
    )


SETS = (
    _set("gain 0.25, means about 2 apart", 6, 0.25),
    _set("gain 0.875, means about 20 apart", 5, 0.875, apart=20.0),
    _set("gain 0.625, equal means", 6, 0.625, apart=0.0),
    _set("gain 0.375, small variances", 7, 0.375, apart=0.25, scale=2.0**-10),
    _set("gain 1: the batch alone", 5, 1.0),
    _set("gain 0: the prior alone", 5, 0.0),
)
DISAGREEMENT = "the term for the disagreement of the two means"


def _given(arguments):
    values = start(arguments)
    return values | {"observed_mean": arguments["mean"], "observed_var": arguments["var"]}


def _var(p, q, b, s, cross):
    return p * b + q * s + cross


def _second(a, b, xbar, s, q):
    """The second moment of the mixture."""
    return (1 - q) * (a**2 + b) + q * (xbar**2 + s)


def _difference(arguments, u):
    """What rounding may cost besides, where the square of the mean is subtracted from the second moment."""
    a, b, xbar, s, q = arguments.values()
    return {"fused_mean": 0.0, "fused_var": 4 * u * _second(a, b, xbar, s, q)}


EXERCISE = Exercise(
    "kn-fuse",
    (Output("fused_mean", "mean", "mean"), Output("fused_var", "var", "mean")),
    SETS,
    _given,
    PLAN,
    (
        known(
            "gain-swapped-in-forward-only",
            "The gain weighs the prior and should weigh the batch, in mean and variance.",
        ),
        known("gain-swapped-in-mean", "In fused_mean gain and 1 - gain are swapped: the gain should weigh the batch."),
        known("gain-swapped-in-var", "In fused_var gain and 1 - gain are swapped: the gain should weigh the batch."),
        known(
            "estimate-mean-adds-gain-times-mean", "fused_mean has the whole prior mean: it lacks the factor 1 - gain."
        ),
        known("estimate-mean-is-observed", "fused_mean is the mean of the batch: the prior's mean is ignored."),
        known("estimate-var-is-observed", "fused_var is the variance of the batch: the prior's is ignored."),
        known("estimate-is-prior", "The result is the prior: the batch is ignored."),
        known("estimate-is-observed", "The result is the batch: the prior is ignored."),
        known(
            "disagreement-missing-in-forward-only",
            f"fused_var lacks {DISAGREEMENT} (two groups whose means differ spread more than either of them).",
        ),
        known(
            "disagreement-with-q-squared",
            f"In fused_var {DISAGREEMENT} has the gain squared, one factor too many; or, where each side is taken "
            "about the fused mean, the distance of the batch's mean is missing.",
        ),
        known(
            "disagreement-with-p-squared",
            f"In fused_var {DISAGREEMENT} has 1 - gain squared, one factor too many; or, where each side is taken "
            "about the fused mean, the distance of the prior's mean is missing.",
        ),
        known("disagreement-lacks-p", f"In fused_var {DISAGREEMENT} lacks the factor 1 - gain."),
        known("disagreement-lacks-q", f"In fused_var {DISAGREEMENT} lacks the factor gain."),
        mistake(
            "disagreement-unweighted",
            f"In fused_var {DISAGREEMENT} is added whole: both its weights are missing.",
            fused_var=lambda prior_var, observed_var, delta, gain: _var(
                1 - gain, gain, prior_var, observed_var, delta**2
            ),
        ),
        mistake(
            "disagreement-doubled",
            f"In fused_var {DISAGREEMENT} is twice what it should be.",
            fused_var=lambda prior_var, observed_var, delta, gain: _var(
                1 - gain, gain, prior_var, observed_var, 2 * gain * (1 - gain) * delta**2
            ),
        ),
        known("disagreement-subtracted", f"In fused_var {DISAGREEMENT} has the wrong sign."),
        known("disagreement-not-squared", f"In fused_var {DISAGREEMENT} is not squared: its absolute value is added."),
        mistake(
            "disagreement-signed",
            f"In fused_var {DISAGREEMENT} is not squared.",
            fused_var=lambda prior_var, observed_var, delta, gain: _var(
                1 - gain, gain, prior_var, observed_var, gain * (1 - gain) * delta
            ),
        ),
        mistake(
            "disagreement-of-sums",
            f"In fused_var {DISAGREEMENT} takes the sum of the means in the place of their difference.",
            delta=lambda prior_mean, observed_mean: prior_mean + observed_mean,
        ),
        known(
            "estimate-var-mixes-deviations", "fused_var mixes deviations, and squares the sum. It should mix variances."
        ),
        mistake(
            "mixes-deviations-only",
            "fused_var mixes deviations, and squares the sum. It should mix variances; and the disagreement of the two "
            "means is missing.",
            fused_var=lambda prior_var, observed_var, gain, sqrt: (
                ((1 - gain) * sqrt(prior_var) + gain * sqrt(observed_var)) ** 2
            ),
        ),
        mistake(
            "disagreement-weights-both-gain",
            f"In fused_var {DISAGREEMENT} is weighted by the gain squared: one of the two factors should be 1 - gain.",
            fused_var=lambda prior_var, observed_var, delta, gain: _var(
                1 - gain, gain, prior_var, observed_var, gain**2 * delta**2
            ),
        ),
        mistake(
            "disagreement-weights-both-rest",
            f"In fused_var {DISAGREEMENT} is weighted by 1 - gain squared: one of the two factors should be the gain.",
            fused_var=lambda prior_var, observed_var, delta, gain: _var(
                1 - gain, gain, prior_var, observed_var, (1 - gain) ** 2 * delta**2
            ),
        ),
        mistake(
            "batch-variance-whole",
            "In fused_var the batch's variance is added whole: it lacks its weight, the gain.",
            fused_var=lambda prior_var, observed_var, delta, gain: _var(
                1 - gain, 1, prior_var, observed_var, gain * (1 - gain) * delta**2
            ),
        ),
        mistake(
            "prior-variance-whole",
            "In fused_var the prior's variance is added whole: it lacks its weight, 1 - gain.",
            fused_var=lambda prior_var, observed_var, delta, gain: _var(
                1, gain, prior_var, observed_var, gain * (1 - gain) * delta**2
            ),
        ),
        mistake(
            "variances-whole",
            "In fused_var both variances are added whole: they lack their weights.",
            fused_var=lambda prior_var, observed_var, delta, gain: _var(
                1, 1, prior_var, observed_var, gain * (1 - gain) * delta**2
            ),
        ),
        mistake(
            "batch-mean-whole",
            "In fused_mean the batch's mean is added whole: it lacks its weight, the gain.",
            fused_mean=lambda prior_mean, observed_mean, gain: (1 - gain) * prior_mean + observed_mean,
        ),
        known(
            "estimate-var-mixes-precisions",
            "fused_var mixes precisions, the reciprocals of the variances, as for a "
            "product of two Gaussians. It should mix the variances; and the disagreement of the two means is missing.",
        ),
        known(
            "gain-squared-in-var",
            "In fused_var the weights of the two variances are squared, as for the variance of "
            "a weighted sum. Here two distributions are mixed.",
        ),
        mistake(
            "variance-of-sum",
            "fused_var is the variance of a weighted sum: the weights are squared, and the disagreement of the two "
            "means is missing. Here two distributions are mixed.",
            fused_var=lambda prior_var, observed_var, gain: (1 - gain) ** 2 * prior_var + gain**2 * observed_var,
        ),
        mistake(
            "posterior",
            "fused_var is (1 - gain) times the prior's variance, as in a Kalman filter. That is the uncertainty of a "
            "state; here the spread of the data is estimated, to which the batch's variance and the disagreement add.",
            fused_var=lambda prior_var, gain: (1 - gain) * prior_var,
        ),
        mistake(
            "computed-gain",
            "The argument gain is ignored: a Kalman gain is computed from the variances and used in its place.",
            fused_mean=lambda prior_mean, observed_mean, prior_var, observed_var: (
                prior_mean + prior_var / (prior_var + observed_var) * (observed_mean - prior_mean)
            ),
            fused_var=lambda prior_var, observed_var: prior_var * (1 - prior_var / (prior_var + observed_var)),
        ),
        mistake(
            "mean-of-both",
            "fused_mean is the plain average of the two means: the gain is ignored.",
            fused_mean=lambda prior_mean, observed_mean: (prior_mean + observed_mean) / 2,
        ),
        mistake(
            "variance-of-halves",
            "In fused_var prior and batch weigh one half each: the gain is ignored.",
            fused_var=lambda prior_var, observed_var, delta: _var(0.5, 0.5, prior_var, observed_var, delta**2 / 4),
        ),
        mistake(
            "halves-without-disagreement",
            f"fused_var is the plain average of the two variances: the gain is ignored, and {DISAGREEMENT} is missing.",
            fused_var=lambda prior_var, observed_var: (prior_var + observed_var) / 2,
        ),
        mistake(
            "second-moment",
            "fused_var is the second moment: the square of the fused mean is not subtracted.",
            fused_var=lambda prior_mean, prior_var, observed_mean, observed_var, gain: _second(
                prior_mean, prior_var, observed_mean, observed_var, gain
            ),
        ),
        mistake(
            "mean-not-squared",
            "In fused_var the fused mean is subtracted from the second moment unsquared.",
            fused_var=lambda prior_mean, prior_var, observed_mean, observed_var, gain, mean: (
                _second(prior_mean, prior_var, observed_mean, observed_var, gain) - mean
            ),
        ),
        mistake(
            "minus-square-of-batch",
            "In fused_var the square of the batch's mean is subtracted from the second moment; that of the fused mean "
            "belongs there.",
            fused_var=lambda prior_mean, prior_var, observed_mean, observed_var, gain: (
                _second(prior_mean, prior_var, observed_mean, observed_var, gain) - observed_mean**2
            ),
        ),
        mistake(
            "minus-square-of-prior",
            "In fused_var the square of the prior's mean is subtracted from the second moment; that of the fused mean "
            "belongs there.",
            fused_var=lambda prior_mean, prior_var, observed_mean, observed_var, gain: (
                _second(prior_mean, prior_var, observed_mean, observed_var, gain) - prior_mean**2
            ),
        ),
        mistake(
            "mean-minus",
            "fused_mean moves away from the batch: the step towards it has the wrong sign.",
            fused_mean=lambda prior_mean, delta, gain: prior_mean - gain * delta,
        ),
        mistake(
            "swapped-results",
            "The two results are swapped: fused_var comes first.",
            fused_mean=lambda prior_var, observed_var, delta, gain: kalman_steps.fused_var(
                prior_var, observed_var, delta, gain
            ),
            fused_var=lambda prior_mean, observed_mean, gain: kalman_steps.fused_mean(prior_mean, observed_mean, gain),
        ),
        mistake(
            "deviation",
            "fused_var is a deviation: its root was taken.",
            fused_var=lambda prior_var, observed_var, delta, gain, sqrt: sqrt(
                kalman_steps.fused_var(prior_var, observed_var, delta, gain)
            ),
        ),
    ),
    {
        "fused_mean": (
            Term("the prior's mean with its weight", lambda prior_mean, gain: (1 - gain) * prior_mean, 1),
            Term("the batch's mean with its weight", lambda observed_mean, gain: gain * observed_mean, 1),
        ),
        "fused_var": (
            Term("the prior's variance with its weight", lambda prior_var, gain: (1 - gain) * prior_var, 1),
            Term("the batch's variance with its weight", lambda observed_var, gain: gain * observed_var, 1),
            Term(DISAGREEMENT, lambda delta, gain: gain * (1 - gain) * delta**2, 1),
        ),
    },
    "Draw numbers from two groups that have these moments, the share gain from the second, and take moments of all.",
    difference=_difference,
)
