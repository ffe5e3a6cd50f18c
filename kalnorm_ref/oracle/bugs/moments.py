"""Bugs of the moments that any normalizer takes of its samples."""

import numpy as np

from .record import ALL, BATCH, averaging, change, observing


def padded(m):
    """The power of two that holds m: the size of a block."""
    return 2 ** (int(m) - 1).bit_length()


def over_channels(statistic):
    """One value for all channels, or all groups."""
    return np.broadcast_to(statistic.mean(axis=2, keepdims=True), statistic.shape)


def per_image(x, images):
    """Means over the positions of each image, in the place of each of them."""
    parts = x.reshape(len(x), images, -1, x.shape[-1])
    return np.broadcast_to(parts.mean(axis=2, keepdims=True), parts.shape).reshape(x.shape)


def per_position(x, images):
    """Means over the images at each position."""
    parts = x.reshape(len(x), images, -1, x.shape[-1])
    return np.broadcast_to(parts.mean(axis=1, keepdims=True), parts.shape).reshape(x.shape)


CHANGES = (
    change(
        "mean-is-sum",
        "the mean is a sum: not divided by m",
        *ALL,
        **observing(mean=lambda x, samples_sum: samples_sum(x)),
    ),
    change(
        "var-is-sum",
        "the variance is a sum of squares: not divided by m",
        *ALL,
        **observing(var=lambda x, mean, samples_sum: samples_sum((x - mean) ** 2)),
    ),
    change(
        "mean-drops-last-sample",
        "the mean's sum lacks the last sample: the tail of a block is not handled",
        *ALL,
        **observing(mean=lambda x, m, samples_sum: samples_sum(x[:, :-1]) / m),
    ),
    change(
        "var-drops-last-sample",
        "the variance's sum lacks the last sample: the tail of a block is not handled",
        *ALL,
        **observing(var=lambda x, mean, m, samples_sum: samples_sum((x - mean)[:, :-1] ** 2) / m),
    ),
    change(
        "statistics-without-last-sample",
        "mean and variance are those of all samples but the last",
        *ALL,
        **observing(
            mean=lambda x, average: average(x[:, :-1]), var=lambda x, mean, average: average((x - mean)[:, :-1] ** 2)
        ),
    ),
    change(
        "first-sample-counted-twice",
        "the first sample enters the mean twice",
        *ALL,
        **observing(mean=lambda x, m, average, samples_sum: average(x) + samples_sum(x[:, :1]) / m),
    ),
    change(
        "statistics-over-padded-count",
        "mean and variance are divided by the size of the block, the next power of two, and not by m",
        *ALL,
        **observing(
            mean=lambda x, m, samples_sum: samples_sum(x) / padded(m),
            var=lambda x, mean, m, samples_sum: samples_sum((x - mean) ** 2) / padded(m),
        ),
    ),
    change(
        "var-counts-masked-lanes",
        "the variance counts the zeros that fill the block up: (0 - mean)^2 for each",
        *ALL,
        **observing(var=lambda x, mean, m, average: average((x - mean) ** 2) + (padded(m) - m) / m * mean**2),
    ),
    change(
        "mean-of-absolute-values", "the mean is that of |x|", *ALL, **observing(mean=lambda x, average: average(abs(x)))
    ),
    change(
        "var-not-centred",
        "the variance is the mean square, without the mean subtracted",
        *ALL,
        **observing(var=lambda x, average: average(x**2)),
    ),
    change(
        "var-unbiased-in-forward-only",
        "the variance is divided by m - 1, while the gradient is that of the biased one",
        *ALL,
        **observing(var=lambda x, mean, m, samples_sum: samples_sum((x - mean) ** 2) / (m - 1)),
    ),
    change(
        "var-absolute-deviation",
        "the deviation is the mean of |x - mean|, not the root of the mean square",
        *ALL,
        **observing(var=lambda x, mean, average: average(abs(x - mean)) ** 2),
    ),
    change(
        "mean-drops-tail-of-four",
        "the mean's sum lacks the samples beyond a multiple of four: the tail of a vector is not handled",
        *ALL,
        **observing(mean=lambda x, m, samples_sum: samples_sum(x[:, : len(x[0]) // 4 * 4]) / m),
    ),
    change(
        "statistics-over-channels",
        "all channels share one mean and variance",
        *BATCH,
        **averaging(lambda a, average, images: over_channels(average(a))),
    ),
    change(
        "statistics-per-image",
        "mean and variance are those of each image: instance normalization",
        *BATCH,
        **averaging(lambda a, average, images: per_image(a, images)),
    ),
    change(
        "statistics-per-position",
        "mean and variance are taken over the images alone, apart for each position",
        *BATCH,
        **averaging(lambda a, average, images: per_position(a, images)),
    ),
    change(
        "one-statistics-batch-for-all",
        "all statistics batches share the moments of the gradient batch",
        *BATCH,
        **averaging(lambda a, average, images: average(a).mean(axis=0, keepdims=True)[[0] * len(a)]),
    ),
    change(
        "first-statistics-batch-for-all",
        "every statistics batch uses the moments of the first",
        *BATCH,
        **observing(
            mean=lambda x, batches, average: average(x)[[0] * batches],
            var=lambda x, mean, batches, average: average((x - mean) ** 2)[[0] * batches],
        ),
    ),
)
