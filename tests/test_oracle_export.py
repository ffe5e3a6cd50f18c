"""Holds `export` to its promise: what a program is given is the case, to the bit, and not its answer."""

import numpy as np
import pytest
from oracle_files import BN, FEW, exported, manifest, run

from kalnorm_ref.oracle import core, export, record


def test_npz_holds_the_cases(tmp_path, capsys):
    out = exported(tmp_path, capsys)
    whole = manifest(out)
    assert (whole["format"], whole["tier"]) == ("npz", "core")
    assert [one["id"] for one in whole["cases"]] == [case.id for case in core.choose(FEW)]
    for one in whole["cases"]:
        case, _ = core.questions(one["id"])[0]
        with np.load(out / f"{one['path']}.npz", allow_pickle=False) as found:
            names = {*case.tensors, *case.upstream, *case.state} | {f"before.{i}" for i in range(len(case.before))}
            assert set(found.files) == names
            dtype = one["tensors"]["forward"]["x"]["dtype"]
            np.testing.assert_array_equal(record.unpacked(found["x"], dtype), case.tensors["x"])
            assert record.digest(found["x"]) == one["tensors"]["forward"]["x"]["sha256"]


def test_bin_holds_the_cases(tmp_path, capsys):
    """Read as a stranger would: lines, and raw numbers."""
    out = exported(tmp_path, capsys, "--format", "bin", "--with-expected")
    numbers = {"float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}
    paths = (out / "cases.txt").read_text().splitlines()
    assert paths == [one["path"] for one in manifest(out)["cases"]]
    for path, (case, want) in zip(paths, core.questions(core.choose(FEW)), strict=True):
        lines = [line.split(" ") for line in (out / path / "case.txt").read_text().splitlines()]
        head = {words[0]: " ".join(words[1:]) for words in lines}
        assert (head["id"], head["op"], head["layout"]) == (case.id, case.op, case.layout)
        assert (head["training"], head["before"]) == (str(int(case.training)), str(len(case.before)))
        params = {words[1]: float(words[2]) for words in lines if words[0] == "param"}
        assert params == case.params
        found = {}
        for word, name, dtype, ndim, *dims, file in (words for words in lines if words[0] in ("tensor", "expected")):
            assert int(ndim) == len(dims)
            a = np.fromfile(out / path / file, numbers[dtype]).reshape([int(n) for n in dims])
            found[word, name] = (a.astype("u4") << 16).view("f4") if dtype == "bfloat16" else a
        given = {**case.tensors, **case.upstream, **case.state, **{f"before.{i}": x for i, x in enumerate(case.before)}}
        assert found.keys() == {("tensor", name) for name in given} | {("expected", name) for name in want}
        for (word, name), a in found.items():
            np.testing.assert_array_equal(a, given[name] if word == "tensor" else want[name])


def test_expected_values_are_not_given_away(tmp_path, capsys):
    plain, told = exported(tmp_path / "a", capsys), exported(tmp_path / "b", capsys, "--with-expected")
    with np.load(plain / f"{BN}.npz") as without, np.load(told / f"{BN}.npz") as found:
        assert set(found.files) - set(without.files) == {
            f"expected.{name}" for name in core.questions("bn/ordinary/float32")[0][1]
        }
    raw = exported(tmp_path / "c", capsys, "--format", "bin")
    assert not list(raw.glob("*/expected*"))
    assert "expected" not in (raw / BN / "case.txt").read_text()


def test_a_cumulative_average_has_no_number(tmp_path, capsys):
    out = exported(tmp_path, capsys, "--format", "bin", cases=["bn/cumulative-sixth/float32"])
    assert "param decay cumulative\n" in (out / "bn.cumulative-sixth.float32" / "case.txt").read_text()


def test_paths_are_plain_and_differ():
    paths = [export.path_of(case.id) for case in core.choose()]
    assert len({path.lower() for path in paths}) == len(paths)
    assert export.path_of("bn/two values, eps 1/float32") == "bn.two-values-eps-1.float32"
    twins = [core.choose()[0]._replace(id=name) for name in ("bn/a b/float32", "bn/a-b/float32")]
    with pytest.raises(ValueError, match=r"^two cases have the same path; their ids must differ in letters or digits$"):
        export.check_paths(twins)


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / "kept").write_text("kept")
    code, _, err = run(capsys, "export", "--out", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{tmp_path} is not empty; expected a new folder, so that no old output is taken for a new one" in err
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    code, _, err = run(capsys, "export", "--out", tmp_path / "kept")
    assert (code, "is a file; expected a folder to write into" in err) == (2, True)
    code, _, err = run(capsys, "export", "--out", tmp_path / "new", "--cases", "bn/nothing")
    assert (code, "no case is called 'bn/nothing'" in err, (tmp_path / "new").exists()) == (2, True, False)
