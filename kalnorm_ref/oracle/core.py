"""The questions: the cases and what must come out."""

from fnmatch import fnmatch

from .case import Case
from . import catalogue
from .reference import expected


def questions(chosen=None):
    """(case, expected results) of the frozen core, or of an iterable of Case; `chosen` may be patterns of ids."""
    if chosen is None:
        return [(case, truth(case)) for case in catalogue.cases()]
    chosen = [chosen] if isinstance(chosen, str | Case) else list(chosen)
    if all(isinstance(one, Case) for one in chosen):
        return [(case, truth(case)) for case in chosen]
    found = [case for case in catalogue.cases() if any(fnmatch(case.id, pattern) for pattern in chosen)]
    for pattern in chosen:
        if not any(fnmatch(case.id, pattern) for case in found):
            raise ValueError(f"no case is called {pattern!r}; kalnorm-ref list shows all")
    return [(case, truth(case)) for case in found]


def truth(case):
    """The expected results of a case; none where there is no sample."""
    return expected(case) if case.tensors["x"].size else {}
