"""The questions: the cases and what must come out. The frozen core is read from `frozen`, never computed.

`frozen/manifest.json.gz` holds the record of each case (record.py), a line each, and `frozen/core.npz` one array for
each storage type with all tensors of that type one after the other; "at" in a tensor's entry is where it starts. Both
are compressed, to stay below 2 MB; `kalnorm-ref export` writes the same records as plain JSON.
"""

import functools
import gzip
import json
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from . import catalogue
from .case import Case
from .record import restored
from .reference import expected

FROZEN = Path(__file__).with_name("frozen")
MANIFEST, ARRAYS = "manifest.json.gz", "core.npz"


def questions(chosen=None):
    """(case, expected results) of the frozen core, or of an iterable of Case; `chosen` may be patterns of ids."""
    chosen = [chosen] if isinstance(chosen, str | Case) else chosen
    chosen = list(cases() if chosen is None else chosen)
    if not all(isinstance(one, Case) for one in chosen):
        chosen = choose(chosen)
    return [_question(case) for case in chosen]


def choose(patterns=None, tier="core"):
    """The cases of a tier whose ids match one of the patterns, None for all.

    Raises: ValueError for a pattern that no case has, and for an unknown tier.
    """
    if patterns is None:
        return list(cases(tier))
    found, used = [], set()
    for case in cases(tier):
        matching = {pattern for pattern in patterns if fnmatchcase(case.id, pattern)}
        used |= matching
        if matching:
            found.append(case)
    for pattern in patterns:
        if pattern not in used:
            raise ValueError(f"no case is called {pattern!r}; kalnorm-ref list shows all")
    return found


def cases(tier="core"):
    """The cases of a tier, one by one, from the frozen core or the catalogue. ValueError for an unknown tier."""
    return (case for case, _ in frozen().values()) if tier == "core" else catalogue.cases(tier=tier)


def _question(case):
    """A case with its expected results: those of the frozen core for a case that comes from there."""
    known = frozen().get(case.id)
    return known if known and known[0] is case else (case, truth(case))


def truth(case):
    """The expected results of a case; none where there is no sample."""
    return expected(case) if case.tensors["x"].size else {}


# ---- the frozen core ---------------------------------------------------------------------------------------------


@functools.cache
def records():
    """The records of the frozen core by id, in order."""
    manifest = json.loads(gzip.decompress((FROZEN / MANIFEST).read_bytes()))
    return {record["id"]: record for record in manifest["cases"]}


@functools.cache
def frozen():
    """(case, expected results) of the frozen core by id, in order; nobody can change their arrays."""
    with np.load(FROZEN / ARRAYS, allow_pickle=False) as stored:
        flat = {dtype: stored[dtype] for dtype in stored.files}
    return {name: restored(record, sliced(record, flat)) for name, record in records().items()}


def sliced(record, flat):
    """The arrays of a record, {role: {name: array}}, out of those of all cases by storage type."""

    def one(entry):
        size = int(np.prod(entry["shape"], dtype=int))
        return flat[entry["dtype"]][entry["at"] : entry["at"] + size].reshape(entry["shape"])

    return {role: {name: one(entry) for name, entry in group.items()} for role, group in record["tensors"].items()}
