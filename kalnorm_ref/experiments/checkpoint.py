"""Files that are either whole or not there, whatever moment a run is killed at, and checkpoints made of them.

A checkpoint is an npz without pickle: `record`, a JSON text, and the arrays of the network (net/...) and of the
optimizer (optimizer/...).
"""

import csv
import io
import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

NAME = "checkpoint.npz"
PARTS = ("net", "optimizer")


def write_atomic(path, write):
    """Call write(stream) on PATH.part in the same folder, which takes the name `path` only when it is whole."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path, text):
    """Write a text file atomically."""
    write_atomic(path, lambda stream: stream.write(text.encode()))


def write_csv(path, columns, rows):
    """Write rows (dicts) atomically as csv, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="raise")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def save(path, record, **states):
    """Write a checkpoint: `record`, which json can write, and the state dicts net= and optimizer=."""
    arrays = {f"{part}/{name}": value for part in PARTS for name, value in states[part].items()}
    write_atomic(path, lambda stream: np.savez(stream, record=np.array(json.dumps(record)), **arrays))


def load(path):
    """Read a checkpoint: (record, {"net": state dict, "optimizer": state dict}).

    Raises: ValueError for a file that is truncated or is no checkpoint.
    """
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            record = json.loads(str(stored["record"]))
            arrays = {name: stored[name] for name in stored.files if name != "record"}
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError, AttributeError, TypeError) as error:
        reason = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        reason = "it is not an npz file of arrays" if "pickle" in reason else reason
        raise ValueError(f"{path}: truncated, damaged or no checkpoint ({reason})") from error
    states = {part: {} for part in PARTS}
    for name, value in arrays.items():
        part, _, key = name.partition("/")
        if part not in states:
            raise ValueError(f"{path}: truncated, damaged or no checkpoint (holds {name})")
        states[part][key] = value
    return record, states
