"""Bugs of batch renormalization in the backward: which factors and terms the two corrections bring, and which not."""

from .record import change


def dx_of(rstd, g, mean_g, z, projection):
    """dx of (B2)."""
    return rstd * (g - mean_g - z * projection)


def inside(a, low, high):
    """Where a correction is not clipped, and so depends on x."""
    return (a > low) & (a < high)


def through_r(corr_r, r_max, running_std, z, dx_hat, average):
    """What a gradient through r adds to dx."""
    return inside(corr_r, 1 / r_max, r_max) * z * average(dx_hat * z) / running_std


def through_d(corr_d, d_max, running_std, dx_hat, average):
    """What a gradient through d adds to dx."""
    return inside(corr_d, -d_max, d_max) * average(dx_hat) / running_std


CHANGES = (
    change(
        "dx-through-r",
        "the gradient flows through r",
        "brn",
        renorm_dx=lambda rstd, g, mean_g, z, projection, corr_r, r_max, running_std, dx_hat, average: (
            dx_of(rstd, g, mean_g, z, projection) + through_r(corr_r, r_max, running_std, z, dx_hat, average)
        ),
    ),
    change(
        "dx-through-d",
        "the gradient flows through d",
        "brn",
        renorm_dx=lambda rstd, g, mean_g, z, projection, corr_d, d_max, running_std, dx_hat, average: (
            dx_of(rstd, g, mean_g, z, projection) + through_d(corr_d, d_max, running_std, dx_hat, average)
        ),
    ),
    change(
        "dx-through-r-and-d",
        "the gradient flows through r and d",
        "brn",
        renorm_dx=lambda rstd, g, mean_g, z, projection, corr_r, r_max, corr_d, d_max, running_std, dx_hat, average: (
            dx_of(rstd, g, mean_g, z, projection)
            + through_r(corr_r, r_max, running_std, z, dx_hat, average)
            + through_d(corr_d, d_max, running_std, dx_hat, average)
        ),
    ),
    change("dx-lacks-r", "dx lacks r", "brn", g=lambda dx_hat: dx_hat),
    change("dx-r-twice", "dx has r twice", "brn", g=lambda dx_hat, corr_r: dx_hat * corr_r**2),
    change("dx-r-divides", "dx is divided by r", "brn", g=lambda dx_hat, corr_r: dx_hat / corr_r),
    change(
        "dx-over-running-std",
        "dx is divided by the running deviation",
        "brn",
        renorm_dx=lambda running_std, g, mean_g, z, projection: dx_of(1 / running_std, g, mean_g, z, projection),
    ),
    change(
        "dx-projection-on-x-hat",
        "the projector holds x_hat = z r + d in the place of z",
        "brn",
        renorm_dx=lambda rstd, g, mean_g, x_hat, average: dx_of(rstd, g, mean_g, x_hat, average(g * x_hat)),
    ),
    change(
        "dx-projection-mean-of-x-hat",
        "the projection is mean(g x_hat): x_hat in the place of z",
        "brn",
        projection_on_z=lambda g, x_hat, average: average(g * x_hat),
    ),
    change(
        "dx-projection-r-twice",
        "the projection is mean(g z r)",
        "brn",
        projection_on_z=lambda g, z, corr_r, average: average(g * z * corr_r),
    ),
    change(
        "dx-projection-lacks-r",
        "the terms that are subtracted in dx lack r",
        "brn",
        renorm_dx=lambda rstd, g, z, dx_hat, average: dx_of(rstd, g, average(dx_hat), z, average(dx_hat * z)),
    ),
    change(
        "dgamma-from-z", "dgamma is sum dy z: z in the place of x_hat", "brn", dgamma=lambda dy, z, total: total(dy * z)
    ),
    change(
        "dgamma-lacks-d",
        "dgamma is sum dy z r: d is missing",
        "brn",
        dgamma=lambda dy, z, corr_r, total: total(dy * z * corr_r),
    ),
    change(
        "dgamma-lacks-r",
        "dgamma is sum dy (z + d): r is missing",
        "brn",
        dgamma=lambda dy, z, corr_d, total: total(dy * (z + corr_d)),
    ),
    change(
        "dgamma-with-r",
        "dgamma has r as a factor",
        "brn",
        dgamma=lambda dy, x_hat, corr_r, total: total(dy * x_hat * corr_r),
    ),
    change("dbeta-with-r", "dbeta has r as a factor", "brn", dbeta=lambda dy, corr_r, total: total(dy * corr_r)),
)
