"""The frozen core: made from the catalogue and the reference, written, and compared with what is there.

Inputs are made of draws and of operations that IEEE 754 rounds in one way, so that every machine has the same ones. The
expected values hold sums, which another machine adds in another order: they may differ by as much as an honest float64
implementation may (budget.py), and by no more.
"""

import gzip
import io
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import catalogue
from .budget import budget
from .case import UNITS
from .core import ARRAYS, MANIFEST, sliced, truth
from .record import DTYPES, arrays_of, digest, record, restored, unpacked

FORMAT = 1
SHOWN = 20  # differences; the rest are counted
FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # of a zip file: the same bytes at every time


class Core(NamedTuple):
    """Records of the cases, and all their tensors: one array for each storage type."""

    records: list
    flat: dict


class Comparison(NamedTuple):
    """What became of the tensors of two cores."""

    cases: int
    inputs: int  # equal in every bit
    expected: int
    moved: int  # expected tensors that differ in some bit
    budgets: float  # by at most this many budgets of float64
    ulps: float
    problems: tuple  # texts: what may not differ

    def __str__(self):
        lines = [f"{self.cases} cases: {self.inputs} inputs are equal in every bit"]
        if self.moved:
            lines.append(
                f"{self.moved} of {self.expected} expected tensors differ, by at most {self.budgets:.2g} of the float64"
                f" budget and {self.ulps:.3g} ulp"
            )
        else:
            lines.append(f"{self.expected} expected tensors are equal in every bit")
        more = len(self.problems) - SHOWN
        return "\n".join([*lines, *self.problems[:SHOWN], *[f"and {more} more differences"] * (more > 0)])


def build(cases=None):
    """The Core of the given cases; None for those of the catalogue."""
    records, flat, ends = [], {dtype: [] for dtype in DTYPES}, dict.fromkeys(DTYPES, 0)
    for case in catalogue.cases(tier="core") if cases is None else cases:
        arrays = arrays_of(case, truth(case))
        made = record(case, arrays)
        for role, group in arrays.items():
            for name, (dtype, a) in group.items():
                made["tensors"][role][name]["at"] = ends[dtype]
                ends[dtype] += a.size
                flat[dtype].append(a.ravel())
        records.append(made)
    joined = {dtype: np.concatenate([np.zeros(0, DTYPES[dtype]), *parts]) for dtype, parts in flat.items()}
    return Core(records, joined)


def files(core):
    """{file name: bytes} of a Core; the same bytes wherever values and zlib are the same."""
    lines = ",\n".join(json.dumps(record, allow_nan=False) for record in core.records)
    manifest = f'{{"format": {FORMAT}, "cases": [\n{lines}\n]}}\n'
    return {MANIFEST: gzip.compress(manifest.encode(), mtime=0), ARRAYS: npz(core.flat)}


def npz(arrays):
    """Bytes of a compressed npz, without a date."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, a in arrays.items():
            array = io.BytesIO()
            np.lib.format.write_array(array, a, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", FIRST_DAY)
            archive.writestr(info, array.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return stream.getvalue()


def write(core, folder):
    """Write the files of a Core; returns how many bytes they have."""
    made = files(core)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        (Path(folder) / name).write_bytes(content)
    return sum(map(len, made.values()))


def read(folder):
    """The Core in a folder. ValueError for files that are no core."""
    try:
        manifest = json.loads(gzip.decompress((Path(folder) / MANIFEST).read_bytes()))
        with (Path(folder) / ARRAYS).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            core = Core(manifest["cases"], {dtype: stored[dtype] for dtype in DTYPES})
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} is missing; write it with kalnorm-ref regen") from error
    except (zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{folder} holds no frozen core ({error}); write one with kalnorm-ref regen") from error
    if manifest["format"] != FORMAT:
        raise ValueError(f"{folder} has format {manifest['format']}; expected {FORMAT}")
    return core


# ---- comparison --------------------------------------------------------------------------------------------------


def compare(stored, fresh):
    """The Comparison of the core that is stored with the one that was made afresh."""
    old, new = ({record["id"]: record for record in core.records} for core in (stored, fresh))
    problems = [f"{name}: is not in the frozen core" for name in new.keys() - old.keys()]
    problems += [f"{name}: is in the frozen core, but not in the catalogue" for name in old.keys() - new.keys()]
    counts = {"inputs": 0, "expected": 0, "moved": 0, "budgets": 0.0, "ulps": 0.0}
    for name in (name for name in new if name in old):
        found = _compared(_with_arrays(old[name], stored), _with_arrays(new[name], fresh), counts)
        problems += [f"{name}: {text}" for text in found]
    if not problems and [r["id"] for r in stored.records] != [r["id"] for r in fresh.records]:
        problems.append("the cases are in another order")
    return Comparison(len(new), **counts, problems=tuple(sorted(problems)))


def _with_arrays(record, core):
    """A record with its arrays; digests are those of the arrays, and `broken` names what was recorded otherwise."""
    arrays = sliced(record, core.flat)
    broken = [
        f"{role} {name}"
        for role, group in record["tensors"].items()
        for name, entry in group.items()
        if digest(arrays[role][name]) != entry["sha256"]
    ]
    return record, arrays, broken


def _compared(stored, fresh, counts):
    """Texts of what differs between two records of one case and may not."""
    (old, old_arrays, broken), (new, new_arrays, _) = stored, fresh
    if broken:
        return [f"sha256 of {', '.join(broken)} is not the one in the manifest"]
    texts = [f"{key} differs" for key in old if key not in ("tensors", "conditioning") and old[key] != new.get(key)]
    if not _alike(old["conditioning"], new["conditioning"]):
        texts.append("conditioning differs")
    for role, group in new["tensors"].items():
        before = old["tensors"].get(role, {})
        if before.keys() != group.keys():
            texts.append(f"{role} has {', '.join(group) or 'no tensor'}; the frozen core {', '.join(before) or 'none'}")
        elif role != "expected":
            differing = [name for name in group if _identity(group[name]) != _identity(before[name])]
            counts["inputs"] += len(group) - len(differing)
            texts += [f"{role} {name} differs" for name in differing]
    if not texts:
        case, want = restored(new, new_arrays)
        texts += _moved(case, want, old, old_arrays, counts)
    return texts


def _identity(entry):
    return entry["dtype"], entry["shape"], entry["sha256"]


def _alike(old, new):
    """Whether two blocks of conditioning agree to 3 digits; their means may be added in another order."""
    if old["m"] != new["m"] or (old["kappa"] is None) != (new["kappa"] is None):
        return False
    return new["kappa"] is None or all(
        math.isclose(old["kappa"][k], new["kappa"][k], rel_tol=2e-3) for k in new["kappa"]
    )


def _moved(case, want, old, old_arrays, counts):
    """Texts of expected values that lie too far from those of the frozen core."""
    allowed, texts = None, []
    for name, new in want.items():
        before = unpacked(old_arrays["expected"][name], "float64")
        counts["expected"] += 1
        if np.array_equal(before.view(np.uint64), new.view(np.uint64)) and before.shape == new.shape:
            continue
        counts["moved"] += 1
        if before.shape != new.shape or not np.array_equal(np.isfinite(before), np.isfinite(new)):
            texts.append(f"expected {name} differs in its shape, or in where it is finite")
            continue
        allowed = budget(case._replace(dtype="float64")) if allowed is None else allowed
        with np.errstate(all="ignore"):
            apart = np.where(np.isfinite(new), np.abs(new - before), 0.0)
            ulp = 2 * UNITS["float64"] * 2.0 ** np.floor(np.log2(np.maximum(np.abs(new), 2.0**-1022)))
            budgets = float(np.where(apart == 0, 0.0, apart / allowed[name]).max())
        counts["budgets"] = max(counts["budgets"], budgets)
        counts["ulps"] = max(counts["ulps"], float((apart / ulp).max()))
        if not budgets <= 1:
            texts.append(f"expected {name} differs by {budgets:.3g} of the float64 budget; at most 1 may be")
    return texts
