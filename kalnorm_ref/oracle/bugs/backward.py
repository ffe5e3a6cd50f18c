"""Bugs of the terms of dx, where the moments are those of the batch or of a group."""

import numpy as np

from .forward import without_last, without_tail
from .record import change, terms

PLAIN = ("bn", "brn", "gn")  # dx = r (g - mean g - x_hat mean(g x_hat))


def dx_of(dx_hat, mean_dx_hat, x_hat, projection, rstd):
    """dx of (B1)."""
    return rstd * (dx_hat - mean_dx_hat - x_hat * projection)


CHANGES = (
    change(
        "dx-lacks-mean",
        "dx lacks the mean term",
        *PLAIN,
        **terms(dx=lambda rstd, dx_hat, x_hat, projection: rstd * (dx_hat - x_hat * projection)),
    ),
    change(
        "dx-lacks-projection",
        "dx lacks the projection term",
        *PLAIN,
        **terms(dx=lambda rstd, dx_hat, mean_dx_hat: rstd * (dx_hat - mean_dx_hat)),
    ),
    change(
        "dx-direct-only",
        "dx takes mean and variance for constants",
        *PLAIN,
        **terms(dx=lambda rstd, dx_hat: rstd * dx_hat),
    ),
    change(
        "dx-mean-sign",
        "the mean term of dx has the wrong sign",
        *PLAIN,
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, x_hat, projection: rstd * (dx_hat + mean_dx_hat - x_hat * projection)
        ),
    ),
    change(
        "dx-projection-sign",
        "the projection term of dx has the wrong sign",
        *PLAIN,
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, x_hat, projection: rstd * (dx_hat - mean_dx_hat + x_hat * projection)
        ),
    ),
    change(
        "dx-mean-without-gamma",
        "the mean term of dx is mean(dy), without gamma",
        *PLAIN,
        **terms(mean_dx_hat=lambda dy, average: average(dy)),
    ),
    change(
        "dx-projection-without-gamma",
        "the projection is mean(dy x_hat), without gamma",
        *PLAIN,
        **terms(projection=lambda dy, x_hat, average: average(dy * x_hat)),
    ),
    change(
        "dx-mean-is-sum",
        "the mean term of dx is a sum",
        *PLAIN,
        **terms(mean_dx_hat=lambda dx_hat, samples_sum: samples_sum(dx_hat)),
    ),
    change(
        "dx-projection-is-sum",
        "the projection is a sum",
        *PLAIN,
        **terms(projection=lambda dx_hat, x_hat, samples_sum: samples_sum(dx_hat * x_hat)),
    ),
    change(
        "dx-mean-over-m-twice",
        "the mean term of dx is divided by m twice",
        *PLAIN,
        **terms(mean_dx_hat=lambda dx_hat, m, average: average(dx_hat) / m),
    ),
    change(
        "dx-projection-over-m-twice",
        "the projection is divided by m twice",
        *PLAIN,
        **terms(projection=lambda dx_hat, x_hat, m, average: average(dx_hat * x_hat) / m),
    ),
    change(
        "dx-mean-over-m-minus-1",
        "the mean term of dx is divided by m - 1",
        *PLAIN,
        **terms(mean_dx_hat=lambda dx_hat, m, samples_sum: samples_sum(dx_hat) / (m - 1)),
    ),
    change(
        "dx-projection-over-m-minus-1",
        "the projection is divided by m - 1, while the variance is biased",
        *PLAIN,
        **terms(projection=lambda dx_hat, x_hat, m, samples_sum: samples_sum(dx_hat * x_hat) / (m - 1)),
    ),
    change(
        "dx-times-m-over-m-minus-1",
        "dx has a factor m/(m - 1)",
        *PLAIN,
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, x_hat, projection, m: (
                dx_of(dx_hat, mean_dx_hat, x_hat, projection, rstd) * (m / (m - 1))
            )
        ),
    ),
    change(
        "dx-divided-by-m",
        "dx is divided by m",
        *PLAIN,
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, x_hat, projection, m: (
                dx_of(dx_hat, mean_dx_hat, x_hat, projection, rstd) / m
            )
        ),
    ),
    change(
        "dx-lacks-m-of-g",
        "1/m (g - sum g - x_hat sum(g x_hat)): the first term lacks its m",
        *PLAIN,
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, x_hat, projection, m: dx_of(
                dx_hat / m, mean_dx_hat, x_hat, projection, rstd
            )
        ),
    ),
    change(
        "dx-projection-doubled",
        "the projection term is twice what it should be",
        *PLAIN,
        **terms(projection=lambda dx_hat, x_hat, average: 2 * average(dx_hat * x_hat)),
    ),
    change(
        "dx-projection-halved",
        "the projection term is half of what it should be: the 2 of the square is lost",
        *PLAIN,
        **terms(projection=lambda dx_hat, x_hat, average: average(dx_hat * x_hat) / 2),
    ),
    change(
        "dx-projection-lacks-x-hat",
        "the projection term is not multiplied by x_hat",
        *PLAIN,
        **terms(dx=lambda rstd, dx_hat, mean_dx_hat, projection: rstd * (dx_hat - mean_dx_hat - projection)),
    ),
    change(
        "dx-projection-lacks-rstd",
        "the projection is mean(g (x - mean)): rstd is missing",
        *PLAIN,
        **terms(projection=lambda dx_hat, x, mean, average: average(dx_hat * (x - mean))),
    ),
    change(
        "dx-projection-rstd-twice",
        "the projection has one rstd too many",
        *PLAIN,
        **terms(projection=lambda dx_hat, x_hat, rstd, average: average(dx_hat * x_hat) * rstd),
    ),
    change(
        "dx-projection-not-centred",
        "the projection takes x rstd for x_hat: not centred",
        *PLAIN,
        **terms(projection=lambda dx_hat, x, rstd, average: average(dx_hat * (x * rstd))),
    ),
    change(
        "dx-not-centred",
        "dx takes x rstd for x_hat throughout: not centred",
        *PLAIN,
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, x, average: dx_of(
                dx_hat, mean_dx_hat, x * rstd, average(dx_hat * (x * rstd)), rstd
            )
        ),
    ),
    change(
        "dx-projection-of-y",
        "the projection is mean(g y): y in the place of x_hat",
        *PLAIN,
        **terms(projection=lambda dx_hat, y, average: average(dx_hat * y)),
    ),
    change(
        "dx-x-hat-with-beta",
        "dx takes y/gamma for x_hat: beta is not subtracted",
        *PLAIN,
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, y, gamma, average: dx_of(
                dx_hat, mean_dx_hat, y / gamma, average(dx_hat * (y / gamma)), rstd
            )
        ),
    ),
    change(
        "dx-rstd-missing",
        "dx lacks the factor rstd",
        *PLAIN,
        **terms(dx=lambda dx_hat, mean_dx_hat, x_hat, projection: dx_of(dx_hat, mean_dx_hat, x_hat, projection, 1)),
    ),
    change(
        "dx-rstd-squared",
        "dx has rstd^2, or 1/(var + eps), in the place of rstd",
        *PLAIN,
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, x_hat, projection: dx_of(
                dx_hat, mean_dx_hat, x_hat, projection, rstd**2
            )
        ),
    ),
    change(
        "dx-std-for-rstd",
        "dx is multiplied by the deviation, not divided",
        *PLAIN,
        **terms(
            dx=lambda std, dx_hat, mean_dx_hat, x_hat, projection: dx_of(dx_hat, mean_dx_hat, x_hat, projection, std)
        ),
    ),
    change(
        "dx-forgets-eps",
        "dx is divided by the root of the variance without eps",
        *PLAIN,
        **terms(
            dx=lambda var, dx_hat, mean_dx_hat, x_hat, projection, sqrt: dx_of(
                dx_hat, mean_dx_hat, x_hat, projection, 1 / sqrt(var)
            )
        ),
    ),
    change(
        "dx-eps-outside",
        "dx is divided by var^(1/2) + eps",
        *PLAIN,
        **terms(
            dx=lambda var, eps, dx_hat, mean_dx_hat, x_hat, projection, sqrt: dx_of(
                dx_hat, mean_dx_hat, x_hat, projection, 1 / (sqrt(var) + eps)
            )
        ),
    ),
    change(
        "dx-drops-last-sample",
        "the sums of dx lack the last sample: the tail of a block is not handled",
        *PLAIN,
        **terms(
            mean_dx_hat=lambda dx_hat, m, samples_sum: samples_sum(dx_hat[:, :-1]) / m,
            projection=lambda dx_hat, x_hat, m, samples_sum: samples_sum((dx_hat * x_hat)[:, :-1]) / m,
        ),
    ),
    change(
        "dx-last-sample-unwritten",
        "the last sample of dx is left at zero",
        *PLAIN,
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, x_hat, projection: without_last(
                dx_of(dx_hat, mean_dx_hat, x_hat, projection, rstd)
            )
        ),
    ),
    change(
        "dx-tail-of-four-channels-unwritten",
        "the channels of dx beyond a multiple of four are left at zero",
        *PLAIN,
        **terms(
            dx=lambda rstd, dx_hat, mean_dx_hat, x_hat, projection: without_tail(
                dx_of(dx_hat, mean_dx_hat, x_hat, projection, rstd)
            )
        ),
    ),
    change(
        "dx-over-all-statistics-batches",
        "the means of dx are taken over all statistics batches, or samples, together",
        *PLAIN,
        **terms(
            mean_dx_hat=lambda dx_hat, average: average(dx_hat).mean(axis=0, keepdims=True),
            projection=lambda dx_hat, x_hat, average: average(dx_hat * x_hat).mean(axis=0, keepdims=True),
        ),
    ),
    change(
        "dx-mean-of-neighbour",
        "the mean term of dx is that of the neighbouring channel or group",
        *PLAIN,
        **terms(mean_dx_hat=lambda dx_hat, average: np.roll(average(dx_hat), 1, axis=2)),
    ),
    change(
        "dx-with-running-variance",
        "dx is divided by the root of the running variance plus eps",
        "bn",
        dx=lambda running_var, eps, dx_hat, mean_dx_hat, x_hat, projection, sqrt: dx_of(
            dx_hat, mean_dx_hat, x_hat, projection, 1 / sqrt(running_var + eps)
        ),
    ),
)
