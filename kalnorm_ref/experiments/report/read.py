"""The three flat tables of a sweep, read and joined: every cell that cannot be what it should be is named.

An empty cell is a value that was not measured; nan is one of a run that diverged. Settings are kept as the text of
their cells, since a report only has to tell them apart.
"""

import csv
import json
import math
from pathlib import Path
from typing import NamedTuple

from ...layers.statistics import INFERENCE
from .. import record
from ..sweep.tables import SETTINGS

RUNS, EPOCHS, LAYERS, RESULT = "runs.csv", "epochs.csv", "layers.csv", "result.json"
FIELDS = (*SETTINGS, "backend")
NEEDED = ("id", "data", "model", "norm", "statistics_batch_size", "seed", "train_loss")
TIMES = ("images_per_second", "seconds")  # of the same run done twice, these may differ
MACHINE = ("processor", "instruction_set", "threads")
CURVES = ("train_loss", "test_loss", "test_error")


class Run(NamedTuple):
    """A row of runs.csv."""

    id: str
    norm: str
    size: int  # the statistics batch
    seed: int
    settings: dict  # name: text of the cell
    errors: dict  # inference mode: percent, nan where the run diverged; without the modes that were not evaluated
    train_loss: float | None
    images_per_second: float | None
    seconds: float | None


class Sweep(NamedTuple):
    """What one or several sources hold, each run once."""

    runs: tuple
    epochs: tuple  # dicts: id, epoch, and CURVES
    layers: tuple  # dicts: id, and the columns of experiments.record
    made_with: dict  # what the result.json files say: name: the values found
    failed: tuple  # ids of runs that ended in an error, and are in no table


def read(sources):
    """Read the sources, folders with runs.csv and perhaps epochs.csv and layers.csv, and join them into a Sweep.

    Raises: ValueError, one line with the file and the column, for what is missing, no number, or contradicts itself.
    """
    folders = [_folder(source) for source in sources]
    first, columns = {}, None  # first: id: (path, line, row)
    for path in (folder / RUNS for folder in folders):
        found, listed = _table(path, NEEDED)
        columns = listed if columns is None else columns
        for name in sorted(set(columns) ^ set(listed)):
            raise ValueError(f"{path}: column {name} is in some of the sources only; expected the same columns in all")
        for line, row in found:
            _same(first.setdefault(row["id"], (path, line, row)), path, row)
    if not any(f"test_error_{mode}" in columns for mode in INFERENCE):
        raise ValueError(
            f"{folders[0] / RUNS}: no column test_error_running, test_error_batch or test_error_population"
        )
    if not first:
        raise ValueError(f"{folders[0] / RUNS}: no run; expected at least one row under the names of the columns")
    runs = tuple(_run(*found) for found in first.values())
    _no_twins(runs, first)
    known = {run.id for run in runs}
    curves = _joined(folders, EPOCHS, ("id", "epoch", *CURVES), CURVES, known)
    layers = _joined(folders, LAYERS, ("id", *record.COLUMNS), record.COLUMNS[2:], known)
    return Sweep(runs, tuple(curves), tuple(layers), _made_with(folders), _failed(folders, known))


def _folder(source):
    source = Path(source)
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder; expected one with {RUNS}, as a sweep writes it")
    if not (source / RUNS).is_file():
        raise ValueError(f"{source}: no {RUNS} in it; expected the folder of a sweep, or one with its flat tables")
    return source


def _table(path, needed):
    """[(line, row)] and the column names of a csv file."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = tuple(reader.fieldnames or ())
            missing = [name for name in needed if name not in columns]
            if missing:
                raise ValueError(f"{path}: no column {missing[0]}")
            found = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a table of comma-separated values ({error})") from error
    for line, row in found:
        if None in row or None in row.values():
            raise ValueError(f"{path}, line {line}: other than {len(columns)} cells")
    return found, columns


def _same(first, path, row):
    """A run that two sources hold has to be the same run."""
    before, _, kept = first
    for name, value in row.items():
        if name not in TIMES and kept[name] != value:
            raise ValueError(
                f"{path}: run {row['id']} has {name} {value!r}, and {kept[name]!r} in {before}; expected the same run"
            )


def _run(path, line, row):
    def number(name, low=-math.inf, high=math.inf):
        return _number(row, name, path, line, low, high)

    def whole(name, low):
        value = number(name, low)
        if value is None or value != value // 1:
            raise ValueError(f"{path}, line {line}: {name} is {row[name]!r}; expected an integer of at least {low}")
        return int(value)

    errors = {}
    for mode in INFERENCE:
        error, loss = number(f"test_error_{mode}", 0, 100), number(f"test_loss_{mode}")
        if error is not None:  # outputs that are nan still have an argmax, and so an error that means nothing
            lost = not all(math.isfinite(a) for a in (error, loss, number("train_loss")) if a is not None)
            errors[mode] = math.nan if lost else error
    settings = {name: row[name] for name in FIELDS if name in row}
    size, seed = whole("statistics_batch_size", 1), whole("seed", 0)
    numbers = number("train_loss"), number("images_per_second", 0), number("seconds", 0)
    return Run(row["id"], row["norm"], size, seed, settings, errors, *numbers)


def _number(row, name, path, line, low=-math.inf, high=math.inf):
    """The number in a cell; None for an empty one and for a column that the file does not have."""
    text = row.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{path}, line {line}: {name} is {text!r}; expected a number") from None
    if value < low or value > high:
        wanted = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
        raise ValueError(f"{path}, line {line}: {name} is {text}; expected {wanted}")
    return value


def _no_twins(runs, first):
    """No two runs may have the same settings: one would count twice in a mean over seeds."""
    seen = {}
    for run in runs:
        other = seen.setdefault(tuple(run.settings.items()), run)
        if other is not run:
            raise ValueError(
                f"{first[run.id][0]}: runs {other.id} and {run.id} have the same settings; expected a seed once"
            )


def _joined(folders, name, needed, numbers, known):
    """Rows of one table from all folders that have it, those of a run from the first that has some."""
    rows, owner, seen = [], {}, set()
    for place, folder in enumerate(folders):
        path = folder / name
        for line, row in _table(path, needed)[0] if path.exists() else ():
            if row["id"] not in known:
                raise ValueError(f"{path}, line {line}: id {row['id']!r} is not in {RUNS}")
            if owner.setdefault(row["id"], place) == place:
                values = {column: _number(row, column, path, line) for column in ("epoch", *numbers)}
                if values["epoch"] is None or values["epoch"] % 1:
                    raise ValueError(f"{path}, line {line}: epoch is {row['epoch']!r}; expected an integer")
                key = row["id"], values["epoch"], row.get("layer")
                if key in seen:
                    raise ValueError(f"{path}, line {line}: id {row['id']!r} has epoch {row['epoch']} twice")
                seen.add(key)
                rows.append(row | values)
    return rows


def _made_with(folders):
    """{name: values} of versions, processor, instruction set and threads in every result.json below the folders."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob(RESULT)):
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                named = dict(stored.get("versions") or {})
                named |= {name: stored[name] for name in MACHINE if name in stored}
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}: not the result of a run ({error})") from error
            for name, value in named.items():
                found.setdefault(name, set()).add(str(value))
    return {name: sorted(values) for name, values in found.items()}


def _failed(folders, known):
    """What `sweep` has left in failed/, but for runs that another source has finished."""
    names = {path.stem for folder in folders for path in folder.glob("failed/*.json")}
    return tuple(sorted(names - known))
