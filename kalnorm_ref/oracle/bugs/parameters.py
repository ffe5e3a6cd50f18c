"""Bugs of gamma and beta in the backward: their gradients, and gamma on the way to dx."""

import numpy as np

from .forward import without_last
from .record import ALL, change

SCALE = (
    change("dx-gamma-missing", "dx lacks gamma", *ALL, dx_hat=lambda dy: dy),
    change("dx-gamma-squared", "dx has gamma twice", *ALL, dx_hat=lambda dy, gamma: dy * gamma**2),
    change("dx-gamma-divides", "dx is divided by gamma", *ALL, dx_hat=lambda dy, gamma: dy / gamma),
    change("dx-gamma-absolute", "dx has |gamma|", *ALL, dx_hat=lambda dy, gamma: dy * abs(gamma)),
    change(
        "dx-gamma-of-neighbour",
        "dx has the gamma of the neighbouring channel",
        *ALL,
        dx_hat=lambda dy, gamma: dy * np.roll(gamma, 1),
    ),
)
AFFINE = (
    change(
        "dgamma-is-mean",
        "dgamma is a mean over the samples, not a sum",
        *ALL,
        dgamma=lambda dy, x_hat, total: total(dy * x_hat) / (len(dy) * dy.shape[1]),
    ),
    change(
        "dbeta-is-mean",
        "dbeta is a mean over the samples, not a sum",
        *ALL,
        dbeta=lambda dy, total: total(dy) / (len(dy) * dy.shape[1]),
    ),
    change(
        "dgamma-from-x", "dgamma is sum dy x: x in the place of x_hat", *ALL, dgamma=lambda dy, x, total: total(dy * x)
    ),
    change(
        "dgamma-from-y", "dgamma is sum dy y: y in the place of x_hat", *ALL, dgamma=lambda dy, y, total: total(dy * y)
    ),
    change(
        "dgamma-lacks-rstd",
        "dgamma is sum dy (x - mean): rstd is missing",
        *ALL,
        dgamma=lambda dy, x, mean, total: total(dy * (x - mean)),
    ),
    change(
        "dgamma-not-centred",
        "dgamma is sum dy x rstd: not centred",
        *ALL,
        dgamma=lambda dy, x, rstd, total: total(dy * (x * rstd)),
    ),
    change(
        "dgamma-rstd-twice",
        "dgamma has one rstd too many",
        *ALL,
        dgamma=lambda dy, x_hat, rstd, total: total(dy * x_hat * rstd),
    ),
    change(
        "dgamma-with-gamma",
        "dgamma has gamma as a factor",
        *ALL,
        dgamma=lambda dx_hat, x_hat, total: total(dx_hat * x_hat),
    ),
    change("dbeta-with-gamma", "dbeta has gamma as a factor", *ALL, dbeta=lambda dx_hat, total: total(dx_hat)),
    change("dgamma-sign", "dgamma has the wrong sign", *ALL, dgamma=lambda dy, x_hat, total: -total(dy * x_hat)),
    change(
        "dgamma-and-dbeta-swapped",
        "dgamma and dbeta are swapped",
        *ALL,
        dgamma=lambda dy, total: total(dy),
        dbeta=lambda dy, x_hat, total: total(dy * x_hat),
    ),
    change(
        "dgamma-of-neighbour",
        "dgamma is stored one channel off",
        *ALL,
        dgamma=lambda dy, x_hat, total: np.roll(total(dy * x_hat), 1),
    ),
    change(
        "dgamma-first-batch-only",
        "dgamma and dbeta are those of the first statistics batch, or sample",
        *ALL,
        dgamma=lambda dy, x_hat, total: total((dy * x_hat)[:1]),
        dbeta=lambda dy, total: total(dy[:1]),
    ),
    change(
        "dgamma-mean-over-batches",
        "dgamma and dbeta are means over the statistics batches, or samples",
        *ALL,
        dgamma=lambda dy, x_hat, total: total(dy * x_hat) / len(dy),
        dbeta=lambda dy, total: total(dy) / len(dy),
    ),
    change(
        "dgamma-drops-last-sample",
        "dgamma lacks the last sample: the tail of a block is not handled",
        *ALL,
        dgamma=lambda dy, x_hat, total: total(without_last(dy * x_hat)),
    ),
    change(
        "dbeta-drops-last-sample",
        "dbeta lacks the last sample: the tail of a block is not handled",
        *ALL,
        dbeta=lambda dy, total: total(without_last(dy)),
    ),
)
CHANGES = (*SCALE, *AFFINE)
