"""What a program wrote beside exported cases (export.py), read and scored."""

import json
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np

from . import bugs, core
from .arrays import stored
from .case import OPS
from .emulation import EVERYTHING
from .export import CASE, FORMATS, MANIFEST, RETURNED
from .names import RETURNED as NAMES
from .record import DTYPES, arrays_of, record, unpacked
from .report import Report
from .runner import POLICIES, ask, diagnosed
from .verdict import CaseResult


class Recorded:
    """A target that has computed already."""

    capabilities = EVERYTHING

    def __init__(self, results, conventions=()):
        self.results, self.conventions = results, conventions

    def set_state(self, state):
        """The results hold the running values that came of it."""

    def get_state(self):
        return {}

    def forward(self, tensors, training):
        return self.results

    def backward(self, dy, **upstream):
        return {}


def judge(folder, min_cases=1, conventions=(), accepted=()):
    """Score the results in the folder of an export.

    conventions: names of those that the program declares. min_cases, accepted: as for verify.
    Returns: Report. A case beside which nothing was written is a SKIP.
    Raises: ValueError for a folder that is no export of these cases, and for an unknown convention.
    """
    check_conventions(conventions)
    results = scored(folder, *exported(folder), conventions)
    return Report(str(folder), results, min_cases, tuple(accepted), tuple(sorted(conventions)))


def scored(folder, form, cases, conventions=(), progress=None):
    """The CaseResults of an export, of which `exported` gives form and cases. progress: as for verify."""
    results = []
    for path, case in progress(cases) if progress else cases:
        try:
            returned = (read_npz if form == "npz" else read_bin)(Path(folder) / path, case)
        except ValueError as error:
            results.append(CaseResult(case, "ERROR", (), str(error)))
            continue
        if returned is None:
            results.append(CaseResult(case, "SKIP", (), "no output"))
            continue
        [(case, want)] = core.questions([case])
        results.append(ask(case, want, lambda _: Recorded(returned, conventions), set()))  # noqa: B023  # called here
    return tuple(diagnosed(results, conventions))


def check_conventions(names):
    """ValueError for a convention that does not exist."""
    known = {*POLICIES, *(change.name for op in OPS for change in bugs.changes(op, convention=True))}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(f"no convention is called {unknown[0]!r}; expected some of {', '.join(sorted(known))}")


def exported(folder):
    """The format of an export, and its (path, case). ValueError unless its inputs are those of this package's cases."""
    path = Path(folder) / MANIFEST
    again = "export them again with kalnorm-ref export"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        form, tier, records = manifest["format"], manifest["tier"], manifest["cases"]
        places = {entry["id"]: (entry["path"], _inputs(entry), entry["params"]) for entry in records}
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no {MANIFEST}; expected the folder of an export") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the manifest of an export; {again}") from error
    if form not in FORMATS:
        raise ValueError(f"{path}: format is {form!r}; expected one of {', '.join(FORMATS)}")
    known = dict(islice(((case.id, case) for case in core.cases(tier) if case.id in places), len(places)))
    for name, (_, inputs, params) in places.items():
        ours = record(known[name], arrays_of(known[name], {})) if name in known else None
        if ours is None or _inputs(ours) != inputs or ours["params"] != params:
            raise ValueError(f"{path}: case {name} is not the one of this version; {again}")
    return form, [(place, known[name]) for name, (place, _, _) in places.items()]


def _inputs(entry):
    return {
        (role, name): tensor["sha256"]
        for role, group in entry["tensors"].items()
        if role != "expected"
        for name, tensor in group.items()
    }


def read_npz(path, case):
    """The results of a case by name; None where there are none. ValueError for what is no such file."""
    path = path.with_name(f"{path.name}.returned.npz")
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            results = {name: found[name] for name in found.files}
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, AttributeError) as error:
        raise ValueError(f"{path.name} is no npz file of numbers") from error
    for name, a in results.items():
        _check_name(name, case, path)
        if case.dtype == "bfloat16" and a.dtype in (np.uint16, np.dtype("V2")):  # V2: as np.savez writes bfloat16
            results[name] = stored(unpacked(a.view(np.uint16), "bfloat16"), "bfloat16")
    return results


def read_bin(folder, case):
    """The same, of the folder of a case."""
    path = folder / RETURNED
    if not (folder / CASE).exists():
        raise ValueError(f"{folder} holds no {CASE}")
    if not path.exists():
        return None
    results = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, a = _tensor(line, folder)
        _check_name(name, case, path)
        if name in results:
            raise ValueError(f"{path.name} names {name} twice")
        results[name] = a
    return results


def _tensor(line, folder):
    """Name and values of a line "tensor NAME TYPE NDIM DIMS... FILE"."""
    words = line.split()
    try:
        word, name, dtype, ndim = words[:4]
        shape, file = [int(n) for n in words[4:-1]], words[-1]
        wrong = word != "tensor" or dtype not in DTYPES or int(ndim) != len(shape) or file != Path(file).name
    except ValueError:
        wrong = True
    if wrong:
        kinds = ", ".join(DTYPES)
        raise ValueError(
            f"{RETURNED} has the line {line!r}; expected tensor NAME TYPE NDIM DIMS... FILE, TYPE of {kinds}"
        )
    if not (folder / file).exists():
        raise ValueError(f"{file} is named in {RETURNED}, but is not there")
    content = (folder / file).read_bytes()
    size = int(np.prod(shape, dtype=int)) * np.dtype(DTYPES[dtype]).itemsize
    if len(content) != size:
        raise ValueError(f"{file} has {len(content)} bytes; expected {size} for {dtype} of shape {tuple(shape)}")
    values = np.frombuffer(content, DTYPES[dtype]).reshape(shape)
    return name, stored(unpacked(values, dtype), dtype)


def _check_name(name, case, path):
    if name not in NAMES[case.op]:
        raise ValueError(f"{path.name} has {name!r}; expected some of {', '.join(NAMES[case.op])}")
