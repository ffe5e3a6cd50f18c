"""Why an answer is wrong: known mistakes are run on all data sets and compared with it, alone and two together.

The order: one mistake that predicts every result; for each wrong result, one that predicts it and what is right, or the
coefficients of its terms (terms.py); two mistakes that predict everything; two that predict a result and what is
right. What predicts is named, and nothing else is.
"""

import functools
import itertools

import numpy as np

from ..case import UNITS
from .exercise import Mistake, results
from .terms import by_terms

NEAR = {"float64": 1e-8, "float32": 2e-3}  # of a result's size: mistakes that differ by less are not told apart


def diagnosis(exercise, answers, dtype, right):
    """Sentences for the wrong results, and the names of the results that none explains.

    answers: with results only. right: names of the results that are right on all of them.
    """
    names = [o.name for o in exercise.outputs]
    wrong = [name for name in names if name not in right]
    whole = _first(exercise, exercise.mistakes, answers, names, dtype)
    if whole:
        return [whole.text], []
    found = {name: _of_one(exercise, exercise.mistakes, answers, name, right, dtype) for name in wrong}
    texts = {name: [one.text] if one else _of_terms(exercise, answers, name) for name, one in found.items()}
    if not all(texts.values()):
        whole = _first(exercise, _pairs(exercise), answers, names, dtype)
        if whole:
            return list(whole.text), []
    for name in (n for n in wrong if not texts[n]):
        pair = _of_one(exercise, _pairs(exercise), answers, name, right, dtype)
        texts[name] = list(pair.text) if pair else []
    unexplained = [name for name in wrong if not texts[name]]
    return list(dict.fromkeys(text for one in texts.values() for text in one)), unexplained


def _of_terms(exercise, answers, name):
    return by_terms(exercise, [a.data for a in answers], [a.results[name] for a in answers], name)


def _first(exercise, candidates, answers, names, dtype):
    """The first mistake that predicts the named results on every data set."""
    for candidate in candidates:
        if all(_predicts(exercise, candidate, a, names, dtype) for a in answers):
            return candidate
    return None


def _of_one(exercise, candidates, answers, name, right, dtype):
    """The first mistake that predicts one result and what is right; if there is one, one that changes nothing else."""
    first = None
    for candidate in candidates:
        if all(_predicts(exercise, candidate, a, [name, *right], dtype) for a in answers):
            if not _changed(exercise, candidate, answers, name, dtype):
                return candidate
            first = first or candidate
    return first


def _changed(exercise, candidate, answers, name, dtype):
    """Whether it changes another result than the one that is named."""
    others = [o.name for o in exercise.outputs if o.name != name]
    return any(
        not near(predicted(exercise, candidate, a.data)[other], results(exercise, a.data)[other], dtype)
        for a in answers
        for other in others
    )


def _predicts(exercise, candidate, answer, names, dtype):
    guess = predicted(exercise, candidate, answer.data)
    return all(near(answer.results[name], guess[name], dtype) for name in names)


def near(got, guess, dtype):
    """Whether they agree up to rounding; NaN and Inf in the same places."""
    finite = np.isfinite(guess)
    if not np.array_equal(finite, np.isfinite(got)):
        return False
    if not finite.any():
        return True
    got, guess = got[finite], guess[finite]
    size = np.sqrt(np.mean(guess**2))
    return bool(np.all(np.abs(got - guess) <= NEAR[dtype] * (size + np.abs(guess)) + UNITS[dtype]))


_PREDICTIONS = {}


def predicted(exercise, candidate, data):
    """The results with a mistake, computed once."""
    place = exercise.name, candidate.name, data.name
    if place not in _PREDICTIONS:
        _PREDICTIONS[place] = results(exercise, data, candidate.steps)
    return _PREDICTIONS[place]


@functools.cache
def _places(count):
    return tuple(itertools.combinations(range(count), 2))


def _pairs(exercise):
    """Two mistakes in different steps."""
    for i, j in _places(len(exercise.mistakes)):
        one, other = exercise.mistakes[i], exercise.mistakes[j]
        if not set(one.steps) & set(other.steps):
            yield Mistake(f"{one.name} + {other.name}", (one.text, other.text), one.steps | other.steps)
