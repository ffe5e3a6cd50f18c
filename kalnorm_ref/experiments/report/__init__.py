"""Tables and figures of a sweep: report.md, report.html, summary.csv, pictures; the same bytes from the same tables.

What a report says is put together here, as a list of blocks (blocks.py); text.py and page.py write them.

    read.py     the tables of a sweep, joined    statistics.py  means, intervals, paired differences
    tables.py   the tables of the report         pictures.py    its pictures, with captions
    figures.py  pictures of test errors          panels.py      pictures of many small panels
    draw.py     what all pictures share
"""

import math
import operator
from pathlib import Path
from typing import NamedTuple

from .. import checkpoint
from ..plots import STATISTICS
from ..train import output_folder
from . import page, read, tables
from .blocks import Folded, Heading, Paragraph, Picture
from .pictures import error_picture, other_pictures, seeds, subject
from .statistics import estimate, finite, groups, paired
from .tables import said
from .text import markdown

__all__ = ["Plan", "blocks_of", "head", "prepare", "summary", "write"]

SUMMARY = ("inference", "method", "statistics_batch_size", "against", "runs", "diverged", "n", "mean", "half_width")


class Plan(NamedTuple):
    """A report that can be written: its input has been looked at."""

    sweep: object
    groups: list
    methods: list
    against: tuple
    panels: tuple
    out: Path


def prepare(sources, out, against=None, panels=None):
    """Read the sources and look at what is asked for; write nothing. Returns a Plan, for `write`.

    against: methods to take paired differences to; None is bn where it is there. panels: the inference modes of the
    first figure; None is the first that was evaluated, of running, batch and population.
    Raises: ValueError, one line, for tables that cannot be read, methods or modes that are not in them, a bad folder.
    """
    sweep = read.read(sources)
    methods = list(dict.fromkeys(run.norm for run in sweep.runs))
    modes = [mode for mode in STATISTICS if any(mode in run.errors for run in sweep.runs)]
    if not modes:
        raise ValueError(f"{Path(sources[0]) / 'runs.csv'}: no error in any column test_error_...; expected some")
    for name, values, known in (("against", against, methods), ("panels", panels, modes)):
        for value in values or ():
            if value not in known:
                raise ValueError(
                    f"{name}: {value!r} is not in {', '.join(map(str, sources))}; there are {', '.join(known)}"
                )
    against = tuple(dict.fromkeys(against)) if against else ("bn",) * ("bn" in methods)
    panels = tuple(dict.fromkeys(panels)) if panels else (modes[0],)
    return Plan(sweep, groups(sweep.runs), methods, against, panels, output_folder(out))


def write(plan):
    """Write the report of a Plan; returns the names of the files."""
    blocks = blocks_of(plan)
    plan.out.mkdir(parents=True, exist_ok=True)
    title = f"{subject(plan.sweep.runs)}: a sweep"
    files = {block.name: block.light for block in blocks if isinstance(block, Picture)}
    files |= {"report.md": markdown(title, blocks).encode(), "report.html": page.page(title, blocks).encode()}
    for name, content in files.items():
        checkpoint.write_atomic(plan.out / name, operator.methodcaller("write", content))
    varying = tuple(plan.groups[0].settings)
    checkpoint.write_csv(plan.out / "summary.csv", (*varying, *SUMMARY), summary(plan))
    return [*files, "summary.csv"]


def blocks_of(plan):
    """The parts of the report, in order."""
    sweep, varying = plan.sweep, tuple(plan.groups[0].settings)
    run_with = tables.settings_table(sweep.runs, varying, sweep.made_with)
    blocks = [Paragraph(text) for text in head(plan)]
    blocks.append(Folded("Settings, versions, speed", (run_with, tables.speed_table(sweep.runs, plan.methods))))
    blocks += [error_picture(group, plan.panels, plan.methods) for group in plan.groups if group.modes]
    blocks += [Heading("Test errors"), Paragraph(tables.HOW)]
    blocks += [Paragraph(tables.HOW_AGAINST)] if plan.against else []
    for group in plan.groups:
        for mode in group.modes:
            blocks.append(tables.errors_table(group, mode))
            differences = [tables.difference_table(group, mode, against) for against in plan.against]
            blocks.extend(table for table in differences if table)
    lost = tables.diverged_table(sweep.runs, sweep.epochs, varying)
    blocks += [lost] if lost else []
    pictures = [picture for group in plan.groups for picture in other_pictures(group, sweep, plan.methods)]
    blocks += [Heading("More figures"), *pictures] if pictures else []
    return blocks


def head(plan):
    """What was run, in a few sentences."""
    sweep = plan.sweep
    sizes = sorted({run.size for run in sweep.runs})
    lost = sum(any(map(math.isnan, run.errors.values())) for run in sweep.runs)
    yield (
        f"{len(sweep.runs)} runs, {tables.duration(sweep.runs)}: {len(plan.methods)} methods, statistics batch "
        f"{', '.join(map(str, sizes))}, {seeds(sweep.runs)}. "
        + (f"{lost} diverged; they are named below." if lost else "None diverged.")
    )
    if plan.groups[0].settings:
        yield f"What else varies: {'; '.join(said(group.settings) for group in plan.groups)}. Each has its own tables."
    if sweep.failed:
        yield f"Ended in an error, and in no table: {', '.join(sweep.failed)}."


def summary(plan):
    """The rows of summary.csv: each cell of the tables, and each difference (`against` another method), in full."""
    rows = []
    for group in plan.groups:
        for mode in group.modes:
            for norm in group.methods:
                for size in group.sizes:
                    ours = group.cell(norm, size, mode)
                    for against in ("", *plan.against):
                        theirs = group.cell(against, size, mode)
                        if ours and norm != against and (theirs or not against):
                            found = paired(ours, theirs) if against else estimate(list(finite(ours).values()))
                            place = (mode, norm, size, against, len(ours), len(ours) - len(finite(ours)))
                            rows.append(group.settings | dict(zip(SUMMARY, (*place, *found), strict=True)))
    return rows
