"""Bugs of group normalization and of its Kalman form: which values share a statistic, and which gamma they meet."""

import numpy as np

from .record import averaging, change, observing

GROUP = ("gn", "gkn")


def spread(statistic, x):
    """A statistic of other axes for every group and channel that it stands for."""
    return np.broadcast_to(statistic, (len(x), 1, *x.shape[2:]))


def interleaved(x):
    """Means over groups of channels c, c + G, c + 2G, ..."""
    n, length, groups, k = x.shape
    means = x.reshape(n, length, k, groups).mean(axis=(1, 2), keepdims=True)
    return np.broadcast_to(means, (n, 1, k, groups)).reshape(n, 1, groups, k)


def sized(x):
    """Means over k groups of G consecutive channels: number and size of the groups swapped."""
    n, length, groups, k = x.shape
    means = x.reshape(n, length, k, groups).mean(axis=(1, 3), keepdims=True)
    return np.broadcast_to(means, (n, 1, k, groups)).reshape(n, 1, groups, k)


def over_samples(x, average, images):
    return spread(average(x).mean(axis=0, keepdims=True), x)[..., :1]


def by_group(a):
    """The first values, one a group, for all channels of it."""
    return np.broadcast_to(a.reshape(-1)[: len(a), None], a.shape)


CHANGES = (
    change(
        "groups-interleaved",
        "channel c belongs to group c mod G, not to consecutive ones",
        *GROUP,
        **averaging(lambda a, average, images: interleaved(a)),
    ),
    change(
        "groups-and-size-swapped",
        "there are k groups of G channels, not G groups of k",
        *GROUP,
        **averaging(lambda a, average, images: sized(a)),
    ),
    change(
        "groups-over-samples", "mean and variance are taken over the samples too", *GROUP, **averaging(over_samples)
    ),
    change(
        "groups-of-one-channel",
        "mean and variance are those of each channel: instance normalization",
        *GROUP,
        **averaging(lambda a, average, images: a.mean(axis=1, keepdims=True)),
    ),
    change(
        "groups-per-position",
        "mean and variance are taken over the channels of a group alone, apart for each position",
        *GROUP,
        **averaging(lambda a, average, images: a.mean(axis=3, keepdims=True)),
    ),
    change(
        "groups-ignored",
        "mean and variance are taken over all channels: layer normalization",
        *GROUP,
        **averaging(lambda a, average, images: spread(average(a).mean(axis=2, keepdims=True), a)[..., :1]),
    ),
    change(
        "m-lacks-channels",
        "sums over a group are divided by its positions, not by positions times channels",
        *GROUP,
        **averaging(lambda a, average, images: average(a) * a.shape[3]),
    ),
    change(
        "m-lacks-positions",
        "sums over a group are divided by its channels, not by positions times channels",
        *GROUP,
        **averaging(lambda a, average, images: average(a) * a.shape[1]),
    ),
    change(
        "m-of-forward-lacks-channels",
        "mean and variance are divided by the positions alone",
        "gn",
        **observing(
            mean=lambda x, average: average(x) * x.shape[3],
            var=lambda x, mean, average: average((x - mean) ** 2) * x.shape[3],
        ),
    ),
    change(
        "m-of-backward-lacks-channels",
        "the means of dx are divided by the positions alone",
        "gn",
        mean_dx_hat=lambda dx_hat, average: average(dx_hat) * dx_hat.shape[3],
        projection=lambda dx_hat, x_hat, average: average(dx_hat * x_hat) * x_hat.shape[3],
    ),
    change(
        "gamma-per-group",
        "gamma and beta are read by the group, not by the channel",
        *GROUP,
        y=lambda x_hat, gamma, beta: by_group(gamma) * x_hat + by_group(beta),
        dx_hat=lambda dy, gamma: dy * by_group(gamma),
    ),
    change(
        "gamma-of-first-in-group",
        "all channels of a group take gamma and beta of its first",
        *GROUP,
        y=lambda x_hat, gamma, beta: gamma[:, :1] * x_hat + beta[:, :1],
        dx_hat=lambda dy, gamma: dy * gamma[:, :1],
    ),
    change(
        "gamma-transposed",
        "gamma and beta are read as (k, G), not as (G, k)",
        *GROUP,
        y=lambda x_hat, gamma, beta: gamma.reshape(gamma.shape[::-1]).T * x_hat + beta.reshape(beta.shape[::-1]).T,
        dx_hat=lambda dy, gamma: dy * gamma.reshape(gamma.shape[::-1]).T,
    ),
    change(
        "dgamma-per-group",
        "dgamma and dbeta are sums over the channels of a group",
        *GROUP,
        dgamma=lambda dy, x_hat, total: np.repeat(
            total(dy * x_hat).reshape(x_hat.shape[2:]).sum(axis=1), x_hat.shape[3]
        ),
        dbeta=lambda dy, total: np.repeat(total(dy).reshape(dy.shape[2:]).sum(axis=1), dy.shape[3]),
    ),
    change(
        "dx-gamma-outside-means",
        "gamma is taken out of the means of dx, though it differs within a group",
        "gn",
        dx=lambda rstd, dy, gamma, x_hat, average: rstd * gamma * (dy - average(dy) - x_hat * average(dy * x_hat)),
    ),
    change(
        "dx-mean-per-channel",
        "the mean term of dx is that of each channel",
        "gn",
        mean_dx_hat=lambda dx_hat: dx_hat.mean(axis=1, keepdims=True),
    ),
    change(
        "dx-projection-per-channel",
        "the projection is that of each channel",
        "gn",
        projection=lambda dx_hat, x_hat: (dx_hat * x_hat).mean(axis=1, keepdims=True),
    ),
    change(
        "dx-means-of-other-sample",
        "the means of dx are those of the neighbouring sample",
        "gn",
        mean_dx_hat=lambda dx_hat, average: np.roll(average(dx_hat), 1, axis=0),
        projection=lambda dx_hat, x_hat, average: np.roll(average(dx_hat * x_hat), 1, axis=0),
    ),
    change(
        "statistics-of-other-sample",
        "mean and variance are those of the neighbouring sample",
        *GROUP,
        **observing(
            mean=lambda x, average: np.roll(average(x), 1, axis=0),
            var=lambda x, mean, average: np.roll(average((x - average(x)) ** 2), 1, axis=0),
        ),
    ),
    change(
        "statistics-of-first-sample",
        "mean and variance are those of the first sample",
        *GROUP,
        **observing(
            mean=lambda x, average: average(x)[[0] * len(x)],
            var=lambda x, mean, average: average((x - average(x)) ** 2)[[0] * len(x)],
        ),
    ),
)
