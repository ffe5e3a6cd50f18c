"""Bugs of batch renormalization in the forward: its two corrections, their use, its running values."""

from .record import change
from .state import mixed

CORRECTIONS = (
    change("r-not-clipped", "r is not clipped", "brn", corr_r=lambda std, running_std: std / running_std),
    change(
        "r-clipped-above-only",
        "r is clipped at r_max, but not at 1/r_max (at -r_max, say)",
        "brn",
        corr_r=lambda std, running_std, r_max, clip: clip(std / running_std, None, r_max),
    ),
    change(
        "r-clipped-below-only",
        "r is clipped at 1/r_max, but not at r_max",
        "brn",
        corr_r=lambda std, running_std, r_max, clip: clip(std / running_std, 1 / r_max, None),
    ),
    change(
        "r-inverted",
        "r is running_std/std",
        "brn",
        corr_r=lambda std, running_std, r_max, clip: clip(running_std / std, 1 / r_max, r_max),
    ),
    change(
        "r-of-variances",
        "r is a ratio of variances",
        "brn",
        corr_r=lambda std, running_std, r_max, clip: clip((std / running_std) ** 2, 1 / r_max, r_max),
    ),
    change(
        "r-root",
        "r is the root of std/running_std: running_std is taken for a variance",
        "brn",
        corr_r=lambda std, running_std, r_max, clip, sqrt: clip(sqrt(std / running_std), 1 / r_max, r_max),
    ),
    change(
        "r-without-eps",
        "r is var^(1/2)/running_std, without eps",
        "brn",
        corr_r=lambda var, running_std, r_max, clip, sqrt: clip(sqrt(var) / running_std, 1 / r_max, r_max),
    ),
    change(
        "r-of-unbiased-std",
        "r takes the unbiased deviation of the batch",
        "brn",
        corr_r=lambda var, eps, m, running_std, r_max, clip, sqrt: clip(
            sqrt(var * (m / (m - 1)) + eps) / running_std, 1 / r_max, r_max
        ),
    ),
    change(
        "r-of-first-statistics-batch",
        "all statistics batches take r and d of the first",
        "brn",
        corr_r=lambda std, running_std, r_max, clip, batches: clip(std / running_std, 1 / r_max, r_max)[[0] * batches],
        corr_d=lambda mean, running_mean, running_std, d_max, clip, batches: clip(
            (mean - running_mean) / running_std, -d_max, d_max
        )[[0] * batches],
    ),
    change(
        "d-not-clipped",
        "d is not clipped",
        "brn",
        corr_d=lambda mean, running_mean, running_std: (mean - running_mean) / running_std,
    ),
    change(
        "d-clipped-above-only",
        "d is clipped at d_max, but not at -d_max",
        "brn",
        corr_d=lambda mean, running_mean, running_std, d_max, clip: clip(
            (mean - running_mean) / running_std, None, d_max
        ),
    ),
    change(
        "d-clipped-below-only",
        "d is clipped at -d_max, but not at d_max",
        "brn",
        corr_d=lambda mean, running_mean, running_std, d_max, clip: clip(
            (mean - running_mean) / running_std, -d_max, None
        ),
    ),
    change(
        "d-never-negative",
        "d is clipped to [0, d_max]",
        "brn",
        corr_d=lambda mean, running_mean, running_std, d_max, clip: clip((mean - running_mean) / running_std, 0, d_max),
    ),
    change(
        "d-clipped-at-r-max",
        "d is clipped at r_max",
        "brn",
        corr_d=lambda mean, running_mean, running_std, r_max, clip: clip(
            (mean - running_mean) / running_std, -r_max, r_max
        ),
    ),
    change(
        "d-clipped-like-r",
        "d is clipped to [1/r_max, r_max]",
        "brn",
        corr_d=lambda mean, running_mean, running_std, r_max, clip: clip(
            (mean - running_mean) / running_std, 1 / r_max, r_max
        ),
    ),
    change(
        "d-over-batch-std",
        "d is divided by the batch's deviation",
        "brn",
        corr_d=lambda mean, running_mean, std, d_max, clip: clip((mean - running_mean) / std, -d_max, d_max),
    ),
    change(
        "d-over-running-variance",
        "d is divided by the running variance",
        "brn",
        corr_d=lambda mean, running_mean, running_std, d_max, clip: clip(
            (mean - running_mean) / running_std**2, -d_max, d_max
        ),
    ),
    change(
        "d-not-divided",
        "d is not divided by the running deviation",
        "brn",
        corr_d=lambda mean, running_mean, d_max, clip: clip(mean - running_mean, -d_max, d_max),
    ),
    change(
        "d-divided-after-clip",
        "d is divided by the running deviation after the clip",
        "brn",
        corr_d=lambda mean, running_mean, running_std, d_max, clip: (
            clip(mean - running_mean, -d_max, d_max) / running_std
        ),
    ),
    change(
        "d-sign",
        "d has the wrong sign",
        "brn",
        corr_d=lambda mean, running_mean, running_std, d_max, clip: clip(
            (running_mean - mean) / running_std, -d_max, d_max
        ),
    ),
)
FORWARD = (
    change(
        "corrections-left-out",
        "r and d are not applied: batch normalization",
        "brn",
        renormed=lambda z: z,
        g=lambda dx_hat: dx_hat,
    ),
    change("r-left-out-of-forward", "the forward lacks r", "brn", renormed=lambda z, corr_d: z + corr_d),
    change("d-left-out", "d is not added", "brn", renormed=lambda z, corr_r: z * corr_r),
    change("d-subtracted", "d is subtracted", "brn", renormed=lambda z, corr_r, corr_d: z * corr_r - corr_d),
    change(
        "d-multiplied-by-r",
        "(z + d) r in the place of z r + d",
        "brn",
        renormed=lambda z, corr_r, corr_d: (z + corr_d) * corr_r,
    ),
    change("r-divides", "z is divided by r", "brn", renormed=lambda z, corr_r, corr_d: z / corr_r + corr_d),
    change(
        "r-and-d-swapped",
        "z d + r in the place of z r + d",
        "brn",
        renormed=lambda z, corr_r, corr_d: z * corr_d + corr_r,
    ),
    change(
        "d-after-gamma",
        "d is added after gamma multiplies",
        "brn",
        y=lambda x_hat, corr_d, gamma, beta: gamma * (x_hat - corr_d) + corr_d + beta,
    ),
    change(
        "training-with-running-values-renorm",
        "training standardizes with the running values: no clip",
        "brn",
        renormed=lambda x, running_mean, running_std: (x - running_mean) / running_std,
    ),
)
STATE = (
    change(
        "running-std-averages-var",
        "variances are averaged into the running deviation",
        "brn",
        next_std=lambda running_std, var, eps, decay, over_batches: mixed(running_std, over_batches(var + eps), decay),
    ),
    change(
        "running-mean-corrected",
        "the running mean takes mean - d std",
        "brn",
        next_mean=lambda running_mean, mean, corr_d, std, decay, over_batches: mixed(
            running_mean, over_batches(mean - corr_d * std), decay
        ),
    ),
    change(
        "running-std-clipped",
        "the running deviation takes std/r",
        "brn",
        next_std=lambda running_std, std, corr_r, decay, over_batches: mixed(
            running_std, over_batches(std / corr_r), decay
        ),
    ),
    change(
        "inference-eps-twice",
        "inference adds eps, which running_std contains",
        "brn",
        fixed_std=lambda running_std, eps, sqrt: sqrt(running_std**2 + eps),
    ),
    change(
        "inference-takes-running-std-for-var",
        "inference takes the running deviation for a variance",
        "brn",
        fixed_std=lambda running_std, eps, sqrt: sqrt(running_std + eps),
    ),
)
CHANGES = (*CORRECTIONS, *FORWARD, *STATE)
