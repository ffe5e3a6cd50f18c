"""Holds `judge` to its promise: a program that knows the files alone is scored like any other target."""

import json
import shutil
import subprocess
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from oracle_files import BN, FEW, answered, exported, manifest, run

from kalnorm_ref.oracle import bugs, core, export, judge

COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler (cc or gcc)")


# ---- there and back in npz ---------------------------------------------------------------------------------------


def test_a_right_program_passes(tmp_path, capsys):
    out = exported(tmp_path, capsys)
    answered(out)
    code, text, err = run(capsys, "judge", out, "--quiet")
    assert (code, err) == (0, "")
    assert f"0 of {len(core.choose(FEW))} cases fail" in text


@pytest.mark.parametrize("dtype", ["<u2", "V2"])
def test_bfloat16_comes_back_as_bits(tmp_path, capsys, dtype):
    out = exported(tmp_path, capsys, cases=["*/ordinary/bfloat16"])
    answered(out, dtype=dtype)
    report = judge.judge(out)
    assert report.exit_code == 0
    assert all(t.verdict in ("EXACT", "PASS") for r in report.results for t in r.tensors if t.name in ("y", "dx"))
    path = out / "bn.ordinary.bfloat16.returned.npz"
    with np.load(path) as found:
        results = {name: found[name] for name in found.files}
    results["y"] = results["y"].view("<u2") ^ np.uint16(1 << 7)
    np.savez(path, **results)
    assert {t.verdict for r in judge.judge(out).failures for t in r.tensors} - {"PASS", "EXACT"} == {"FAIL"}


@pytest.mark.parametrize("name", ["dx-lacks-projection", "eps-outside-root"])
def test_a_mistake_is_named(tmp_path, capsys, name):
    out = exported(tmp_path, capsys)
    answered(out, bugs.find(name))
    code, text, err = run(capsys, "judge", out)
    assert code == 1
    assert f":{name}" in text
    assert "cases fail" in err


def test_a_declared_convention_passes(tmp_path, capsys):
    out = exported(tmp_path, capsys, cases=["bn/ordinary/*"])
    answered(out, bugs.find("running-var-unbiased"))
    code, text, _ = run(capsys, "judge", out)
    assert (code, "CONVENTION:running-var-unbiased" in text) == (1, True)
    assert run(capsys, "judge", out, "--conventions", "running-var-unbiased")[0] == 0
    code, _, err = run(capsys, "judge", out, "--conventions", "mine")
    assert (code, "no convention is called 'mine'; expected some of " in err) == (2, True)


def test_without_output_a_case_is_skipped(tmp_path, capsys):
    out = exported(tmp_path, capsys)
    code, text, _ = run(capsys, "judge", out)
    assert (code, "no output" in text) == (3, True)
    answered(out)
    paths = sorted(out.glob("*.returned.npz"))
    for path in paths[2:]:
        path.unlink()
    assert run(capsys, "judge", out, "--min-cases", 2)[0] == 0
    assert run(capsys, "judge", out, "--min-cases", 3)[0] == 3
    counts = judge.judge(out).counts()
    assert counts["SKIP"] == len(core.choose(FEW)) - 2


def test_the_extended_tier_goes_there_and_back(tmp_path):
    cases = list(islice(core.cases("extended"), 3))
    assert export.export(cases, tmp_path / "cases", "npz", "extended") == 3
    answered(tmp_path / "cases")
    report = judge.judge(tmp_path / "cases", 3)
    assert (report.exit_code, [r.case.id for r in report.judged]) == (0, [case.id for case in cases])


def test_what_is_not_written_is_not_covered(tmp_path, capsys):
    out = exported(tmp_path, capsys, cases=["bn/ordinary/float32"])
    _, want = core.questions("bn/ordinary/float32")[0]
    np.savez(out / f"{BN}.returned.npz", y=want["y"].astype("f4"))
    [result] = judge.judge(out).results
    assert (result.verdict, set(result.missing)) == ("EXACT", set(want) - {"y"})


def test_every_format(tmp_path, capsys):
    out = exported(tmp_path, capsys)
    answered(out, bugs.find("dx-lacks-projection"))
    assert run(capsys, "judge", out, "--out", tmp_path / "r.xml")[0] == 1
    suite = ElementTree.parse(tmp_path / "r.xml").getroot()
    assert int(suite.get("failures")) > 0
    code, text, _ = run(capsys, "judge", out, "--format", "json")
    assert (code, json.loads(text)["exit_code"]) == (1, 1)
    assert run(capsys, "judge", out, "--format", "md")[1].startswith("#")
    assert "<html" in run(capsys, "judge", out, "--format", "html")[1]
    code, _, err = run(capsys, "judge", out, "--out", tmp_path / "no" / "r.xml")
    assert (code, "expected a file in a folder that exists" in err) == (2, True)


# ---- what cannot be judged ---------------------------------------------------------------------------------------


def broken(text):
    return lambda out: (out / "manifest.json").write_text(text)


def edited(change):
    def edit(out):
        whole = manifest(out)
        change(whole)
        (out / "manifest.json").write_text(json.dumps(whole))

    return edit


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda out: (out / "manifest.json").unlink(), "holds no manifest.json; expected the folder of an export"),
        (broken("{"), "is not the manifest of an export; export them again"),
        (broken("[]"), "is not the manifest of an export; export them again"),
        (edited(lambda whole: whole.update(format="zip")), "format is 'zip'; expected one of npz, bin"),
        (edited(lambda whole: whole.update(tier="far")), "tier is 'far'; expected one of core, extended"),
        (
            edited(lambda whole: whole["cases"][0].update(id="bn/mine/float32")),
            "case bn/mine/float32 is not the one of",
        ),
        (edited(lambda whole: whole["cases"][0]["params"].update(eps=1.0)), "is not the one of this version"),
        (
            edited(lambda whole: whole["cases"][0]["tensors"]["forward"]["x"].update(sha256="0")),
            "is not the one of this version; export them again with kalnorm-ref export",
        ),
    ],
)
def test_a_folder_that_is_no_export_is_one_line(tmp_path, capsys, spoil, message):
    out = exported(tmp_path, capsys, cases=["bn/ordinary/*"])
    spoil(out)
    code, text, err = run(capsys, "judge", out)
    assert (code, text, err.count("\n")) == (2, "", 1)
    assert message in err


Y = "tensor y float32 4 {} y.bin"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["tensor y float32 four y.bin"],
            "returned.txt has the line 'tensor y float32 four y.bin'; expected tensor NAME",
        ),
        (["tensor y int32 1 2 y.bin"], "expected tensor NAME TYPE NDIM DIMS... FILE, TYPE of float64, float32"),
        (["tensor y float32 1 2 3 y.bin"], "expected tensor NAME TYPE NDIM DIMS... FILE"),
        (["tensor y float32 1 2 ../y.bin"], "expected tensor NAME TYPE NDIM DIMS... FILE"),
        (["y float32"], "expected tensor NAME TYPE NDIM DIMS... FILE"),
        (["tensor y float32 1 2 other.bin"], "other.bin is named in returned.txt, but is not there"),
        (["tensor y float32 1 2 y.bin"], "bytes; expected 8 for float32 of shape (2,)"),
        ([Y, Y], "returned.txt names y twice"),
        ([Y.replace("y ", "dgama ")], "returned.txt has 'dgama'; expected some of y, mean"),
    ],
)
def test_a_wrong_output_is_an_error_of_its_case(tmp_path, capsys, lines, message):
    out = exported(tmp_path, capsys, "--format", "bin", cases=["bn/ordinary/float32", "bn/ordinary/float64"])
    _, want = core.questions("bn/ordinary/float32")[0]
    want["y"].astype("<f4").tofile(out / BN / "y.bin")
    dims = " ".join(map(str, want["y"].shape))
    (out / BN / "returned.txt").write_text("".join(line.format(dims) + "\n" for line in lines))
    report = judge.judge(out)
    assert report.counts() == {"ERROR": 1, "SKIP": 1}
    assert message in report.failures[0].note


def test_an_npz_that_is_none_is_an_error_of_its_case(tmp_path, capsys):
    out = exported(tmp_path, capsys, cases=["bn/ordinary/float32"])
    path = out / f"{BN}.returned.npz"
    path.write_bytes(b"nothing")
    assert judge.judge(out).failures[0].note == f"{path.name} is no npz file of numbers"
    np.savez(path, y=np.array([{}], object))
    assert judge.judge(out).failures[0].note == f"{path.name} is no npz file of numbers"
    np.savez(path, y=np.zeros((2, 2), "i4"))
    assert "has type int32" in judge.judge(out).failures[0].note


# ---- there and back in C -----------------------------------------------------------------------------------------


def compiled(out, *flags):
    command = [COMPILER, "-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", *flags]
    subprocess.run([*command, out / "example_bn.c", "-o", out / "example_bn", "-lm"], check=True)
    return subprocess.run([out / "example_bn", out], check=True, capture_output=True, text=True).stdout


@needs_compiler
@pytest.mark.parametrize("real", ["double", "float"])
def test_the_example_in_c_is_right(tmp_path, capsys, real):
    out = exported(tmp_path, capsys, "--format", "bin", cases=["bn/*", "gn/ordinary/*"])
    printed = compiled(out, "-Werror", f"-DREAL={real}")
    report = judge.judge(out)
    assert report.failures == []
    assert len(report.judged) > 50
    assert printed.startswith(f"{len(report.judged)} cases answered; ")
    assert {r.case.id for r in report.judged} >= {
        *("bn/cumulative-sixth/float32", "bn/five-steps/float32", "bn/layout-NCHW/float32", "bn/no-gamma/float32"),
        *("bn/inference/float32", "bn/nan/float32", "bn/offset-100000/float32"),
    }
    covered = {t.name for r in report.judged for t in r.tensors}
    assert covered == {"y", "dx", "dgamma", "dbeta", "running_mean", "running_var"}


@needs_compiler
def test_a_mistake_in_c_is_named(tmp_path, capsys):
    out = exported(tmp_path, capsys, "--format", "bin", cases=["bn/*/float32"])
    compiled(out, "-DPROJECTION=0")
    report = judge.judge(out)
    assert len(report.failures) > 30
    assert {r.verdict for r in report.failures} == {"BUG?:dx-lacks-projection"}
    compiled(out)  # the first result that a second run writes replaces those of the first
    assert judge.judge(out).failures == []


READ = """
#include "kalnorm_cases.h"
int main(int argc, char **argv) {
    kalnorm_case c;
    for (int i = 1; i < argc; i++) {
        int right = kalnorm_open(&c, argv[i]);
        double *x = right ? kalnorm_doubles(&c, "x") : NULL;
        if (right) {
            printf("%s|%d|%g|%g|%d|%d", c.id, c.training, kalnorm_param(&c, "eps", -1), kalnorm_param(&c, "groups", -1),
                   kalnorm_tensor(&c, "nothing") == NULL, isnan(kalnorm_param(&c, "decay", -1)));
            for (size_t k = 0; k < kalnorm_tensor(&c, "x")->count; k++) printf(" %.17g", x[k]);
            printf("\\n");
        }
        free(x);
        kalnorm_close(&c);
        if (!right) return 1;
    }
    return 0;
}
"""


@needs_compiler
def test_the_reader_knows_every_type(tmp_path, capsys):
    cases = ["bn/ordinary/*", "bn/subnormal-half/float16", "bn/nan/float32", "bn/cumulative-first/float32"]
    out = exported(tmp_path, capsys, "--format", "bin", cases=cases)
    (out / "read.c").write_text(READ)
    command = [COMPILER, "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    built = subprocess.run([*command, out / "read.c", "-o", out / "read", "-lm"], capture_output=True)
    if built.returncode:  # a compiler without sanitizers
        subprocess.run([*command[:-1], out / "read.c", "-o", out / "read", "-lm"], check=True)
    paths = [out / path for path in (out / "cases.txt").read_text().splitlines()]
    done = subprocess.run([out / "read", *paths], check=True, capture_output=True, text=True)
    for line, case in zip(done.stdout.splitlines(), core.choose(cases), strict=True):
        head, *numbers = line.split(" ")
        assert head == f"{case.id}|{int(case.training)}|{case.params['eps']:g}|-1|1|{int(case.params['decay'] is None)}"
        np.testing.assert_array_equal(np.array(numbers, float), case.tensors["x"].ravel())
    (paths[0] / "x.bin").write_bytes(b"short")
    done = subprocess.run([out / "read", paths[0]], capture_output=True, text=True)
    assert (done.returncode, "is shorter than its shape" in done.stderr) == (1, True)
    done = subprocess.run([out / "read", Path("/nowhere")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "kalnorm_cases: /nowhere/case.txt: cannot be read\n")
