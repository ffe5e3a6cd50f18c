"""The tables of a report, as data: what they say stands here, how it is written in text.py and page.py."""

import math
from statistics import median
from typing import NamedTuple

from ...layers.statistics import INFERENCE
from ..plots import STATISTICS
from .statistics import WITHIN, best, estimate, finite, ordered, paired

CODE = "code"  # a cell that is a name out of a program


HOW = (
    "Across: images that share one mean and variance. A cell: mean ± half of its 95 % interval by Student's t, over n "
    "seeds; one seed has no interval, and equal values tell no spread. Runs that diverged are counted, and the mean is "
    "that of the others. Bold: the lowest of a column, where the interval of its paired difference to the next lowest "
    "excludes 0; a method of which a run diverged there is left out of that."
)
HOW_AGAINST = (
    "Differences are between runs of the same seed, n pairs; below 0 is better than the method they are to; bold where "
    "the interval excludes 0; - where no seed finished in both. Intervals are not corrected for the number of "
    "comparisons."
)


class Entry(NamedTuple):
    """A cell: its text; whether it stands out ("bold"), or is a name (CODE); what has to be said beside it."""

    text: str
    kind: str = ""
    beside: str = ""


class Table(NamedTuple):
    """A title, the heads of the columns, rows of Entry, and a note on how to read it."""

    title: str
    heads: tuple
    rows: tuple
    note: str = ""


def said(settings):
    """Settings in words: "depth 8, gradient batch size 32"."""
    return ", ".join(f"{name.replace('_', ' ')} {text or 'none'}" for name, text in settings.items())


def titled(text, group):
    """A title with what sets the group apart from others."""
    return f"{text}; {said(group.settings)}" if group.settings else text


def number(value):
    """Two decimals; a rounded zero has no sign."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def signed(value):
    """Two decimals with a sign; a rounded zero has none."""
    return "0.00" if number(value) == "0.00" else f"{value:+.2f}"


def written(found, kind="", write=number, lost=""):
    """An Estimate as an Entry: mean and half of the interval; beside it the number of seeds, and who is missing."""
    text = f"{write(found.mean)} ± {found.half:.2f}" if found.half else write(found.mean)
    about = {None: ", no interval", 0.0: ", all equal"}.get(found.half, "")
    return Entry(text, kind, f"n = {found.n}{about}{lost and '; '}{lost}")


def error_entry(errors, kind=""):
    """{seed: error} as an Entry, with the seeds that diverged."""
    if not errors:
        return Entry("not run")
    left = finite(errors)
    lost = f"{len(errors) - len(left)} of {len(errors)} diverged" if len(left) < len(errors) else ""
    return written(estimate(list(left.values())), kind, lost=lost) if left else Entry(lost)


def sizes_heads(group):
    return ("method", *(f"{size} image{'s' * (size > 1)}" for size in group.sizes))


def errors_table(group, mode):
    """Test errors of a group in an inference mode: methods down, statistics batches across."""
    cells = {size: {norm: group.cell(norm, size, mode) for norm in group.methods} for size in group.sizes}
    winners = {size: best(cells[size]) for size in group.sizes}
    rows = tuple(
        (
            Entry(norm, CODE),
            *(error_entry(cells[size][norm], "bold" * (winners[size] == norm)) for size in group.sizes),
        )
        for norm in group.methods
    )
    title = titled(f"Test error in percent, {STATISTICS[mode]} at inference", group)
    return Table(title, sizes_heads(group), rows)


def difference_table(group, mode, against):
    """Differences to one method, seed by seed; None where that method has no run in the group and mode."""
    if not any(group.cell(against, size, mode) for size in group.sizes):
        return None
    rows = []
    for norm in group.methods:
        if norm != against:
            found = [paired(group.cell(norm, s, mode), group.cell(against, s, mode)) for s in group.sizes]
            entries = (written(d, "bold" * d.excludes_zero(), signed) if d.n else Entry("-") for d in found)
            rows.append((Entry(norm, CODE), *entries))
    title = titled(f"Test error minus that of {against}, in percent points, {STATISTICS[mode]} at inference", group)
    return Table(title, sizes_heads(group), tuple(rows))


def diverged_table(runs, epochs, varying):
    """The runs that diverged, each by name; None where there is none."""
    lost = {}
    for row in epochs:  # in the order of the file, which is that of time
        values = [row["train_loss"], row["test_loss"], row["test_error"]]
        if not all(math.isfinite(value) for value in values if value is not None):
            lost.setdefault(row["id"], min(int(row["epoch"]), lost.get(row["id"], math.inf)))
    rows = []
    for run in sorted(runs, key=lambda run: (run.norm, run.size, run.seed, run.id)):
        modes = [mode for mode in INFERENCE if math.isnan(run.errors.get(mode, 0))]
        if modes:
            names = (run.id, run.norm)
            cells = (str(run.size), str(run.seed), *(run.settings[name] or "none" for name in varying))
            found = (", ".join(modes), f"{lost[run.id]}" if run.id in lost else "-")
            rows.append((*(Entry(name, CODE) for name in names), *map(Entry, (*cells, *found))))
    if not rows:
        return None
    heads = ("run", "method", "statistics batch", "seed", *(name.replace("_", " ") for name in varying))
    note = "A run diverged when its training loss, or its test loss or error in that mode, is not a finite number."
    return Table("Runs that diverged", (*heads, "inference", "first epoch"), tuple(rows), note)


def duration(runs):
    """The time of runs in words, all together."""
    seconds = math.fsum(run.seconds for run in runs if math.isfinite(run.seconds or math.nan))
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def speed_table(runs, methods):
    """Median images per second in training, and time, of each method."""
    rows = []
    for norm in methods:
        of = [run for run in runs if run.norm == norm]
        speeds = [run.images_per_second for run in of if math.isfinite(run.images_per_second or math.nan)]
        middle = f"{median(speeds):.0f}" if speeds else "-"
        rows.append((Entry(norm, CODE), Entry(str(len(of))), Entry(middle), Entry(duration(of))))
    heads = ("method", "runs", "images/s, median", "time")
    return Table(
        "Speed", heads, tuple(rows), "Images per second of training, and time in all, over the runs of a method."
    )


def settings_table(runs, varying, made_with):
    """The settings that all runs share, and what they were made with."""
    rows = []
    for name, text in runs[0].settings.items():
        if name in varying or name in WITHIN:
            continue
        rows.append((Entry(name, CODE), Entry(text or "none")))
    for name in varying:
        texts = sorted({run.settings[name] for run in runs}, key=ordered)
        rows.append((Entry(name, CODE), Entry("varies: " + ", ".join(text or "none" for text in texts))))
    rows += [(Entry(name, CODE), Entry(" and ".join(values))) for name, values in made_with.items()]
    return Table("Settings", ("setting", "value"), tuple(rows), "")
