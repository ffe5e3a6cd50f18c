"""Every gradient before its judges: the figures, their bounds, and whether the judges see mistakes at all."""

import math
from typing import NamedTuple

from tqdm import tqdm

from ..backend import use_backend
from ..gradcheck import leaves, max_error
from . import judges
from .cases import PAIRS

BOUNDS = {  # the largest error (G3) that passes, beside the largest one measured
    "complex_step": 1e-12,  # 5.8e-15
    "central_difference": 1e-7,  # 1.7e-9
    "mpmath": 1e-12,  # 1.5e-15
    "loops": 1e-12,  # 4.9e-15
    "twin": 1e-12,  # 1.6e-15: the compiled backward against the NumPy definition
}
RESULT = "result"  # in place of an argument: the forward itself


class Row(NamedTuple):
    """One gradient, or the forward's result, before all judges."""

    pair: str
    case: str  # its label, or ""
    argument: str
    figures: dict  # judge -> error, inf where even the shapes differ; a judge that does not apply is absent


class Mistake(NamedTuple):
    """One wrong gradient before the judges, who must all reject it."""

    pair: str
    name: str
    figures: dict  # judge -> its largest error over the arguments and cases of the pair


class Proof(NamedTuple):
    """What `prove` found."""

    rows: list
    mistakes: list
    absent: dict  # judge that could not be asked at all -> why, and what to do about it


def prove(names=None, progress=False):
    """Measure every case of the pairs `names` (None: of all pairs), with a bar on stderr if `progress`.

    Raises: ValueError for an unknown name, with those that exist. `transport` stands for all `transport.` pairs.
    """
    chosen = [case for pair in choose(names) for case in pair.cases()]
    absent = _absent()
    rows, mistakes = [], {}
    for case in tqdm(chosen, "gradproof", unit="case", disable=None if progress else True, dynamic_ncols=True):
        try:
            references = _references(case, absent)
            rows += _rows(case, references, absent)
        except Exception as error:
            error.add_note(f"gradproof of {case.name}")
            raise
        for name in case.pair.mistakes:
            seen = mistakes.setdefault((case.pair.name, name), {})
            wrong = judges.loops(case, name)
            for judge, (gradients, _) in references.items():
                worst = max(_error(w, g) for w, g in zip(wrong, gradients, strict=True))
                seen[judge] = max(seen.get(judge, 0.0), worst)
    return Proof(rows, [Mistake(*key, figures) for key, figures in mistakes.items()], absent)


def choose(names):
    """The pairs of these names, in the order of the table."""
    if names is None:
        return list(PAIRS.values())
    for name in names:
        if not any(_covers(name, pair) for pair in PAIRS):
            raise ValueError(f"there is no pair {name!r}; there are {', '.join(PAIRS)}")
    return [pair for pair in PAIRS.values() if any(_covers(name, pair.name) for name in names)]


def _covers(name, pair):
    return pair == name or pair.startswith(f"{name}.")


def failures(proof):
    """(row or mistake, judge, figure) for each gradient beyond its bound and each mistake within it. NaN fails."""
    found = [(row, judge, e) for row in proof.rows for judge, e in row.figures.items() if not e <= BOUNDS[judge]]
    return found + [(m, judge, e) for m in proof.mistakes for judge, e in m.figures.items() if e <= BOUNDS[judge]]


def worst(proof, judge):
    """The largest figure of a judge and the row it stands in; None where it measured nothing."""
    found = [(row.figures[judge], row) for row in proof.rows if judge in row.figures]
    return max(found, key=lambda pair: (math.isnan(pair[0]), pair[0]), default=None)


def _absent():
    """The judges that cannot be asked here."""
    absent = {}
    try:
        import mpmath  # noqa: F401
    except ImportError:
        absent["mpmath"] = "mpmath is not installed; pip install mpmath"
    try:
        use_backend("cython")
    except ImportError as error:
        absent["twin"] = str(error)
    return absent


def _references(case, absent):
    """judge -> the gradients it finds, and the result that it expects of the forward, or None."""
    found = {
        "complex_step": (judges.complex_step(case), None),
        "central_difference": (judges.central_difference(case), None),
        "mpmath": None if "mpmath" in absent else judges.fifty_digits(case),
        "loops": (judges.loops(case), judges.loops_results(case)),
    }
    return {judge: reference for judge, reference in found.items() if reference is not None}


def _rows(case, references, absent):
    with use_backend("numpy"):
        gradients, results = judges.gradients(case), judges.results(case)
    # the references of the others judge the definition; the twin is judged by the definition
    compared = {judge: (gradients, results, *reference) for judge, reference in references.items()}
    if case.pair.twin and "twin" not in absent:
        with use_backend("cython"):
            compared["twin"] = judges.gradients(case), judges.results(case), gradients, results
    for k, (_, argument) in enumerate(judges.places(case)):
        figures = {judge: _error(got[k], expected[k]) for judge, (got, _, expected, _) in compared.items()}
        yield Row(case.pair.name, case.label, argument, figures)
    figures = {
        judge: _error(tuple(leaves(got)), tuple(leaves(expected)))
        for judge, (_, got, _, expected) in compared.items()
        if expected is not None
    }
    yield Row(case.pair.name, case.label, RESULT, figures)


def _error(value, expected):
    try:
        return max_error(value, expected)
    except ValueError:
        return math.inf
