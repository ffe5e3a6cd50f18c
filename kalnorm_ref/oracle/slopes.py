"""Do gradients follow from a forward? Automatic differentiation of a wrong forward gives its own gradients, not ours.

Along a direction, <d loss/dt, direction> must be the slope of loss = <y, dy> + <estimate, destimate>, which two
forwards of the changed steps in float64 give. BRN's corrections are held constant, as its authors say.
"""

import math

import numpy as np

from .arithmetic import evaluate
from .case import channel_axis
from .draws import Draws

STEP = (
    1e-5  # of the deviation of a tensor: the truncation of the central difference and its rounding are both near 1e-10
)
TOLERANCE = {"float64": 1e-6, "float32": 2e-3, "bfloat16": 5e-2, "float16": 2e-2}  # of the root of the sum of squares


@np.errstate(all="ignore")  # NaN and Inf are no slopes, and no accident
def gradients_follow(case, steps, returned):
    """Whether the gradients that a target returned are slopes of the changed forward; {name: (values, type)}."""
    steps = _held(case, steps) if case.op == "brn" and case.training else steps
    draws = Draws(f"slopes/{case.id}")
    for name, (got, _) in returned.items():
        if name in GRADIENTS and name[1:] in case.tensors:
            t = case.tensors[name[1:]]
            direction = np.sign(draws.normal(*t.shape)) * _deviation(name[1:], t, case)
            claimed, size = np.sum(got.reshape(t.shape) * direction), np.linalg.norm(got.reshape(t.shape) * direction)
            measured = _slope(case, name[1:], direction, steps)
            if not abs(claimed - measured) <= TOLERANCE[case.dtype] * max(size, abs(measured), 1e-30):
                return False
    return True


GRADIENTS = ("dx", "dgamma", "dbeta", "dgain", "dprevious_mean", "dprevious_var", "dtransition", "dnoise")


def _deviation(name, t, case):
    """How far it makes sense to go: for maps the deviation of each channel."""
    if name != "x":
        return np.maximum(np.abs(t), 0.1)
    axis = channel_axis(case.layout)
    others = tuple(i for i in range(t.ndim) if i != axis)
    return np.maximum(t.std(axis=others, keepdims=True), 1e-30)


def _held(case, steps):
    """The steps with r and d held at their values."""
    out = evaluate(case, changes=steps)
    fixed = {name: np.reshape(out[name], (case.batches, -1)) for name in ("corr_r", "corr_d")}

    def corr_r(expand):
        return expand(fixed["corr_r"])

    def corr_d(expand):
        return expand(fixed["corr_d"])

    return {**steps, "corr_r": corr_r, "corr_d": corr_d}


def _slope(case, name, direction, steps):
    ahead, behind = (
        _loss(case._replace(tensors={**case.tensors, name: case.tensors[name] + sign * STEP * direction}), steps)
        for sign in (1, -1)
    )
    return math.fsum((ahead - behind).tolist()) / (2 * STEP)


def _loss(case, steps):
    """The terms of the loss, whose differences are added up later."""
    out = evaluate(case, changes=steps)
    terms = [(out["y"] * case.upstream["dy"]).ravel()]
    for name in ("mean", "var"):
        if f"destimate_{name}" in case.upstream and f"estimate_{name}" in out:
            terms.append((out[f"estimate_{name}"] * case.upstream[f"destimate_{name}"]).ravel())
    return np.concatenate(terms)
