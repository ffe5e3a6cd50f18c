"""The same network, data, seed and batches once per method, side by side in a table, a csv, a json and a picture."""

import dataclasses
import json
import math
import platform
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy

from .. import __version__, backend
from . import checkpoint, plots
from .progress import announce, progress_bar
from .settings import METHODS, Settings
from .train import COLUMNS, images_per_epoch, load_data, output_folder, prepare, proceed, sentence

CSV_COLUMNS = ("method", "seed", *COLUMNS)


class Comparison(NamedTuple):
    """A comparison that is ready to run: its input has been looked at, and nothing has been written."""

    methods: tuple
    seeds: tuple
    settings: Settings  # their norm and seed are replaced run by run
    dataset: object
    out: Path | None


def compare(methods=METHODS, seeds=(0,), settings=None, out=None, progress=True):
    """Train every method with every seed and return the results: settings, versions and a summary per method.

    With `out`, that folder holds results.csv (a row for each method, seed and epoch), results.json and curves.png. The
    first two are written anew after every finished run, so that stopping loses one run at most.
    Raises: ValueError for methods, seeds, settings or data that cannot be run, before any work.
    """
    return proceed_all(prepare_all(methods, seeds, settings, out), progress)


def prepare_all(methods=METHODS, seeds=(0,), settings=None, out=None):
    """Load the data and build every method's network once; write nothing. Returns a Comparison, for `proceed_all`."""
    settings = Settings() if settings is None else settings
    for name, values in (("methods", methods), ("seeds", seeds)):
        if isinstance(values, str) or not list(values):
            raise ValueError(f"{name} is {values!r}; expected at least one, as a list")
        repeated = [value for index, value in enumerate(values) if value in values[:index]]
        if repeated:
            raise ValueError(f"{name}: {repeated[0]} is there twice; expected each of them once")
    plans = [dataclasses.replace(settings, norm=m, seed=s) for m in methods for s in seeds]
    out = None if out is None else output_folder(out)
    dataset = load_data(settings)
    for plan in plans[:: len(seeds)]:
        prepare(plan, dataset=dataset)
    return Comparison(tuple(methods), tuple(plan.seed for plan in plans[: len(seeds)]), settings, dataset, out)


def proceed_all(plan, progress=True):
    """Run a Comparison; see `compare`. After Ctrl-C the files hold the runs that are finished."""
    if plan.out is not None:
        plan.out.mkdir(parents=True, exist_ok=True)
    finished = {}
    runs = [dataclasses.replace(plan.settings, norm=method) for method in plan.methods]
    images = len(plan.seeds) * sum(run.epochs * images_per_epoch(run, plan.dataset) for run in runs)
    bar = progress_bar("compare", images, progress=progress)
    try:
        for seed in plan.seeds:  # so that after the first seed every method has been seen once
            for method in plan.methods:
                bar.set_description_str(f"{method}, seed {seed}")
                settings = dataclasses.replace(plan.settings, norm=method, seed=seed)
                finished[method, seed] = proceed(prepare(settings, dataset=plan.dataset), progress, bar)
                _write(plan, finished)
                if progress:
                    announce(f"{method}, seed {seed}: {sentence(finished[method, seed][-1])}")
    finally:
        bar.close()
        if plan.out is not None and finished:
            _write(plan, finished)  # again, because Ctrl-C may have come between the two files
            plots.draw(plan.out / plots.NAME, plan.settings, curves(plan, finished))
    return results(plan, finished)


def _write(plan, finished):
    if plan.out is None:
        return
    order = [(method, seed) for method in plan.methods for seed in plan.seeds if (method, seed) in finished]
    rows = [{"method": m, "seed": s} | row for m, s in order for row in finished[m, s]]
    (plan.out / plots.NAME).unlink(missing_ok=True)  # of an earlier comparison; this one's is drawn at the end
    checkpoint.write_csv(plan.out / "results.csv", CSV_COLUMNS, rows)
    checkpoint.write_text(plan.out / "results.json", to_json(results(plan, finished)) + "\n")


def curves(plan, finished):
    """Test error for each method: {method: (seeds, epochs)}, in the order of the methods."""
    errors = {}
    for method in plan.methods:
        for seed in plan.seeds:
            if (method, seed) in finished:
                errors.setdefault(method, []).append([row["test_error"] for row in finished[method, seed]])
    return {method: np.array(values) for method, values in errors.items()}


def results(plan, finished):
    """What results.json holds: settings, versions, backend, threads, and a summary for each method."""
    fields = plan.settings.to_json()
    del fields["norm"], fields["seed"]
    return {
        "settings": fields,
        "methods": list(plan.methods),
        "seeds": list(plan.seeds),
        "complete": len(finished) == len(plan.methods) * len(plan.seeds),
        "versions": versions(),
        "backend": backend.get_backend(),
        "threads": backend.get_num_threads(),
        "summary": [summary(m, {s: finished[m, s] for s in plan.seeds if (m, s) in finished}) for m in plan.methods],
    }


def versions():
    """Versions of what the figures depend on."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "kalnorm_ref": __version__,
    }


def summary(method, runs):
    """One method over its seeds ({seed: rows}): final test error and training loss, median speed of its epochs."""
    last = [rows[-1] for rows in runs.values()]
    errors = [row["test_error"] for row in last]
    losses = [row["train_loss"] for row in last]
    speeds = [row["images_per_second"] for rows in runs.values() for row in rows]
    return {
        "method": method,
        "seeds": list(runs),
        "test_error": errors,
        "test_error_mean": float(np.mean(errors)) if errors else None,
        "test_error_min": min(errors, default=None),
        "test_error_max": max(errors, default=None),
        "train_loss": losses,
        "train_loss_mean": float(np.mean(losses)) if losses else None,
        "images_per_second": float(np.median(speeds)) if speeds else None,
    }


def to_json(value):
    """JSON text of results; a number that is not finite becomes null, because JSON has no other word for it."""
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(summaries):
    """The summaries as text, a line for each method that has finished a run."""
    head = ("method", "test error %", "range", "train loss", "images/s")
    lines = [
        (
            s["method"],
            f"{s['test_error_mean']:.2f}",
            f"{s['test_error_min']:.2f} .. {s['test_error_max']:.2f}",
            f"{s['train_loss_mean']:.4f}",
            f"{s['images_per_second']:.0f}",
        )
        for s in summaries
        if s["seeds"]
    ]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in (head, rule, *lines)
    )
