"""How ill-conditioned a case is: kappa = rms(x)/(var + eps)^(1/2), by which rounding is magnified."""

import numpy as np

from .arithmetic import Shape
from .case import to_rows


def conditioning(case, eps=None):
    """kappa of each statistic, (B, C) or (N, G), the largest over the training steps before and the judged one.

    eps: in place of that of the case.
    """
    shape = Shape(case.params["groups"] if case.op in ("gn", "gkn") else None)
    axes = (1,) if shape.grouped is None else (1, 3)
    found = []
    with np.errstate(all="ignore"):
        for a in (*case.before, case.tensors["x"]):
            x = shape.split(to_rows(np.asarray(a, np.float64), case))
            mean = x.mean(axis=axes, keepdims=True)
            var = ((x - mean) ** 2).mean(axis=axes)
            found.append(np.sqrt((x**2).mean(axis=axes) / (var + (case.params["eps"] if eps is None else eps))))
    return np.maximum.reduce(found)
