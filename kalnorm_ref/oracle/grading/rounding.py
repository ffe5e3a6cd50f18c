"""Whether a function computes in float32, found by asking it."""

import numpy as np

from .calls import call, copied

NUDGE = 2.0**-40  # of each number: float32 does not see it, float64 does


def rounds_to_float32(function, exercise, answers):
    """Whether the results are float32, or do not notice a change of x that float32 rounds away."""
    return all(a.dtype == "float32" or _deaf(function, exercise, a) for a in answers)


def _deaf(function, exercise, answer):
    given = copied(answer.data.arguments)
    for name in ("x",) if "x" in given else given:
        if isinstance(given[name], np.ndarray):
            signs = np.where(np.arange(given[name].size) % 2, -1, 1).reshape(given[name].shape)
            given[name] = given[name] * (1 + NUDGE * signs)
    try:
        again = call(function, given)
    except Exception:
        return False
    again = again if isinstance(again, tuple | list) else (again,)
    pairs = zip(exercise.outputs, again, strict=True)
    return all(np.array_equal(np.asarray(a), answer.results[o.name]) for o, a in pairs)
