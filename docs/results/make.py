"""Makes every table and picture of docs/results.md anew from the stored runs: python docs/results/make.py

In the page a line <!-- table: STUDY WHAT ... --> opens a table and <!-- end --> closes it; what stands between is
written here. STUDY is a folder beside this file. WHAT is one of

    running | batch | population [against METHOD]   test errors with that inference, or paired differences of them
    estimators SIZE                                 how wrong the statistics are, at a statistics batch of SIZE images
    learned METHOD SIZE                             gain, noise and transition by normalizer, after training

and with `all` for a STUDY, WHAT is `runs`: how many runs each study has, on what they ran, and how fast.
"""

import csv
import math
import re
from collections import Counter
from pathlib import Path
from statistics import median

from kalnorm_ref.experiments.report import pictures, read, statistics, tables
from kalnorm_ref.experiments.sweep.tables import VERSIONS
from kalnorm_ref.layers.statistics import INFERENCE

HERE = Path(__file__).parent
PAGE = HERE.parent / "results.md"
PICTURES = {"statistics_batch": ("error", "estimators-epoch", "gain", "curves")}  # study: pictures that the page shows
FIRST = "1"  # path of a resnet's first normalizer
PANELS = ("running", "batch")
MARKED = re.compile(r"(<!-- table: ([^\n]*?) -->\n)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)
ERRORS = {
    "mean, batch": "batch_mean_error",
    "mean, used": "used_mean_error",
    "log variance, batch": "batch_log_var_error",
    "log variance, used": "used_log_var_error",
}
LAW = {
    "gain q": "gain_mean",
    "noise rho": "noise_mean",
    "A, mean of the diagonal": "transition_mean",
    "A, norm of the rest": "transition_rest",
}


def made(content):
    """The page with its tables made anew."""
    return MARKED.sub(lambda m: f"{m[1]}\n{_written(*m[2].split())}\n{m[3]}", content)


def _written(study, what, *rest):
    if (study, what) == ("all", "runs"):
        return _runs()
    if what in INFERENCE:
        return _errors(study, what, *rest[1:])
    return {"estimators": _estimators, "learned": _learned}[what](study, *rest)


def _errors(study, mode, against=None):
    """The report's tables, one for each group of runs."""
    parts = []
    for group in statistics.groups(read.read([HERE / study]).runs):
        table = tables.difference_table(group, mode, against) if against else tables.errors_table(group, mode)
        if table is None:
            raise ValueError(f"{study}: no run of {against}; expected some to take differences to")
        counts = Counter(entry.beside for row in table.rows for entry in row[1:])
        del counts[""]
        usual = max(counts, key=counts.get)  # is said once, and in the cells that have another number of seeds
        parts.append(_table(table.title, usual, table.heads, [[_cell(e, usual) for e in row] for row in table.rows]))
    return "\n".join(parts)


def _cell(entry, usual):
    if entry.kind == tables.CODE:
        return f"`{entry.text}`"
    if entry.text == "not run":
        return ""
    shown = f"**{entry.text}**" if entry.kind else entry.text
    return shown if entry.beside in ("", usual) else f"{shown} ({entry.beside})"


def _estimators(study, size):
    """Errors of the estimators after the last epoch, means over normalizers and seeds, beside what came of it.

    The first normalizer is left out, since it has no prior; in some networks it is none of the batch.
    """
    sweep = read.read([HERE / study])
    last = max(row["epoch"] for row in sweep.layers)
    rows, seeds = [], set()
    for norm in dict.fromkeys(run.norm for run in sweep.runs):
        runs = {run.id: run for run in sweep.runs if (run.norm, run.size) == (norm, int(size))}
        layers = [r for r in sweep.layers if r["id"] in runs and r["epoch"] == last and r["layer"] != FIRST]
        if layers:
            seeds.add(len(runs))
            errors = [f"{_mean(row[name] for row in layers):.3g}" for name in ERRORS.values()]
            loss = _mean(r["train_loss"] for r in sweep.epochs if r["id"] in runs and r["epoch"] == last)
            test = _mean(run.errors["running"] for run in runs.values())
            rows.append([f"`{norm}`", *errors, f"{loss:.2f}", f"{test:.2f}"])
    title = f"Error of the statistics after epoch {last:g}, statistics batch of {size}"
    heads = ("method", *ERRORS, "training loss", "test error, running")
    return _table(
        title,
        f"means over the normalizers behind the first and over {' or '.join(map(str, sorted(seeds)))} seeds",
        heads,
        rows,
    )


def _learned(study, norm, size):
    """What training made of the Kalman parameters, by normalizer, means over seeds."""
    runs = {r.id for r in read.read([HERE / study]).runs if (r.norm, r.size) == (norm, int(size))}
    with open(HERE / study / "learned.csv", newline="", encoding="utf-8") as stream:
        found = [row for row in csv.DictReader(stream) if row["id"] in runs and row["gain_mean"]]
    rows = []
    for layer in dict.fromkeys(row["layer"] for row in found):
        of = [[float(row[name]) for row in found if row["layer"] == layer and row[name]] for name in LAW.values()]
        rows.append([f"`{layer}`", *(f"{_mean(values):.3f}" if values else "-" for values in of)])
    title = f"What `{norm}` learned, statistics batch of {size}"
    return _table(title, f"means over {len(runs)} seeds", ("normalizer", *LAW), rows)


def _runs():
    """The studies, with what their runs ran on."""
    rows, every = [], {}
    for path in sorted(HERE.glob("*/runs.csv")):
        with open(path, newline="", encoding="utf-8") as stream:
            runs = {row["id"]: row for row in csv.DictReader(stream)}
        every |= runs
        rows.append([f"`{path.parent.name}`", str(len(runs)), _joined(runs, "seed"), *_speed(runs)])
    rows.append(["all, each run once", str(len(every)), _joined(every, "seed"), *_speed(every)])
    ran_on = "; ".join(f"{name} {_joined(every, name)}" for name in ("processor", "instruction_set", *VERSIONS))
    heads = ("study", "runs", "seeds", "images/s, median", "hours of training, one core")
    return _table("The stored runs", ran_on, heads, rows)


def _joined(runs, name):
    return ", ".join(sorted({row[name] or "none" for row in runs.values()}))


def _speed(runs):
    """Images per second of training, and the hours that training takes at each run's own speed."""
    speeds = [float(row["images_per_second"]) for row in runs.values()]
    images = [int(row["epochs"]) * int(row["train_images"]) for row in runs.values()]
    hours = math.fsum(n / speed for n, speed in zip(images, speeds, strict=True)) / 3600
    return f"{median(speeds):.0f}", f"{hours:.1f}"


def _mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def _table(title, note, heads, rows):
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return f"*{title}; {note}:*\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(study, names):
    """Write the pictures of a study into its folder."""
    sweep = read.read([HERE / study])
    methods = list(dict.fromkeys(run.norm for run in sweep.runs))
    (group,) = statistics.groups(sweep.runs)
    for picture in (pictures.error_picture(group, PANELS, methods), *pictures.other_pictures(group, sweep, methods)):
        if picture.name.removesuffix(".png") in names:
            (HERE / study / picture.name).write_bytes(picture.light)


def main():
    PAGE.write_text(made(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for study, names in PICTURES.items():
        draw(study, names)


if __name__ == "__main__":
    main()
