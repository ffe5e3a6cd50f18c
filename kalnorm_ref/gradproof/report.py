"""A proof as text, as the table of docs/gradproof.md, and as JSON."""

import platform

import numpy as np

from .. import __version__
from ..experiments.compare import to_json
from .proof import BOUNDS, RESULT, Row, failures, worst

HEADINGS = {
    "complex_step": "complex step",
    "central_difference": "central difference",
    "mpmath": "50 digits",
    "loops": "loops",
    "twin": "twin",
}
BEGIN, END = "<!-- table of kalnorm-ref gradproof: begin -->", "<!-- table of kalnorm-ref gradproof: end -->"


def text(proof):
    """The table, the worst figure of every judge, and the verdict as the last line."""
    widths = [max(len(h), 10) for h in HEADINGS.values()]
    title = max(len(_title(row)) for row in proof.rows)
    argument = max(len(row.argument) for row in proof.rows)
    lines = [f"{'pair':<{title}}  {'argument':<{argument}}" + _cells(HEADINGS.values(), widths)]
    for row in proof.rows:
        lines.append(f"{_title(row):<{title}}  {row.argument:<{argument}}" + _cells(_figures(row), widths))
    lines.append(f"{'bound':<{title}}  {'':<{argument}}" + _cells([f"{b:.0e}" for b in BOUNDS.values()], widths))
    return "\n".join([*lines, "", *summary(proof), verdict(proof)])


def _cells(values, widths):
    return "".join(f"  {value:>{width}}" for value, width in zip(values, widths, strict=True))


def _title(row):
    return f"{row.pair}, {row.case}" if row.case else row.pair


def _figures(row):
    """The figures of a row as text: "-" for a judge that does not apply, "!" behind one beyond its bound."""
    for judge, bound in BOUNDS.items():
        figure = row.figures.get(judge)
        text = "-" if figure is None else f"{figure:.1e}" if figure else "0"
        yield text + "!" * (figure is not None and not figure <= bound)


def summary(proof):
    """Lines: the worst figure of each judge, the judges that are absent, the planted mistakes."""
    lines = []
    for judge, heading in HEADINGS.items():
        if judge in proof.absent:
            lines.append(f"{heading}: not measured: {proof.absent[judge]}")
        elif found := worst(proof, judge):
            figure, row = found
            lines.append(f"{heading}: at most {figure:.1e} ({_title(row)}: {row.argument}), bound {BOUNDS[judge]:.0e}")
    least, mistake = min((min(m.figures.values()), m) for m in proof.mistakes)
    seen = sum(all(e > BOUNDS[judge] for judge, e in m.figures.items()) for m in proof.mistakes)
    lines.append(
        f"planted mistakes: {seen} of {len(proof.mistakes)} rejected by every judge; the smallest error of one is "
        f"{least:.1e} ({mistake.pair}: {mistake.name})"
    )
    return lines


def verdict(proof):
    """One line: passed, passed as far as measured, or failed and where."""
    found = failures(proof)
    if found:
        named = "; ".join(f"{_place(item)}, {HEADINGS[judge]} {figure:.1e}" for item, judge, figure in found[:5])
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        return f"gradproof: FAILED, {len(found)} figures: {named}{more}"
    gradients = sum(row.argument != RESULT for row in proof.rows)
    pairs = len({row.pair for row in proof.rows})
    unmeasured = " and ".join(HEADINGS[judge] for judge in proof.absent)
    scope = f"passed as far as measured, without {unmeasured}" if unmeasured else "passed"
    return f"gradproof: {scope}: {gradients} gradients of {pairs} pairs within their bounds"


def _place(item):
    return f"{_title(item)}: {item.argument}" if isinstance(item, Row) else f"{item.pair}: {item.name} not rejected"


def markdown(proof):
    """The table for docs/gradproof.md, with its markers."""
    head = ["pair", "argument", *HEADINGS.values()]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * len(HEADINGS)]
    bounds = ["bound", "", *(f"{bound:.0e}" for bound in BOUNDS.values())]
    lines.append("| " + " | ".join(bounds) + " |")
    for row in proof.rows:
        lines.append("| " + " | ".join([_title(row), row.argument, *_figures(row)]) + " |")
    measured = f"kalnorm-ref {__version__}, NumPy {np.__version__}, {platform.machine()}"
    lines += ["", f"Measured with {measured}:", "", *(f"- {line}" for line in [*summary(proof), verdict(proof)])]
    return "\n".join([BEGIN, "", *lines, "", END])


def as_json(proof):
    """JSON text: what is absent was not measured, null is not finite."""
    failed = failures(proof)

    def entry(item):
        fields = item._asdict()
        return {**fields, **fields.pop("figures")} | {"failed": [judge for other, judge, _ in failed if other is item]}

    return to_json(
        {
            "version": __version__,
            "passed": not failed,
            "verdict": verdict(proof),
            "bounds": BOUNDS,
            "absent": proof.absent,
            "rows": [entry(row) for row in proof.rows],
            "mistakes": [entry(mistake) for mistake in proof.mistakes],
        }
    )
