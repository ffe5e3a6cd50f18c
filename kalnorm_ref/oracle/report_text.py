"""A report as text and as Markdown: what is wrong, worst first, then what was and was not looked at.

rows(report)        one Row a failing tensor, worst first; report_html.py shows the same
overview(report)    lines: verdicts, what was not covered, what was skipped, the room that is left
"""

from typing import NamedTuple

from .report import largest_right
from .target import LACKING
from .verdict import RIGHT, severity

SHOWN = 20  # failing tensors; the rest are counted
HEADINGS = ("verdict", "case", "tensor", "error/budget", "where", "got", "want", "why")
NAMED = 3  # cases that stand for a group


class Row(NamedTuple):
    """One failing tensor, or one case that failed before there was a tensor."""

    result: object  # the CaseResult
    tensor: object  # the TensorResult, or None

    @property
    def verdict(self):
        return self.tensor.verdict if self.tensor else self.result.verdict

    @property
    def why(self):
        """What the tensor itself says, then what the diagnosis says of its case."""
        notes = [self.tensor.note if self.tensor else "", self.result.note]
        return "; ".join(dict.fromkeys(note for note in notes if note))

    def cells(self):
        """Its text under each of HEADINGS."""
        t = self.tensor
        figures = ("-", "-", "-", "-", "-") if t is None else (t.name, ratio(t.ratio), where(t.index), *_values(t))
        return self.verdict, self.result.case.id, *figures, self.why


def rows(report):
    """A Row for each failing tensor of the failing cases, worst first."""
    found = [row for result in report.failures for row in rows_of(report, result)]
    return sorted(found, key=lambda row: (severity(row.verdict), -row.tensor.ratio if row.tensor else 0.0))


def rows_of(report, result):
    """The Rows of one failing case."""
    wrong = [t for t in result.tensors if t.verdict not in (*RIGHT, *report.accepted)]
    return [Row(result, t) for t in wrong] or [Row(result, None)]


def ratio(a):
    """An error over its budget, in three characters and an exponent where it is large."""
    return f"{a:.2f}" if a < 100 else f"{a:.1e}".replace("e+0", "e").replace("e+", "e")


def where(index):
    return "(" + ", ".join(map(str, index)) + ")" if index else "-"


def _values(t):
    return tuple("-" if t.index == () and a != a else f"{a:.7g}" for a in (t.got, t.want))


def text(report, shown=SHOWN):
    """The table of what fails, and the overview."""
    found = rows(report)
    lines = [report.summary()]
    if found:
        lines += ["", *_aligned([HEADINGS, *(row.cells() for row in found[:shown])])]
    if len(found) > shown:
        lines.append(f"and {len(found) - shown} more failing tensors")
    return "\n".join([*lines, "", *overview(report)])


def _aligned(table):
    """Lines of a table whose last column is free."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]) - 1)]
    return [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in table
    ]


def case_text(report, result):
    """The lines of one case: its reason, its table, what may explain it."""
    found = rows_of(report, result)
    lines = [f"{result.case.id}: {result.verdict}", f"asked because: {result.case.why}"]
    lines += ["", *_aligned([HEADINGS, *(row.cells() for row in found)]), ""]
    if result.explanations:
        lines.append("explained by: " + ", ".join(result.explanations))
    return "\n".join([*lines, f"kalnorm-ref explain {result.case.id!r} says more"])


def overview(report):
    """Lines: verdicts, what was not covered, what was skipped and why, the room that is left."""
    lines = [f"{n:>6}  {verdict}" for verdict, n in report.counts().items()]
    for names, cases in missing(report).items():
        lines.append(f"not covered: {names} in {_counted(cases)}")
    for reason, cases in skipped(report).items():
        lines.append(f"skipped: {_counted(cases)}: {reason}")
    found = largest_right(report.results)
    if found:
        result, t = found
        place = f"{result.case.id}: {t.name}"
        lines.append(f"room left: right tensors use at most {ratio(t.ratio)} of their budget ({place})")
    return lines


def _counted(ids):
    named = ", ".join(ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
    return f"{len(ids)} case{'s' * (len(ids) != 1)} ({named})"


def missing(report):
    """{names of tensors that were not returned: ids of the cases}."""
    by_name = _grouped((name, r.case.id) for r in report.judged for name in r.missing)
    by_cases = _grouped((tuple(ids), name) for name, ids in by_name.items())
    return {", ".join(names): list(ids) for ids, names in by_cases.items()}


def skipped(report):
    """{reason: ids of the cases}, the commonest first; of several capabilities that lack, the first is the reason."""

    def first(note):
        return note.partition(",")[0] if note.startswith(LACKING) else note

    return _grouped((first(r.note), r.case.id) for r in report.results if r.verdict == "SKIP")


def _grouped(pairs):
    groups = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def markdown(report, shown=SHOWN):
    """The same as Markdown."""
    found = rows(report)
    lines = [f"# {_cell(report.target)}", "", _cell(report.summary()), ""]
    if found:
        lines += ["| " + " | ".join(HEADINGS) + " |", "|---|---|---|---:|---|---:|---:|---|"]
        lines += ["| " + " | ".join(map(_cell, row.cells())) + " |" for row in found[:shown]]
        lines += [f"\nand {len(found) - shown} more failing tensors"] * (len(found) > shown) + [""]
    return "\n".join(lines + [f"- {_cell(line.strip())}" for line in overview(report)]) + "\n"


def _cell(a):
    """Text that a Markdown table takes as it is."""
    for mark in "\\|*_`<":
        a = a.replace(mark, "\\" + mark)
    return a
