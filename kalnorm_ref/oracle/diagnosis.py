"""Why a target is wrong: each convention and each seeded bug is a hypothesis, evaluated in float64 beside the truth.

A hypothesis explains a case if everything that the target returned lies within the budget around what it predicts; or
if that holds of the results of forward, which it changes, and the gradients are slopes of the changed forward, as
automatic differentiation finds them (slopes.py). The one that explains most of what fails, and contradicts nothing that
passed, is named.
"""

import numpy as np

from . import bugs
from .arithmetic import evaluate
from .slopes import GRADIENTS, gradients_follow
from .verdict import Truth, shaped

EXPLAINED_BY = 4.0  # times the budget: the errors of a buggy kernel are not bounded by the truth's budget alone


def predicted(case, change, declared=None):
    """The results of a case under a change, with the steps that the target has declared; by name."""
    return evaluate(case, changes={**(declared or {}), **change.steps})


def prediction(truth, change, declared=None):
    """The same for the case of a Truth, which keeps it."""
    if change.name not in truth.predictions:
        truth.predictions[change.name] = truth.replay.under({**(declared or {}), **change.steps})
    return truth.predictions[change.name]


def explains(truth, returned, prediction):
    """Whether everything returned lies within the budget around the prediction."""
    for name, (got, dtype) in returned.items():
        want, guess = truth.want[name], np.asarray(prediction[name])
        got = shaped(got, want)
        if got is None or not _near(truth, name, got, dtype, guess):
            return False
    return True


def _near(truth, name, got, dtype, guess):
    scale = _size(guess) / max(_size(truth.want[name]), 1e-300)
    looser = EXPLAINED_BY * max(1.0, scale if np.isfinite(scale) else 1.0)
    return bool((truth.ratios(name, got, dtype, "serial", guess, looser) <= 1).all())


def _size(a):
    a = np.abs(a[np.isfinite(a)])
    return float(np.sqrt(np.mean(a**2))) if a.size else 0.0


def explanations(truth, returned, declared=None, among=None):
    """The changes that explain one case, conventions first; all of the operation are tried unless `among` is given."""
    changes = bugs.changes(truth.case.op) if among is None else among
    changes = sorted(changes, key=lambda change: not change.convention)
    returned = _wrong_first(truth, returned)
    return [c for c in changes if explained(truth, returned, c, declared)]


@np.errstate(all="ignore")  # NaN and Inf are values here, not accidents
def explained(truth, returned, change, declared=None):
    """Whether a change explains what was returned for a case, {name: (values, type)}."""
    guess = prediction(truth, change, declared)
    if explains(truth, returned, guess):
        return True
    forward = {name: got for name, got in returned.items() if name not in GRADIENTS}
    if len(forward) == len(returned) or not _forward_is_wrong(truth, forward):
        return False
    if not explains(truth, forward, guess):
        return False
    return gradients_follow(truth.case, {**(declared or {}), **change.steps}, returned)


def _forward_is_wrong(truth, forward):
    """Whether anything but gradients is visibly wrong; if not, no changed forward explains gradients that are."""
    found = {name: shaped(got, truth.want[name]) for name, (got, _) in forward.items()}
    return any(
        got is not None and not _near(truth, name, got, forward[name][1], truth.want[name])
        for name, got in found.items()
    )


def _wrong_first(truth, returned):
    """The same, with what is not right in front, which rules out most changes at once."""

    def right(name):
        got, dtype = returned[name]
        got = shaped(got, truth.want[name])
        return got is not None and _near(truth, name, got, dtype, truth.want[name])

    return {name: returned[name] for name in sorted(returned, key=right)}


def fits_law(truth, returned, kind):
    """Whether everything returned fits another budget: "single_pass" or "low_statistics"."""
    for name, (got, dtype) in returned.items():
        got = shaped(got, truth.want[name])
        if got is None or not (truth.ratios(name, got, dtype, kind) <= 1).all():
            return False
    return True


def separates(case, first, second):
    """Whether two changes predict visibly different results for a case."""
    truth = Truth(case, evaluate(case))
    a, b = predicted(case, first), predicted(case, second)
    return any(
        not _near(Truth(case, truth.want), name, np.asarray(a[name]), case.dtype, np.asarray(b[name])) for name in a
    )


@np.errstate(all="ignore")
def pattern(got, want, case):
    """What kind of multiple of the truth a wrong tensor is: "all elements x 0.75 = (m-1)/m", or an empty string."""
    some = (
        np.isfinite(got)
        & np.isfinite(want)
        & (np.abs(want) > 1e-3 * np.max(np.abs(want), initial=0, where=np.isfinite(want)))
    )
    if some.sum() < 2:
        return ""
    ratio = got[some] / want[some]
    middle = float(np.median(ratio))
    if not np.allclose(ratio, middle, rtol=1e-3, atol=1e-6) or abs(middle - 1) < 2e-3:
        return ""
    m, b = case.samples, case.batches
    known = {
        "(m-1)/m": (m - 1) / m,
        "m/(m-1)": m / max(1, m - 1),
        "m": m,
        "1/m": 1 / m,
        "-1": -1.0,
        "2": 2.0,
        "1/2": 0.5,
    }
    known |= {"the number of statistics batches": b, "1/(statistics batches)": 1 / b} if b > 1 else {}
    names = [name for name, value in known.items() if abs(middle - value) <= 2e-3 * abs(value)]
    return f"all elements x {middle:.4g}" + (f" = {names[0]}" if names else "")
