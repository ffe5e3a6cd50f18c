"""Flat tables as a sweep writes them, with made-up figures: errors fall with the statistics batch, methods differ."""

import csv
import math

import numpy as np

from kalnorm_ref.experiments import record, settings
from kalnorm_ref.experiments.sweep import tables

METHODS = (
    *("bn", "brn", "kn-shrink", "kn-learned", "kn-analytic"),
    *("kn-analytic:push=released,gain=0.1", "kn-released", "kn-filter", "gn", "none"),
)
SIZES, SEEDS, MODES = (1, 2, 4, 8, 16, 32), (0, 1, 2), ("running", "batch", "population")
WITH_PRIOR = ("gain", "variance_ratio", "prior_mean_error", "prior_log_var_error")
LAYERS = ("0.norm", "1.main.1", "1.main.4", "2.main.1", "2.main.4", "3.main.1", "3.main.4")


def run(norm, size, seed, **other):
    """A row of runs.csv; values not given are made up, of method, size and seed alone."""
    batched = norm not in ("gn", "none")
    rng = np.random.default_rng([sum(map(ord, norm)), size if batched else 0, seed])
    chosen = settings.make(norm=norm, statistics_batch_size=size, seed=seed, epochs=6).to_json()
    row = {name: "" if value is None else value for name, value in chosen.items() if name != "data_dir"}
    level = 3 + 0.7 * (METHODS.index(norm) if norm in METHODS else 3)
    if batched:
        level += (40 if norm in ("bn", "brn") else 8) / size
    wobble = rng.normal(0, 0.15 * level / 3)
    row |= {"id": f"{norm}.{size}.{seed}".replace(":", "-"), "backend": "cython", "train_loss": 0.2 * level}
    for mode, factor in zip(MODES, (1.0, 1.15, 0.95), strict=True):
        error = (factor if batched else 1.0) * (level + wobble)
        row |= {f"test_error_{mode}": round(max(error, 0.2) * 5) / 5, f"test_loss_{mode}": 0.1 * level}
    row |= {"images_per_second": 900 + 10 * size + seed, "seconds": 40.0 + seed}
    return row | other


def sweep(methods=METHODS, sizes=SIZES, seeds=SEEDS, **other):
    """Rows of runs.csv, crossed."""
    return [run(norm, size, seed, **other) for norm in methods for size in sizes for seed in seeds]


def epochs(rows, diverged=()):
    """Rows of epochs.csv for rows of runs.csv; a run of `diverged` (ids) does so at epoch 3."""
    found = []
    for row in rows:
        for epoch in range(1, int(row["epochs"]) + 1):
            lost = row["id"] in diverged and epoch >= 3
            error = 90.0 if lost else min(90.0, row["test_error_running"] * (1 + 3 * 0.5**epoch))
            losses = (math.nan, math.nan) if lost else (1 / epoch, 2 / epoch)
            values = (row["id"], epoch, *losses, error, 900.0)
            found.append(dict(zip(tables.EPOCHS, values, strict=True)))
    return found


def diverge(row):
    """A row of runs.csv as a run that diverged leaves it: an error that means nothing, and no loss."""
    lost = {name: math.nan for name in row if "loss" in name}
    return row | lost | {f"test_error_{mode}": 90.2 for mode in MODES}


def layers(rows, recorded=(6,)):
    """Rows of layers.csv, for methods with batch normalizers; priors and gains for kn, but in the first layer."""
    found = []
    for row in rows:
        if row["norm"] not in ("gn", "none"):
            rng = np.random.default_rng([sum(map(ord, row["norm"])), row["statistics_batch_size"], row["seed"], 7])
            for epoch in recorded:
                for depth, layer in enumerate(LAYERS):
                    values = rng.uniform(0.8, 1.2, 8) / (row["statistics_batch_size"] * epoch)
                    cells = dict(zip(record.COLUMNS[2:], values * [0, 0, 9, 9, 3 + depth, 5, 2, 3], strict=True))
                    cells |= {"gain": values[0] * epoch * 0.9**depth, "variance_ratio": 1 + values[1]}
                    if depth == 0 or not row["norm"].startswith("kn"):
                        cells |= dict.fromkeys(WITH_PRIOR, "")
                    found.append({"id": row["id"], "epoch": epoch, "layer": layer, **cells})
    return found


def write(folder, rows, curves=None, recorded=None):
    """Write the tables into a folder; those that are None are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for (name, columns), content in zip(tables.TABLES.items(), (rows, curves, recorded, None), strict=True):
        if content is not None:
            with (folder / name).open("w", newline="") as stream:
                writer = csv.DictWriter(stream, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(content)
    return folder
