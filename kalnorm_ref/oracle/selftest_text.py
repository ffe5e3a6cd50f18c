"""A selftest as text, as the tables of docs/kill_matrix.md, and as plain values for JSON."""

import numpy as np

from .. import __version__
from .case import OPS

BEGIN, END = "<!-- tables of kalnorm-ref selftest: begin -->", "<!-- tables of kalnorm-ref selftest: end -->"
FIRST = 3  # killers that are named
SHOWN = 20  # alarms


def text(found):
    """What survived, the false alarms, the margins, and the verdict as the last line."""
    lines = [f"survives: {bug.op} {bug.name}: {bug.text}" for bug in found.survivors]
    alarms = [
        f"false alarm: {honest.op} {honest.name}, {case}: {verdict}"
        for honest in found.alarms
        for case, verdict in honest.alarms
    ]
    lines += alarms[:SHOWN] + [f"and {len(alarms) - SHOWN} more false alarms"] * (len(alarms) > SHOWN)
    lines += [""] * bool(lines) + honest_lines(found) + [""]
    return "\n".join([*lines, *summary(found), verdict(found)])


def honest_lines(found):
    """A line for each honest emulation."""
    width = max(len(f"{honest.op} {honest.name}") for honest in found.honest)
    head = f"{'computed in':<{width}}  cases  error/budget  x in 16 bits  at"
    return [head] + [
        f"{f'{h.op} {h.name}':<{width}}  {h.cases:>5}  {h.ratio:>12.2f}  {h.ratio_16:>12.2f}  {h.where}"
        for h in found.honest
    ]


def summary(found):
    """Lines: both margins, bugs with one killer, how the diagnosis did."""
    lines = []
    killed = [bug for bug in found.bugs if bug.margin]
    if killed:
        least = min(killed, key=lambda bug: bug.margin)
        lines.append(
            f"the bug seen least: {least.op} {least.name}, error over budget at most {least.margin:.3g} in float32"
        )
    alone = [bug for bug in found.bugs if len(bug.killers) == 1]
    lines += [f"killed by one case alone: {bug.op} {bug.name}, by {bug.killers[0]}" for bug in alone]
    tried = [bug for bug in found.bugs if bug.diagnosis]
    named = sum(bug.diagnosis == "named" for bug in tried)
    ambiguous = sum(bug.diagnosis.startswith("ambiguous") for bug in tried)
    lines.append(
        f"diagnosis: {named} of {len(tried)} bugs named, {ambiguous} named beside others, "
        f"{len(tried) - named - ambiguous} not named"
    )
    return lines


def verdict(found):
    """One line: passed, or failed and how."""
    cases = sum(honest.cases for honest in found.honest if honest.name == "exact sums")
    scope = f"{len(found.bugs)} bugs, {cases} cases"
    if found.passed:
        return f"selftest: passed: {scope}; every bug is killed, every honest emulation is right"
    alarms = sum(len(honest.alarms) for honest in found.honest)
    return f"selftest: FAILED: {scope}; {len(found.survivors)} bugs survive, {alarms} false alarms"


def markdown(found):
    """A table an operation, with the markers of docs/kill_matrix.md."""
    lines = []
    for op in OPS:
        rows = [bug for bug in found.bugs if bug.op == op]
        if not rows:
            continue
        lines += [f"## {op}", "", "| bug | what is wrong | killed by | first of them | error/budget | diagnosis |"]
        lines.append("|---|---|---:|---|---:|---|")
        for bug in sorted(rows, key=lambda bug: (len(bug.killers), bug.name)):
            first = "<br>".join(bug.killers[:FIRST])
            about = f"{bug.text} (convention)" if bug.kind == "convention" else bug.text
            cells = bug.name, about.replace("|", "\\|"), len(bug.killers), first, _figure(bug.margin), bug.diagnosis
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines.append("")
    lines += [
        "## Honest emulations",
        "",
        "| computed in | cases | error/budget | x in 16 bits | at |",
        "|---|---:|---:|---:|---|",
    ]
    for h in found.honest:
        lines.append(f"| {h.op}, {h.name} | {h.cases} | {h.ratio:.2f} | {h.ratio_16:.2f} | {h.where} |")
    measured = f"kalnorm-ref {__version__}, NumPy {np.__version__}"
    lines += ["", f"Measured with {measured}:", "", *(f"- {line}" for line in [*summary(found), verdict(found)])]
    return "\n".join([BEGIN, "", *lines, "", END])


def _figure(a):
    return "not finite" if np.isinf(a) else f"{a:.2g}"


def as_dict(found):
    """Plain values; what is not finite as text."""
    return {
        "version": __version__,
        "passed": found.passed,
        "verdict": verdict(found),
        "bugs": [
            {
                **bug._asdict(),
                "margin": _plain(bug.margin),
                "ratios": {name: _plain(a) for name, a in bug.ratios.items()},
                "only_killer": bug.killers[0] if len(bug.killers) == 1 else None,
                "survives": bug.margin == 0,
            }
            for bug in found.bugs
        ],
        "honest": [honest._asdict() for honest in found.honest],
    }


def _plain(a):
    return float(a) if np.isfinite(a) else str(float(a))
