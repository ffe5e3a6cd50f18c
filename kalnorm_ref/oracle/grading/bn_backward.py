"""The exercise bn-backward."""

from .. import steps as plans
from ..bugs.record import terms
from ..shared_steps import dbeta, dgamma, dx_hat, mean, rstd, std, steps, var, x_hat
from .bn_forward import EPS, MOMENTS, SCALE, maps, upstream
from .exercise import DataSet, Exercise, Output, Term, known, mistake, start

PLAN = steps(mean, var, std, rstd, x_hat, dx_hat, dgamma, dbeta)
PLAN |= steps(plans.mean_dx_hat, plans.projection, plans.dx)

SETS = tuple(DataSet(name, {"dy": upstream(x), "x": x, "gamma": gamma, "eps": eps}) for name, x, gamma, eps in maps())

FROM_MEAN = "the term that comes from the mean (each sample moves the mean, and through it every other sample)"
FROM_VARIANCE = (
    "the term that comes from the variance (each sample moves the variance, and through it every other sample)"
)
DIRECT = "the direct term (each sample moves its own output)"


def _negative(rstd, dx_hat, mean_dx_hat, x_hat, projection):
    return -plans.dx(rstd, dx_hat, mean_dx_hat, x_hat, projection)


TERMS_OF_DX = (
    mistake(
        "dx-direct-only",
        "dx has the direct term only: it lacks the terms that come from the mean and from the variance, which every "
        "sample moves, and with them every other sample.",
        dx=plans.fixed_dx,
    ),
    known("dx-lacks-mean", f"dx lacks {FROM_MEAN}."),
    known(
        "dx-lacks-projection",
        f"dx lacks {FROM_VARIANCE}; or it is there and comes out as zero, as anything does that the mean of x_hat "
        "multiplies.",
    ),
    known("dx-mean-sign", f"In dx {FROM_MEAN} has the wrong sign."),
    known("dx-projection-sign", f"In dx {FROM_VARIANCE} has the wrong sign."),
    known("dx-mean-is-sum", f"In dx {FROM_MEAN} is a sum over the samples and should be a mean."),
    known("dx-projection-is-sum", f"In dx {FROM_VARIANCE} is a sum over the samples and should be a mean."),
    known("dx-mean-over-m-twice", f"In dx {FROM_MEAN} is divided by the number of samples twice."),
    known("dx-projection-over-m-twice", f"In dx {FROM_VARIANCE} is divided by the number of samples twice."),
    known("dx-mean-over-m-minus-1", f"In dx {FROM_MEAN} is divided by m - 1, not m."),
    known("dx-projection-over-m-minus-1", f"In dx {FROM_VARIANCE} is divided by m - 1, not m."),
    known("dx-times-m-over-m-minus-1", "The whole of dx is too large by the factor m/(m - 1)."),
    known("dx-divided-by-m", "The whole of dx is divided by the number of samples m, once too often."),
    known("dx-lacks-m-of-g", f"In dx {DIRECT} is too small by the factor m, the number of samples."),
    known("dx-projection-doubled", f"In dx {FROM_VARIANCE} is twice what it should be."),
    known(
        "dx-projection-halved",
        f"In dx {FROM_VARIANCE} is half of what it should be: the 2 of the square's derivative is lost.",
    ),
    known(
        "dx-projection-lacks-x-hat",
        f"In dx {FROM_VARIANCE} is the same for all samples. It should be larger for samples far from the mean: a "
        "factor x_hat is missing.",
    ),
    known("dx-projection-lacks-rstd", f"In dx {FROM_VARIANCE} lacks one division by the deviation."),
    known("dx-projection-rstd-twice", f"In dx {FROM_VARIANCE} is divided by the deviation once too often."),
    known(
        "dx-projection-not-centred",
        f"In {FROM_VARIANCE} of dx x is not centred: the mean is not subtracted in its sum.",
    ),
    known("dx-not-centred", f"In {FROM_VARIANCE} of dx x is not centred: the mean is not subtracted."),
    known("dx-mean-without-gamma", f"In dx {FROM_MEAN} lacks gamma: dy is averaged before gamma multiplies it."),
    known(
        "dx-projection-without-gamma", f"In dx {FROM_VARIANCE} lacks gamma: dy is averaged before gamma multiplies it."
    ),
    known("dx-rstd-missing", "dx lacks a factor: it is not divided by the deviation."),
    known("dx-rstd-squared", "dx is divided by the variance: one deviation too many."),
    known("dx-std-for-rstd", "dx is multiplied by the deviation and should be divided by it."),
    known("dx-forgets-eps", "The deviation that dx is divided by lacks eps."),
    known("dx-eps-outside", "In the deviation that dx is divided by eps stands outside the root."),
    known("dx-drops-last-sample", "The sums of dx lack the last sample."),
    mistake(
        "dx-variance-not-centred",
        f"In dx {FROM_VARIANCE} is multiplied by x where x minus its mean belongs: the mean is not subtracted.",
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, x, projection: rstd * (dx_hat - mean_dx_hat - x * rstd * projection)
        ),
    ),
    mistake(
        "dx-variance-lacks-two-divisions",
        f"In dx {FROM_VARIANCE} lacks two divisions by the deviation, which is one by the variance.",
        **terms(projection=lambda dx_hat, x_hat, std, average: average(dx_hat * x_hat) * std**2),
    ),
    mistake(
        "dx-over-channels",
        "m is the number of channels where the number of samples belongs, in the terms of dx that come from mean and "
        "variance.",
        **terms(
            mean_dx_hat=lambda dx_hat, samples_sum: samples_sum(dx_hat) / dx_hat.shape[2],
            projection=lambda dx_hat, x_hat, samples_sum: samples_sum(dx_hat * x_hat) / dx_hat.shape[2],
        ),
    ),
    mistake(
        "dx-means-over-everything",
        "In dx the means run over all channels together. Each channel has means of its own.",
        **terms(
            mean_dx_hat=lambda dx_hat: dx_hat.mean(axis=(1, 2), keepdims=True),
            projection=lambda dx_hat, x_hat: (dx_hat * x_hat).mean(axis=(1, 2), keepdims=True),
        ),
    ),
    mistake("dx-sign", "The whole of dx has the wrong sign.", **terms(dx=_negative)),
)

SUMS = (
    known("dgamma-is-mean", "dgamma is a mean over the samples and should be a sum."),
    known("dbeta-is-mean", "dbeta is a mean over the samples and should be a sum."),
    known("dgamma-from-x", "dgamma takes x itself in the place of the normalized x."),
    known("dgamma-lacks-rstd", "dgamma takes x minus its mean, which is not divided by the deviation."),
    known("dgamma-not-centred", "dgamma takes x without its mean subtracted."),
    known("dgamma-rstd-twice", "dgamma is divided by the deviation once too often."),
    known("dgamma-with-gamma", "dgamma has gamma as a factor, which it should not: y is linear in gamma."),
    known("dbeta-with-gamma", "dbeta has gamma as a factor, which it should not: beta is added after gamma."),
    known("dgamma-sign", "dgamma has the wrong sign."),
    mistake("dbeta-sign", "dbeta has the wrong sign.", dbeta=lambda dy, total: -total(dy)),
    known("dgamma-and-dbeta-swapped", "dgamma and dbeta are swapped."),
    known("dgamma-drops-last-sample", "dgamma lacks the last sample."),
    known("dbeta-drops-last-sample", "dbeta lacks the last sample."),
)
GAMMA = (
    known("dx-gamma-missing", "dx lacks gamma: the gradient has to pass the multiplication by gamma first."),
    known("dx-gamma-squared", "dx has gamma as a factor twice."),
    known("dx-gamma-divides", "dx is divided by gamma and should be multiplied by it."),
    known("dx-gamma-absolute", "In dx gamma lost its sign."),
)
OF_SUMS = {
    "dgamma": (Term("what it should be", dgamma, 1), Term("dbeta", dbeta, 0)),
    "dbeta": (Term("what it should be", dbeta, 1), Term("dgamma", dgamma, 0)),
}
SLOPES = "Compare each gradient with quotients of differences of the forward, for three samples of one channel."

EXERCISE = Exercise(
    "bn-backward",
    (Output("dx", "dx", "x"), Output("dgamma", "dgamma", "gamma"), Output("dbeta", "dbeta", "gamma")),
    SETS,
    start,
    PLAN,
    (*TERMS_OF_DX, *GAMMA, *SUMS, *MOMENTS, *EPS, *SCALE),
    {
        "dx": (
            Term(DIRECT, lambda rstd, dx_hat: rstd * dx_hat, 1),
            Term(FROM_MEAN, lambda x, rstd, mean_dx_hat: rstd * mean_dx_hat + 0 * x, -1),
            Term(FROM_VARIANCE, lambda rstd, x_hat, projection: rstd * x_hat * projection, -1),
        ),
        **OF_SUMS,
    },
    SLOPES,
)
