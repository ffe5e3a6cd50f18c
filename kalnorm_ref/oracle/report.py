"""The result of a run: what every case came to, and whether that is a failure."""

import json
import platform
from typing import NamedTuple

import numpy as np

from .. import __version__
from .verdict import NEUTRAL, RIGHT, severity


class Failed(AssertionError):
    """A target that is not right, or was asked too little."""


class Report(NamedTuple):
    """What became of a target. str(report) is its table, worst first."""

    target: str
    results: tuple  # of CaseResult, in the order of the cases
    min_cases: int = 1
    accepted: tuple = ()  # verdicts that are let pass beside the right ones: "LOWSTAT"
    declared: tuple = ()  # names of the conventions that the target declared

    @property
    def judged(self):
        """The cases that were run: all but SKIP."""
        return [r for r in self.results if r.verdict != "SKIP"]

    @property
    def failures(self):
        """The cases that count as failures, worst first."""
        failing = [r for r in self.results if r.verdict not in (*NEUTRAL, *self.accepted)]
        return sorted(failing, key=lambda r: (severity(r.verdict), -worst_ratio(r)))

    @property
    def too_few(self):
        """Whether fewer cases than min_cases were run."""
        return len(self.judged) < self.min_cases

    @property
    def exit_code(self):
        """0 all right, 1 a failure, 3 too few cases."""
        return 1 if self.failures else 3 if self.too_few else 0

    def counts(self):
        """Number of cases by verdict, worst first; BUG?:x and CONVENTION:x apart."""
        found = sorted({r.verdict for r in self.results}, key=severity)
        return {verdict: sum(r.verdict == verdict for r in self.results) for verdict in found}

    def raise_for_failures(self):
        """Failed, with the table of what is wrong, unless everything is right and enough was asked."""
        if self.exit_code:
            raise Failed(self.summary() + "\n" + str(self))

    def summary(self):
        """One line."""
        if self.too_few:
            return (
                f"{self.target}: {len(self.judged)} cases were run; expected at least {self.min_cases}"
                f" ({len(self.results)} chosen, the others skipped)"
            )
        counts = ", ".join(f"{n} {verdict}" for verdict, n in self.counts().items())
        return f"{self.target}: {len(self.failures)} of {len(self.judged)} cases fail ({counts})"

    def as_json(self):
        """The report as JSON text, indented."""
        return json.dumps(self.as_dict(), indent=2)

    def as_dict(self):
        """The report as plain values; numbers that JSON has not, as text."""
        return {
            "target": self.target,
            "version": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "exit_code": self.exit_code,
            "min_cases": self.min_cases,
            "declared": list(self.declared),
            "accepted": list(self.accepted),
            "counts": self.counts(),
            "cases": [_case_dict(r) for r in self.results],
        }

    def __str__(self):
        from .report_text import text

        return text(self)


def _case_dict(result):
    return {
        "id": result.case.id,
        "verdict": result.verdict,
        "note": result.note,
        "explanations": list(result.explanations),
        "not_covered": list(result.missing),
        "seconds": round(result.seconds, 4),
        "tensors": [
            {**t._asdict(), "index": list(t.index)}
            | {key: _number(getattr(t, key)) for key in ("ratio", "error", "got", "want")}
            for t in result.tensors
        ],
    }


def _number(a):
    return float(a) if np.isfinite(a) else str(float(a))


def worst_ratio(result):
    """The largest error over budget among the tensors of a case."""
    return max((t.ratio for t in result.tensors), default=0.0)


def largest_right(results):
    """(result, tensor) with the largest error over budget among right tensors, or None: the room that is left.

    Ratios are to the budget of sums like trees, and PASS:serial may be beyond it.
    """
    tree = [verdict for verdict in RIGHT if verdict != "PASS:serial"]
    right = [(result, t) for result in results for t in result.tensors if t.verdict in tree]
    return max(right, key=lambda pair: pair[1].ratio, default=None)
