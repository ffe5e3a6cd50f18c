"""Bugs of the forward that any normalizer can have: eps, scale and shift, what is left unwritten."""

import numpy as np

from .record import ALL, change


def without_last(a):
    """Zeros in the place of the last sample."""
    return np.concatenate([a[:, :-1], 0 * a[:, -1:]], axis=1)


def without_tail(a):
    """Zeros in the channels beyond a multiple of four."""
    rows = a.reshape(*a.shape[:2], -1)
    whole = rows.shape[2] // 4 * 4
    return np.concatenate([rows[:, :, :whole], 0 * rows[:, :, whole:]], axis=2).reshape(a.shape)


EPS = (
    change(
        "eps-outside-root-in-forward-only",
        "eps is added to the deviation, with the gradient of eps inside the root",
        *ALL,
        std=lambda var, eps, sqrt: sqrt(var) + eps,
    ),
    change("eps-missing", "eps is not added", *ALL, std=lambda var, sqrt: sqrt(var)),
    change("eps-added-twice", "eps is added twice", *ALL, std=lambda var, eps, sqrt: sqrt(var + 2 * eps)),
    change("eps-squared", "eps^2 is added, not eps", *ALL, std=lambda var, eps, sqrt: sqrt(var + eps**2)),
    change(
        "eps-as-floor",
        "eps is the least variance, not added",
        *ALL,
        std=lambda var, eps, sqrt, clip: sqrt(clip(var, eps, None)),
    ),
    change("eps-fixed", "eps is 1e-5 whatever is asked for", *ALL, std=lambda var, sqrt: sqrt(var + 1e-5)),
    change("rstd-lacks-root", "1/(var + eps), without the root, is used as rstd", *ALL, rstd=lambda std: 1 / std**2),
    change("rstd-coarse", "rstd is 0.2 % off: an approximation without refinement", *ALL, rstd=lambda std: 1.002 / std),
)
AFFINE = (
    change(
        "x-not-centred",
        "the mean is not subtracted from x",
        *ALL,
        x_hat=lambda x, rstd: x * rstd,
        z=lambda x, rstd: x * rstd,
    ),
    change(
        "x-hat-not-scaled",
        "x is centred, but not divided by the deviation",
        *ALL,
        x_hat=lambda x, mean: x - mean,
        z=lambda x, mean: x - mean,
    ),
    change(
        "mean-of-neighbour",
        "the mean of the neighbouring channel or group is subtracted",
        *ALL,
        x_hat=lambda x, mean, rstd: (x - np.roll(mean, 1, axis=2 if mean.ndim > 1 else 0)) * rstd,
        z=lambda x, mean, rstd: (x - np.roll(mean, 1, axis=2)) * rstd,
    ),
    change(
        "gamma-of-neighbour",
        "gamma is that of the neighbouring channel",
        *ALL,
        y=lambda x_hat, gamma, beta: np.roll(gamma, 1) * x_hat + beta,
    ),
    change(
        "beta-of-neighbour",
        "beta is that of the neighbouring channel",
        *ALL,
        y=lambda x_hat, gamma, beta: gamma * x_hat + np.roll(beta, 1),
    ),
    change("gamma-missing", "gamma is not applied", *ALL, y=lambda x_hat, beta: x_hat + beta),
    change("beta-missing", "beta is not added", *ALL, y=lambda x_hat, gamma: gamma * x_hat),
    change("beta-subtracted", "beta is subtracted", *ALL, y=lambda x_hat, gamma, beta: gamma * x_hat - beta),
    change(
        "beta-before-gamma",
        "beta is added before gamma multiplies",
        *ALL,
        y=lambda x_hat, gamma, beta: gamma * (x_hat + beta),
    ),
    change("gamma-and-beta-swapped", "y = beta x_hat + gamma", *ALL, y=lambda x_hat, gamma, beta: beta * x_hat + gamma),
    change(
        "gamma-plus-one-in-forward-only",
        "1 + gamma multiplies in the forward, gamma in the backward",
        *ALL,
        y=lambda x_hat, gamma, beta: (1 + gamma) * x_hat + beta,
    ),
    change("gamma-absolute", "|gamma| multiplies", *ALL, y=lambda x_hat, gamma, beta: abs(gamma) * x_hat + beta),
    change(
        "y-rectified", "y is rectified", *ALL, y=lambda x_hat, gamma, beta, clip: clip(gamma * x_hat + beta, 0, None)
    ),
    change(
        "y-tail-of-four-channels-unwritten",
        "the channels of y beyond a multiple of four are left at zero",
        *ALL,
        y=lambda x_hat, gamma, beta: without_tail(gamma * x_hat + beta),
    ),
    change(
        "y-last-sample-unwritten",
        "the last sample of y is left at zero",
        *ALL,
        y=lambda x_hat, gamma, beta: without_last(gamma * x_hat + beta),
    ),
)
CHANGES = (*EPS, *AFFINE)
