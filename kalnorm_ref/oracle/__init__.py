"""The conformance kit: is my kernel right, how wrong is it, and why?

    report = kr.oracle.verify(factory)                 ask a target every case of the frozen core; see target.py
    report.raise_for_failures()
    report = kr.oracle.check("bn", given, returned, params)    score what a kernel returned for your own tensors
    kr.oracle.grade(function, "bn-backward")           the answer of a tutor to an exercise; see grading
    kr.oracle.hunt(seed)                               an implementation with one bug in it, to be found; see hunting

A case says what goes in (case.py), reference.py what must come out, budget.py how far off rounding may be, verdict.py
what a deviation is called, diagnosis.py which bug explains it.
"""

from . import core
from .case import Case
from .check import check
from .grading import Grade, grade
from .hunting import Hunt, hunt
from .reference import expected
from .report import Failed, Report
from .runner import ask, diagnosed
from .target import TargetError, load
from .verdict import CaseResult, TensorResult

__all__ = [
    "Case",
    "CaseResult",
    "Failed",
    "Grade",
    "Hunt",
    "Report",
    "TargetError",
    "TensorResult",
    "check",
    "expected",
    "grade",
    "hunt",
    "load",
    "verify",
]


def verify(factory, cases=None, min_cases=1, *, name=None, accepted=(), progress=None):
    """Ask a target every case, and judge what it returns.

    factory: a function of a Case that returns a target (target.py). cases: an iterable of Case; a pattern or several
    for ids of the frozen core ("bn/*", "*float32"); None for all of it. min_cases: fewer that are not skipped are a
    failure. accepted: verdicts to let pass, "LOWSTAT" for instance. progress: wraps the list of questions, as tqdm
    does.
    Returns: Report. Raises: ValueError for a pattern that no case has; what the target raises becomes an ERROR.
    """
    questions = core.questions(cases)
    conventions = set()
    results = []
    for case, want in progress(questions) if progress else questions:
        results.append(ask(case, want, factory, conventions))
    name = name or getattr(factory, "__name__", "target")
    return Report(name, tuple(diagnosed(results, conventions)), min_cases, accepted, tuple(sorted(conventions)))
