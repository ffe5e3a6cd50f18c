"""What the tests of export and judge share: the command line, and a program that answers exported cases."""

import json

import numpy as np

from kalnorm_ref import cli
from kalnorm_ref.oracle import record
from kalnorm_ref.oracle.arithmetic import Arithmetic, evaluate

FEW = (
    "bn/ordinary/*",
    "bn/five-steps/*",
    "brn/every-regime/*",
    "kn/ordinary/float32",
    "gn/ordinary/*",
    "gkn/ordinary/float32",
)
FLOAT32 = Arithmetic("float32", "tree")
BN = "bn.ordinary.float32"


def run(capsys, *words):
    """Exit code, standard output and standard error."""
    code = cli.main(list(map(str, words)))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def exported(tmp_path, capsys, *words, cases=FEW):
    out = tmp_path / "cases"
    assert run(capsys, "export", "--out", out, "--cases", *cases, *words)[0] == 0
    return out


def manifest(out):
    return json.loads((out / "manifest.json").read_text())


def answered(out, change=None, dtype=None):
    """A program: reads each npz, computes in float32, and writes what it got; `change` is what it gets wrong."""
    for one in manifest(out)["cases"]:
        with np.load(out / f"{one['path']}.npz") as found:
            flat = {name: found[name] for name in found.files}
        places = {"forward": "", "backward": "", "state": "", "before": "before."}
        arrays = {role: {n: flat[start + n] for n in one["tensors"][role]} for role, start in places.items()}
        case, _ = record.restored({**one, "tensors": {**one["tensors"], "expected": {}}}, arrays | {"expected": {}})
        arithmetic = FLOAT32 if case.dtype != "float64" else Arithmetic()
        steps = change.steps if change and case.op in change.ops else {}
        results = evaluate(case, arithmetic, steps)
        for name in ("y", "dx"):
            results[name] = record.packed(record.rounded(results[name], case.dtype), case.dtype)
            if dtype and case.dtype == "bfloat16":
                results[name] = results[name].view(dtype)
        np.savez(out / f"{one['path']}.returned.npz", **results)
