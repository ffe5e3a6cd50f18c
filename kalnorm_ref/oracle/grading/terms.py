"""The coefficients of the terms of a wrong result by least squares: which is missing, too large, or of wrong sign."""

import numpy as np

from .. import steps as plans
from .exercise import shaped, values

FITS = 1e-7  # of the size of the result: a residual above it says that the terms do not make it up
SAME = 1e-5
MISSING = "is missing"


def by_terms(exercise, sets, got, name):
    """Sentences on the terms of a result, or an empty list where they do not explain it on every data set."""
    terms = exercise.terms.get(name)
    if terms is None:
        return []
    fitted = [_fitted(exercise, data, one, name, terms) for data, one in zip(sets, got, strict=True)]
    known = [(data, c) for data, c in zip(sets, fitted, strict=True) if c is not None]
    if not known or any(c is not None and not len(c) for c in fitted):
        return []
    found = [_described(term, [(data, c[i]) for data, c in known if np.isfinite(c[i])]) for i, term in enumerate(terms)]
    if None in found:
        return []
    own = [text for term, text in zip(terms, found, strict=True) if term.factor]
    foreign = [_foreign(name, term, text) for term, text in zip(terms, found, strict=True) if text and not term.factor]
    if len(set(own)) == 1:  # all terms alike
        if own[0] == MISSING:
            return [f"{name} has nothing of what it should be made of.", *foreign] if foreign else [f"{name} is zero."]
        return [f"All of {name} {own[0]}.", *foreign] if own[0] else foreign
    return [f"In {name}, {t.text} {text}." for t, text in zip(terms, found, strict=True) if text and t.factor] + foreign


def _foreign(name, term, text):
    return f"{name} contains {term.text}, which does not belong there: it is added {text}."


def _fitted(exercise, data, got, name, terms):
    """The coefficient of each term: none (length 0) if they do not make up the result, None if nothing can be told."""
    found = values(exercise, data)
    output = next(o for o in exercise.outputs if o.name == name)
    columns = [term.value(**{p: found[p] for p in plans.parameters(term.value)}) for term in terms]
    columns = np.array([shaped(c, output, data).ravel() for c in columns]).T
    got = got.ravel()
    if not np.isfinite(got).all():
        return np.array([])
    some = [i for i in range(len(terms)) if np.any(columns[:, i])]
    if not some:
        return None
    size = np.linalg.norm(columns, axis=0)
    scaled = columns[:, some] / size[some]
    if len(got) <= len(some) or np.linalg.cond(scaled) > 1e6:
        return None
    solution, *_ = np.linalg.lstsq(scaled, got, rcond=None)
    if np.linalg.norm(scaled @ solution - got) > FITS * max(np.linalg.norm(got), np.linalg.norm(size)):
        return np.array([]) if len(some) == len(terms) else None
    coefficients = np.full(len(terms), np.nan)
    coefficients[some] = solution / size[some]
    return coefficients


def _described(term, found):
    """Words for the coefficient of a term, none if it is right; None if it follows no rule that we know."""
    if not found:
        return None
    relative = [(data, c / term.factor if term.factor else c) for data, c in found]
    right = 1.0 if term.factor else 0.0
    if all(abs(c - right) < SAME for _, c in relative):
        return ""
    first = relative[0][1]
    constant = all(abs(c - first) < SAME * max(1, abs(first)) for _, c in relative)
    if not term.factor:
        return f"{first:.4g} times" if constant else None
    for words, rule in RULES:
        if all(_agrees(rule, data, c) for data, c in relative):
            return words
    return f"is {first:.4g} times what it should be" if constant else None


def _agrees(rule, data, c):
    want = rule(data.arguments)
    return want is not None and abs(c - want) < SAME * max(1, abs(want))


def _of_m(f):
    return lambda a: f(len(a["x"])) if "x" in a else None


def _of_gain(f):
    def g(a):
        try:
            return f(a["gain"]) if "gain" in a else None
        except ZeroDivisionError:
            return None

    return g


RULES = (
    (MISSING, lambda a: 0.0),
    ("has the wrong sign", lambda a: -1.0),
    ("is twice what it should be", lambda a: 2.0),
    ("is half of what it should be", lambda a: 0.5),
    ("has the wrong sign, and is twice what it should be", lambda a: -2.0),
    ("has the wrong sign, and is half of what it should be", lambda a: -0.5),
    ("is too large by the factor m, the number of samples", _of_m(lambda m: m)),
    ("is too small by the factor m, the number of samples", _of_m(lambda m: 1 / m)),
    ("is too large by the factor m/(m - 1)", _of_m(lambda m: m / (m - 1))),
    ("is too small by the factor (m - 1)/m", _of_m(lambda m: (m - 1) / m)),
    ("has the wrong sign, and is too large by the factor m, the number of samples", _of_m(lambda m: -m)),
    ("has the wrong sign, and is too small by the factor m, the number of samples", _of_m(lambda m: -1 / m)),
    ("has the factor gain once too often", _of_gain(lambda q: q)),
    ("has the factor 1 - gain once too often", _of_gain(lambda q: 1 - q)),
    ("lacks the factor gain", _of_gain(lambda q: 1 / q)),
    ("lacks the factor 1 - gain", _of_gain(lambda q: 1 / (1 - q))),
    ("has 1 - gain where gain belongs", _of_gain(lambda q: (1 - q) / q)),
    ("has gain where 1 - gain belongs", _of_gain(lambda q: q / (1 - q))),
)
