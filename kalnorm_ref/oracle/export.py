"""Cases as files, for a kernel that does not run in Python, and the results that its program wrote beside them.

npz   DIR/manifest.json    {"format": "npz", "tier": "core", "cases": [the record of each case (record.py) and "path"]}
      DIR/PATH.npz         x, gamma, dy, running_mean, before.0, ... ; with expected values: expected.y, ...
      DIR/PATH.returned.npz     what the program writes: y, dx, ...
bin   DIR/manifest.json    the same records
      DIR/cases.txt        the path of each case, a line each
      DIR/PATH/case.txt    lines "id ...", "op bn", "dtype float32", "layout NHWC", "training 1", "before 0",
                           "param eps 1e-05", "tensor NAME TYPE NDIM DIMS... FILE", and "expected NAME ..."
      DIR/PATH/x.bin       the elements of one tensor, little endian, in C order; bfloat16 as 16-bit patterns
      DIR/PATH/returned.txt     what the program writes: lines "tensor NAME TYPE NDIM DIMS... FILE"

In an npz, bfloat16 is its bit patterns as uint16, in what the program writes too. A cumulative average is
"param decay cumulative" in case.txt and null in the manifest. Strided views are exported as their elements.
"""

import json
import re
import shutil
from pathlib import Path

from .core import questions
from .record import arrays_of, record
from .regen import npz

FORMATS = ("npz", "bin")
MANIFEST, LIST, CASE, RETURNED = "manifest.json", "cases.txt", "case.txt", "returned.txt"
READER = Path(__file__).with_name("reader")
IN_NAMES = {"forward": "", "backward": "", "state": "", "before": "before.", "expected": "expected."}


def export(cases, out, form="npz", tier="core", with_expected=False):
    """Write cases of a tier into a folder that is new or empty; returns how many.

    Raises: ValueError for a folder that holds something.
    """
    out, cases = Path(out), list(cases)
    check_empty(out)
    check_paths(cases)
    out.mkdir(parents=True, exist_ok=True)
    records = []
    for case, want in questions(cases):
        arrays = arrays_of(case, want)
        made = record(case, arrays) | {"path": path_of(case.id)}
        records.append(made)
        if not with_expected:
            del arrays["expected"]
        (write_npz if form == "npz" else write_bin)(out / made["path"], made, arrays)
    lines = ",\n".join(json.dumps(made, allow_nan=False) for made in records)
    head = f'"format": "{form}", "tier": "{tier}"'
    (out / MANIFEST).write_text(f'{{{head}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")
    if form == "bin":
        (out / LIST).write_text("".join(f"{made['path']}\n" for made in records), encoding="utf-8")
        for source in sorted(READER.iterdir()):
            shutil.copyfile(source, out / source.name)
    return len(records)


def check_paths(cases):
    """ValueError if two cases would have one path."""
    paths = {path_of(case.id).lower() for case in cases}
    if len(paths) < len(cases):
        raise ValueError("two cases have the same path; their ids must differ in letters or digits")


def check_empty(out):
    """ValueError unless the folder is new or empty."""
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; expected a folder to write into")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; expected a new folder, so that no old output is taken for a new one")


def path_of(name):
    """The id of a case as the name of a file: "bn/two values, eps 1/float32" is bn.two-values-eps-1.float32."""
    return ".".join(re.sub(r"[^A-Za-z0-9_+]+", "-", part).strip("-") for part in name.split("/"))


def write_npz(path, made, arrays):
    """One npz for a case."""
    flat = {IN_NAMES[role] + name: a for role, group in arrays.items() for name, (_, a) in group.items()}
    path.with_name(path.name + ".npz").write_bytes(npz(flat))


def write_bin(path, made, arrays):
    """One folder for a case."""
    path.mkdir()
    lines = [f"{key} {made[key]}" for key in ("id", "op", "dtype", "layout")]
    lines += [f"training {int(made['training'])}", f"before {made['before']}"]
    lines += [f"param {name} {'cumulative' if a is None else a}" for name, a in made["params"].items()]
    for role, group in arrays.items():
        for name, (dtype, a) in group.items():
            word, name = ("expected", name) if role == "expected" else ("tensor", IN_NAMES[role] + name)
            file = f"{'expected.' if role == 'expected' else ''}{name}.bin"
            (path / file).write_bytes(a.tobytes())
            lines.append(" ".join(map(str, [word, name, dtype, a.ndim, *a.shape, file])))
    (path / CASE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
