"""The implementations that a hunt hands out: three normalizers by the kit's steps, with a bug in them."""

from typing import NamedTuple

import numpy as np

from .. import kalman_steps as kalman
from .. import steps as plans
from ..arithmetic import EXACT, Shape, sums
from ..shared_steps import dbeta, dgamma, dx_hat, mean, rstd, std, steps, var, x_hat, y


class Method(NamedTuple):
    """A normalizer that bugs are planted in."""

    title: str
    make: object  # from the steps that a bug changes, by name, to (forward, backward)
    extra: tuple  # names of the arguments that it has besides those of batch normalization
    outputs: tuple  # names of what forward returns
    gradients: tuple  # names of what backward returns
    suspects: tuple  # names of bugs of the kit


def run(plan, change, results, arguments):
    """The named values of a plan with the steps of a bug in it, in the shapes of x, of channels, or of a number."""
    arguments = {name: np.asarray(a, np.float64) for name, a in arguments.items()}
    shape = arguments["x"].shape
    given = {name: a[None] if name in ("x", "dy") else a for name, a in arguments.items()}
    given |= sums(EXACT, Shape(None)) | {"m": float(shape[0]), "sqrt": np.sqrt, "clip": np.clip, "to_gain": np.sum}
    there = {*given, *plan}
    fitting = {name: step for name, step in change.items() if there.issuperset(plans.parameters(step))}
    with np.errstate(all="ignore"):
        values = plans.run({name: fitting.get(step.__name__, step) for name, step in plan.items()}, given)
    shapes = {"y": shape, "dx": shape, "dgain": ()}
    return tuple(np.array(values[name]).reshape(shapes.get(name, shape[1:])) for name in results)


BN_FORWARD = steps(mean, var, std, rstd, x_hat, y)
BN_BACKWARD = steps(mean, var, std, rstd, x_hat, dx_hat, dgamma, dbeta) | plans.BACKWARD


def batch_norm(change):
    """Batch normalization with the steps of a bug."""

    def forward(x, gamma, beta, eps=1e-5):
        """Batch normalization: y, the shape of x (m, C); gamma, beta (C,)."""
        return run(BN_FORWARD, change, ("y",), {"x": x, "gamma": gamma, "beta": beta, "eps": eps})[0]

    def backward(dy, x, gamma, eps=1e-5):
        """Its gradients: dx (m, C), dgamma, dbeta (C,)."""
        arguments = {"dy": dy, "x": x, "gamma": gamma, "eps": eps}
        return run(BN_BACKWARD, change, ("dx", "dgamma", "dbeta"), arguments)

    return forward, backward


BRN_FORWARD = steps(mean, var, std, rstd, plans.z) | {"x_hat": plans.renormed, "y": y}
BRN_BACKWARD = (
    steps(mean, var, std, rstd, plans.z)
    | {"x_hat": plans.renormed}
    | steps(dx_hat, dgamma, dbeta, plans.g, plans.mean_g)
    | {"projection": plans.projection_on_z, "dx": plans.renorm_dx}
)


def batch_renorm(change):
    """Batch renormalization with the steps of a bug."""

    def forward(x, gamma, beta, r, d, eps=1e-5):
        """Batch renormalization with given corrections: y, the shape of x (m, C); gamma, beta, r, d (C,)."""
        arguments = {"x": x, "gamma": gamma, "beta": beta, "corr_r": r, "corr_d": d, "eps": eps}
        return run(BRN_FORWARD, change, ("y",), arguments)[0]

    def backward(dy, x, gamma, r, d, eps=1e-5):
        """Its gradients, r and d held constant: dx (m, C), dgamma, dbeta (C,)."""
        arguments = {"dy": dy, "x": x, "gamma": gamma, "corr_r": r, "corr_d": d, "eps": eps}
        return run(BRN_BACKWARD, change, ("dx", "dgamma", "dbeta"), arguments)

    return forward, backward


KN_MOMENTS = steps(kalman.observed_mean, kalman.observed_var, kalman.delta)
KN_FORWARD = KN_MOMENTS | {"mean": kalman.fused_mean, "var": kalman.fused_var} | steps(std, rstd, x_hat, y)
KN_BACKWARD = (
    KN_MOMENTS
    | {"mean": kalman.fused_mean, "var": kalman.fused_var}
    | steps(std, rstd, x_hat, dx_hat, dgamma, dbeta, kalman.dmean, kalman.dvar, kalman.ddelta, kalman.dobserved_var)
    | steps(kalman.dprior_mean, kalman.dprior_var, kalman.dgain)
    | {"dx": kalman.kalman_dx}
)
KN_GRADIENTS = ("dx", "dgamma", "dbeta", "dprior_mean", "dprior_var", "dgain")


def kalman_norm(change):
    """Batch Kalman normalization with the steps of a bug."""

    def forward(x, gamma, beta, prior_mean, prior_var, gain, eps=1e-5):
        """Batch Kalman normalization: y, the shape of x (m, C); all else (C,) but the gain, a number."""
        arguments = {"x": x, "gamma": gamma, "beta": beta, "prior_mean": prior_mean, "prior_var": prior_var}
        return run(KN_FORWARD, change, ("y",), arguments | {"gain": gain, "eps": eps})[0]

    def backward(dy, x, gamma, prior_mean, prior_var, gain, eps=1e-5):
        """Its gradients: dx (m, C); dgamma, dbeta, dprior_mean, dprior_var (C,); dgain, a number."""
        arguments = {"dy": dy, "x": x, "gamma": gamma, "prior_mean": prior_mean, "prior_var": prior_var}
        arguments |= {"gain": gain, "eps": eps, "destimate_mean": 0.0, "destimate_var": 0.0}
        return run(KN_BACKWARD, change, KN_GRADIENTS, arguments)

    return forward, backward


MOMENTS = (
    "mean-drops-last-sample",
    "var-drops-last-sample",
    "first-sample-counted-twice",
    "var-unbiased-in-forward-only",
    "eps-outside-root-in-forward-only",
    "eps-added-twice",
    "eps-fixed",
    "eps-as-floor",
)
AFFINE = ("beta-before-gamma", "gamma-absolute", "gamma-of-neighbour", "beta-of-neighbour")
SUMS = ("dgamma-is-mean", "dgamma-from-x", "dgamma-drops-last-sample", "dgamma-with-gamma", "dbeta-drops-last-sample")
TERMS = (
    "dx-lacks-mean",
    "dx-lacks-projection",
    "dx-mean-without-gamma",
    "dx-projection-without-gamma",
    "dx-projection-halved",
    "dx-projection-over-m-minus-1",
    "dx-mean-over-m-minus-1",
    "dx-projection-lacks-x-hat",
    "dx-drops-last-sample",
    "dx-gamma-absolute",
    "dx-mean-of-neighbour",
)
RENORM = (
    "d-multiplied-by-r",
    "r-divides",
    "d-after-gamma",
    "dx-lacks-r",
    "dx-r-twice",
    "dx-projection-on-x-hat",
    "dx-projection-mean-of-x-hat",
    "dx-projection-lacks-r",
    "dgamma-from-z",
    "dgamma-lacks-d",
    "dgamma-lacks-r",
    "dbeta-with-r",
)
FUSION = (
    "gain-swapped-in-mean",
    "gain-swapped-in-var",
    "disagreement-missing-in-forward-only",
    "disagreement-lacks-p",
    "disagreement-with-q-squared",
    "disagreement-subtracted",
    "gain-squared-in-var",
    "estimate-var-mixes-deviations",
    "dvar-lacks-half",
    "dvar-about-observed-mean",
    "dx-lacks-path-of-mean",
    "dx-lacks-path-of-var",
    "dx-about-estimate",
    "dx-var-path-lacks-2",
    "dx-var-path-over-m-minus-1",
    "ddelta-lacks-gain",
    "ddelta-lacks-variance",
    "ddelta-lacks-2",
    "ddelta-lacks-p",
    "dobserved-var-lacks-gain",
    "dobserved-var-with-p",
    "dprior-mean-lacks-variance",
    "dprior-mean-is-dmean",
    "dprior-var-with-q",
    "dgain-lacks-variance",
    "dgain-lacks-disagreement",
    "dgain-disagreement-lacks-2",
    "dgain-variances-swapped",
)
GRADIENTS = ("dx", "dgamma", "dbeta")
METHODS = (
    Method("batch normalization", batch_norm, (), ("y",), GRADIENTS, (*MOMENTS, *AFFINE, *SUMS, *TERMS)),
    Method("batch renormalization", batch_renorm, ("r", "d"), ("y",), GRADIENTS, (*MOMENTS[:4], *TERMS[:6], *RENORM)),
    Method(
        "batch Kalman normalization",
        kalman_norm,
        ("prior_mean", "prior_var", "gain"),
        ("y",),
        KN_GRADIENTS,
        (*MOMENTS[:6], "beta-before-gamma", "dgamma-drops-last-sample", *FUSION),
    ),
)
