"""What can be said of a wrong result that no known mistake explains: where it is wrong, and by what."""

import numpy as np

from .calls import quoted

CONSTANT = 1e-6


def described(name, pairs):
    """Sentences on one result; pairs: (data set, got, expected, tolerance), all with finite values in `got`."""
    return [text for text in (_factor(name, pairs), _shift(name, pairs), _neighbours(name, pairs)) if text][:1]


def _factor(name, pairs):
    """One factor, the same in all elements of a data set."""
    factors = []
    for data, got, want, tolerance in pairs:
        some = np.abs(want) > np.maximum(1e-3 * np.max(np.abs(want)), 1e3 * tolerance)
        if some.sum() < 1:
            continue
        ratios = got[some] / want[some]
        if np.ptp(ratios) > CONSTANT * np.max(np.abs(ratios)) or (some.sum() < 2 and got.size > 1):
            return None
        factors.append((data, float(np.median(ratios))))
    if len(factors) < 2:
        return None
    values = [f for _, f in factors]
    for words, rule in FACTORS:
        if all(_near(f, rule(data.arguments)) for data, f in factors):
            return f"All of {name} {words}."
    if np.ptp(values) <= CONSTANT * np.max(np.abs(values)):
        return f"All of {name} is {values[0]:.6g} times what it should be."
    low, high = min(factors, key=lambda f: f[1]), max(factors, key=lambda f: f[1])
    return (
        f"In each data set all of {name} is off by one factor, from {low[1]:.4g} ({quoted(low[0])}) to {high[1]:.4g} "
        f"({quoted(high[0])})."
    )


def _near(a, b):
    return b is not None and abs(a - b) <= CONSTANT * abs(b) + 1e-300


def _m(f):
    return lambda a: f(len(a["x"])) if "x" in a else None


FACTORS = (
    ("is zero", lambda a: 0.0),
    ("has the wrong sign", lambda a: -1.0),
    ("is twice what it should be", lambda a: 2.0),
    ("is half of what it should be", lambda a: 0.5),
    ("is too large by the factor m, the number of samples", _m(lambda m: m)),
    ("is too small by the factor m, the number of samples", _m(lambda m: 1 / m)),
    ("is too large by the factor m/(m - 1)", _m(lambda m: m / (m - 1))),
    ("is too small by the factor (m - 1)/m", _m(lambda m: (m - 1) / m)),
    ("is too small by the factor ((m - 1)/m)^(1/2)", _m(lambda m: ((m - 1) / m) ** 0.5)),
)


def _shift(name, pairs):
    """A constant that is added to each channel."""
    if any(got.ndim != 2 for _, got, _, _ in pairs):
        return None
    for _, got, want, tolerance in pairs:
        off = got - want
        if np.any(np.abs(off - off.mean(axis=0)) > 1e-6 * np.max(np.abs(off)) + 4 * tolerance):
            return None
    return f"In each channel all of {name} is off by the same amount: a term that is the same for all samples is wrong."


def _neighbours(name, pairs):
    """Right values in the wrong channels."""
    for shift, words in ((1, "the channel before"), (-1, "the channel after")):
        if all(
            got.ndim
            and got.shape[-1] > 2
            and np.all(np.abs(got - np.roll(want, shift, axis=-1)) <= 1e-8 * np.max(np.abs(want)))
            for _, got, want, _ in pairs
        ):
            return f"{name} is right, but in the wrong place: each channel holds the values of {words}."
    return None
