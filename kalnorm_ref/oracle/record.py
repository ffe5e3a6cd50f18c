"""A case as a record, plain values and arrays in their storage types: what the frozen core and every export hold.

    {"id": ..., "op": ..., "why": ..., "dtype": ..., "layout": ..., "params": {...}, "convention": {...},
     "conditioning": {"m": 12, "kappa": {"min": 1.1, "max": 1.9}}, "training": true, "view": null, "unjudged": [],
     "before": 0, "kills": [], "tensors": {role: {name: {"dtype": ..., "shape": [...], "sha256": ...}}}}

Roles are forward (what forward is given), backward, state, before (x of the training steps that come first, 0, 1, ...)
and expected (float64). kappa = rms(x) / sqrt(var + eps), of the statistics where it is finite. sha256 is that of the
bytes, little endian, in C order. bfloat16 is kept as the upper 16 bits of the float32, unsigned.
"""

import hashlib

import numpy as np

from .arrays import storage
from .case import Case, rounded
from .conditioning import conditioning

ROLES = ("forward", "backward", "state", "before", "expected")
DTYPES = {"float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}  # in files
PLAIN = ("id", "op", "why", "dtype", "layout", "params", "training", "view")


def packed(a, dtype):
    """float64 values as an array of a storage type, little endian; every NaN becomes the same NaN.

    Raises: ValueError for values that the type does not have.
    """
    a = np.asarray(a, np.float64)
    if not np.array_equal(rounded(a, dtype), a, equal_nan=True):
        raise ValueError(f"values are not those of {dtype}; expected them rounded to it")
    a = np.where(np.isnan(a), np.nan, a)
    if dtype == "bfloat16":
        return (a.astype(np.float32).view(np.uint32) >> 16).astype("<u2")
    return a.astype(DTYPES[dtype])


def unpacked(a, dtype):
    """The inverse: float64 values, read-only."""
    a = (a.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else a
    a = a.astype(np.float64)
    a.flags.writeable = False
    return a


def digest(a):
    """sha256 of the bytes of an array as `packed` makes them."""
    return hashlib.sha256(a.tobytes()).hexdigest()


def arrays_of(case, want):
    """{role: {name: (storage type, array)}} of a case and its expected results."""
    groups = dict(zip(ROLES, (case.tensors, case.upstream, case.state, {}, want), strict=True))
    groups["before"] = {str(i): x for i, x in enumerate(case.before)}

    def kept(role, name):
        return "float64" if role == "expected" else storage(case, "x" if role == "before" else name)

    return {
        role: {name: (kept(role, name), packed(a, kept(role, name))) for name, a in group.items()}
        for role, group in groups.items()
    }


def record(case, arrays):
    """The record of a case; `arrays` as arrays_of makes them."""
    plain = {name: getattr(case, name) for name in PLAIN}
    plain["params"] = {name: a if a is None or isinstance(a, int) else float(a) for name, a in case.params.items()}
    return plain | {
        "convention": case.convention,
        "conditioning": summary(case),
        "unjudged": list(case.unjudged),
        "before": len(case.before),
        "kills": list(case.kills),
        "tensors": {
            role: {
                name: {"dtype": dtype, "shape": list(a.shape), "sha256": digest(a)}
                for name, (dtype, a) in group.items()
            }
            for role, group in arrays.items()
        },
    }


def restored(record, arrays):
    """The case and its expected results that a record and its arrays, {role: {name: array}}, say."""
    values = {
        role: {name: unpacked(arrays[role][name], entry["dtype"]) for name, entry in group.items()}
        for role, group in record["tensors"].items()
    }
    case = Case(
        **{name: record[name] for name in PLAIN},
        tensors=values["forward"],
        upstream=values["backward"],
        state=values["state"],
        before=tuple(values["before"].values()),
        unjudged=tuple(record["unjudged"]),
        kills=tuple(record["kills"]),
    )
    return case, values["expected"]


def summary(case):
    """m, and the smallest and the largest kappa of the statistics, to 4 digits; None where none is finite."""
    if case.tensors["x"].size == 0:
        return {"m": 0, "kappa": None}
    found = conditioning(case)
    found = found[np.isfinite(found)]
    kappa = {"min": float(f"{found.min():.4g}"), "max": float(f"{found.max():.4g}")} if found.size else None
    return {"m": case.samples, "kappa": kappa}
