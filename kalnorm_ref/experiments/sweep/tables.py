"""The four flat tables of a sweep, written anew while it runs: its finished runs, in the order of the grid.

    runs.csv     id, every field of settings.Settings but data_dir, backend, then of the last epoch train_loss;
                 test_error_M and test_loss_M for the inference modes M running, batch and population; images_per_second
                 (of training, median over the epochs) and seconds (of the whole run); what it ran on: processor,
                 instruction_set, and the versions of python, numpy, scipy and kalnorm_ref
    epochs.csv   id, epoch, train_loss, test_loss, test_error, images_per_second: a row for each epoch, evaluated as the
                 run's own setting of inference says
    layers.csv   id, epoch, layer and the rest of record.COLUMNS: a row for each recorded epoch and batch normalizer
    learned.csv  id, layer, and what each Kalman normalizer has come to (worker.learned) in columns such as gain_mean

Errors are in percent. Numbers are written so that reading gives them back bit by bit; nan is one that was not finite (a
run that diverged), an empty cell one that does not exist: a setting that is none, the prior of a layer without one. A
brn_ramp is three numbers with spaces. A method without batch normalizers has the same figures in every mode.
"""

import csv
import io
import math

from ...layers.statistics import INFERENCE
from .. import checkpoint, record
from .grid import FIELDS

SETTINGS = tuple(name for name in FIELDS if name != "data_dir")
EVALUATED = ("test_error", "test_loss")
VERSIONS = ("python", "numpy", "scipy", "kalnorm_ref")
RUNS = (
    *("id", *SETTINGS, "backend", "train_loss"),
    *(f"{what}_{mode}" for what in EVALUATED for mode in INFERENCE),
    *("images_per_second", "seconds"),
    *("processor", "instruction_set", *VERSIONS),
)
EPOCHS = ("id", "epoch", "train_loss", "test_loss", "test_error", "images_per_second")
LAYERS = ("id", *record.COLUMNS)
PARTS = {"gain": ("mean", "spread"), "noise": ("mean", "spread"), "transition": ("mean", "spread", "rest")}
LEARNED = ("id", "layer", *(f"{name}_{part}" for name, parts in PARTS.items() for part in parts))
TABLES = {"runs.csv": RUNS, "epochs.csv": EPOCHS, "layers.csv": LAYERS, "learned.csv": LEARNED}


def lines(run, result):
    """The lines of one run in each table, {name of the file: text}."""
    return {
        "runs.csv": _text([_row(run, result)], RUNS),
        "epochs.csv": _text([{"id": run} | row for row in result["epochs"]], EPOCHS),
        "layers.csv": _text([{"id": run} | row for row in result["layers"]], LAYERS),
        "learned.csv": _text([{"id": run, "layer": row["layer"]} | _parts(row) for row in result["learned"]], LEARNED),
    }


def _parts(row):
    """What a layer learned, {column: number}, but for what it does not have."""
    return {f"{name}_{part}": value for name in PARTS if row[name] for part, value in row[name].items()}


def _row(run, result):
    row = {"id": run, **result["settings"], "backend": result["backend"]}
    if row["brn_ramp"] is not None:
        row["brn_ramp"] = " ".join(map(str, row["brn_ramp"]))
    row |= {name: "" for name in SETTINGS if row[name] is None}
    row |= {"train_loss": result["epochs"][-1]["train_loss"]}
    row |= {f"{what}_{entry['inference']}": entry[what] for entry in result["evaluations"] for what in EVALUATED}
    row |= {name: result[name] for name in ("images_per_second", "seconds", "processor")}
    return row | {"instruction_set": result["instruction_set"] or ""} | {n: result["versions"][n] for n in VERSIONS}


def _text(rows, columns):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([_cell(row.get(name, "")) for name in columns])
    return text.getvalue()


def _cell(value):
    return math.nan if value is None else value


def write(out, parts):
    """Write the tables atomically; parts: what `lines` returned for each run, in the order of the rows."""
    for name, columns in TABLES.items():
        text = ",".join(columns) + "\n" + "".join(part[name] for part in parts)
        checkpoint.write_text(out / name, text)
