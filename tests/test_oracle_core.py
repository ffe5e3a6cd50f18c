"""Holds the frozen core to the catalogue and the reference: nothing is stale or lost, on any machine."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kalnorm_ref import cli
from kalnorm_ref.oracle import catalogue, core, record, regen
from kalnorm_ref.oracle.case import UNITS
from kalnorm_ref.oracle.reference import expected

ROOT = Path(__file__).parent.parent
LIMIT = 2 * 2**20
SOME = [case for op in ("bn", "brn", "kn", "gn", "gkn") for case in list(catalogue.cases(op))[::29]]


FEW = [case for name in ("bn/ordinary/*", "kn/ordinary/float32", "gn/ordinary/float32") for case in core.choose([name])]


@pytest.fixture(scope="module")
def fresh():
    """A core of a few cases."""
    return regen.build(FEW)


@pytest.fixture(scope="module")
def stored():
    """The same, made another time."""
    return regen.build(FEW)


def changed(stored, change):
    """A copy of a core on which change(records, flat) has worked."""
    records = json.loads(json.dumps(stored.records))
    flat = {dtype: a.copy() for dtype, a in stored.flat.items()}
    change(records, flat)
    return regen.Core(records, flat)


def test_the_core_is_fresh(capsys):
    assert cli.main(["regen", "--check"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{len(core.records())} cases: ")
    assert "inputs are equal in every bit\n" in out


def test_the_core_is_small():
    size = sum(path.stat().st_size for path in core.FROZEN.iterdir())
    assert 100_000 < size < LIMIT


def test_the_same_bytes_twice(stored, fresh):
    """Nothing of the day or of the machine: no date, and one NaN for all that arithmetic makes."""
    made = regen.files(fresh)
    assert made == regen.files(stored)
    with zipfile.ZipFile(io.BytesIO(made[core.ARRAYS])) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    for dtype in UNITS:
        nans = record.packed(np.array([np.nan, -np.nan]), dtype)
        assert nans[:1].tobytes() == nans[1:].tobytes()


def test_a_record_says_what_it_holds():
    stored = regen.read(core.FROZEN)
    fields = {"id", "op", "why", "dtype", "layout", "params", "convention", "conditioning", "training", "view"}
    fields |= {"unjudged", "before", "kills", "tensors"}
    for one in stored.records:
        assert one.keys() == fields
        assert one["tensors"].keys() == set(record.ROLES)
        assert len(one["tensors"]["before"]) == one["before"]
    dtypes = {entry["dtype"] for one in stored.records for group in one["tensors"].values() for entry in group.values()}
    assert dtypes == set(UNITS)


def test_digests_are_those_of_the_bytes():
    stored = regen.read(core.FROZEN)
    [one] = [r for r in stored.records if r["id"] == "bn/ordinary/bfloat16"]
    arrays = core.sliced(one, stored.flat)
    for role, group in arrays.items():
        for name, a in group.items():
            bytes_ = np.ascontiguousarray(a).tobytes()
            assert hashlib.sha256(bytes_).hexdigest() == one["tensors"][role][name]["sha256"]
    assert arrays["forward"]["x"].dtype == "<u2"
    assert arrays["forward"]["gamma"].dtype == "<f4"


def test_questions_are_those_of_the_catalogue():
    """Loaded, not computed: and still the same cases with the same truth."""
    for case in SOME:
        [(loaded, want)] = core.questions([case.id])
        plain = [name for name in case._fields if name not in ("tensors", "upstream", "state", "before")]
        assert [getattr(loaded, name) for name in plain] == [getattr(case, name) for name in plain]
        for mine, theirs in (
            (loaded.tensors, case.tensors),
            (loaded.upstream, case.upstream),
            (loaded.state, case.state),
        ):
            assert mine.keys() == theirs.keys()
            for name in mine:
                np.testing.assert_array_equal(mine[name], theirs[name])
                assert np.array_equal(np.signbit(mine[name]), np.signbit(theirs[name])) or np.isnan(mine[name]).any()
        assert len(loaded.before) == len(case.before)
        for mine, theirs in zip(loaded.before, case.before, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        truth = expected(case) if case.tensors["x"].size else {}
        assert want.keys() == truth.keys()
        for name in want:
            np.testing.assert_allclose(want[name], truth[name], rtol=1e-9, atol=1e-12)


def test_loading_is_fast_and_computes_nothing(monkeypatch):
    def forbidden(case):
        raise AssertionError("computed")

    monkeypatch.setattr(core, "expected", forbidden)
    core.records.cache_clear()
    core.frozen.cache_clear()
    start = time.process_time()
    found = core.questions(None)
    assert time.process_time() - start < 0.5
    assert len(found) == len(core.records())
    assert core.questions(core.choose(["bn/*"]))[0][0] is found[0][0]


def test_nobody_changes_the_core():
    case, want = core.questions("bn/ordinary/float32")[0]
    for a in (case.tensors["x"], want["y"]):
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 0


def test_choosing():
    assert {case.op for case in core.choose(["kn/*", "gn/*"])} == {"kn", "gn"}
    assert len(core.choose()) == len(core.records())
    with pytest.raises(ValueError, match=r"^no case is called 'bn/nothing'; kalnorm-ref list shows all$"):
        core.questions(["bn/*", "bn/nothing"])


def test_a_case_of_ones_own_has_its_own_truth():
    """Whatever it is called."""
    ((case, want),) = core.questions("bn/ordinary/float32")
    for name in ("mine", case.id):
        ((_, own),) = core.questions(case._replace(id=name, params={"eps": 100.0, "decay": 0.5}))
        assert own["y"].std() < want["y"].std()


def test_values_that_a_type_lacks_are_refused():
    with pytest.raises(ValueError, match=r"^values are not those of bfloat16; expected them rounded to it$"):
        record.packed(np.array([1.0, 1.001]), "bfloat16")
    for dtype, a in (("bfloat16", [1.0, -0.0, 3.0e38, np.inf, np.nan]), ("float16", [65504.0, 2.0**-24, -0.0, np.nan])):
        a = np.array(a)
        a[:-1] = np.where(np.isfinite(a[:-1]), np.asarray(a[:-1], np.float64), a[:-1])
        a = record.rounded(a, dtype)
        back = record.unpacked(record.packed(a, dtype), dtype)
        np.testing.assert_array_equal(back, a)
        assert np.array_equal(np.signbit(back[:-1]), np.signbit(a[:-1]))


# ---- what the comparison must see --------------------------------------------------------------------------------


def entry_of(records, name, role, tensor):
    [one] = [r for r in records if r["id"] == name]
    return one["tensors"][role][tensor]


def reseal(records, flat, name, role, tensor):
    """Put the digest right after a change."""
    entry = entry_of(records, name, role, tensor)
    part = flat[entry["dtype"]][entry["at"] : entry["at"] + int(np.prod(entry["shape"]))]
    entry["sha256"] = record.digest(part)


def problems(stored, fresh, change):
    return regen.compare(changed(stored, change), fresh).problems


def test_a_missing_case_is_seen(stored, fresh):
    assert problems(stored, fresh, lambda records, flat: records.pop(3)) == (
        f"{stored.records[3]['id']}: is not in the frozen core",
    )


def test_an_extra_case_is_seen(stored, fresh):
    def change(records, flat):
        records.append({**records[0], "id": "bn/another/float32"})

    assert problems(stored, fresh, change) == ("bn/another/float32: is in the frozen core, but not in the catalogue",)


def test_another_order_is_seen(stored, fresh):
    assert problems(stored, fresh, lambda records, flat: records.reverse()) == ("the cases are in another order",)


def test_one_bit_of_an_input_is_seen(stored, fresh):
    name = "bn/ordinary/float32"

    def change(records, flat):
        flat["float32"].view(np.uint32)[entry_of(records, name, "forward", "x")["at"] + 2] ^= 1
        reseal(records, flat, name, "forward", "x")

    assert problems(stored, fresh, change) == (f"{name}: forward x differs",)


def test_broken_bytes_are_seen(stored, fresh):
    name = "kn/ordinary/float32"

    def change(records, flat):
        flat["float64"][entry_of(records, name, "expected", "y")["at"]] += 1

    assert problems(stored, fresh, change) == (f"{name}: sha256 of expected y is not the one in the manifest",)


@pytest.mark.parametrize(("field", "value"), [("why", "because"), ("layout", "NC"), ("training", False), ("before", 1)])
def test_another_record_is_seen(stored, fresh, field, value):
    found = problems(stored, fresh, lambda records, flat: records[0].update({field: value}))
    assert found == (f"{stored.records[0]['id']}: {field} differs",)


@pytest.mark.parametrize(("ulps", "right"), [(1, True), (2**20, False)])
def test_expected_values_may_move_within_the_budget(stored, fresh, ulps, right):
    """One ulp is another order of a sum; a million are another truth."""
    name = "gn/ordinary/float32"

    def change(records, flat):
        at = entry_of(records, name, "expected", "y")["at"]
        flat["float64"][at : at + 3] *= 1 + ulps * 2.0**-52
        reseal(records, flat, name, "expected", "y")

    found = regen.compare(changed(stored, change), fresh)
    assert (found.moved, regen.compare(stored, fresh).moved) == (1, 0)
    if right:
        assert (found.problems, found.budgets < 1, found.ulps > 0.4) == ((), True, True)
    else:
        assert len(found.problems) == 1
        assert found.problems[0].startswith(f"{name}: expected y differs by ")
        assert found.problems[0].endswith(" of the float64 budget; at most 1 may be")


def test_nan_in_another_place_is_seen(stored, fresh):
    name = "bn/ordinary/float32"

    def change(records, flat):
        flat["float64"][entry_of(records, name, "expected", "dx")["at"]] = np.nan
        reseal(records, flat, name, "expected", "dx")

    assert problems(stored, fresh, change) == (f"{name}: expected dx differs in its shape, or in where it is finite",)


def test_the_command_fails_on_a_stale_core(tmp_path, capsys):
    stored = regen.read(core.FROZEN)
    stale = changed(stored, lambda records, flat: records[0].update(why="another reason"))
    regen.write(stale, tmp_path)
    assert cli.main(["regen", "--check", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith(f"{stored.records[0]['id']}: why differs\n")


def test_the_command_writes_a_core(tmp_path, capsys):
    assert cli.main(["regen", "--out", str(tmp_path / "core")]) == 0
    assert cli.main(["regen", "--check", "--out", str(tmp_path / "core")]) == 0
    assert f"{len(core.records())} cases, " in capsys.readouterr().out


def test_a_folder_without_a_core_is_one_line(tmp_path, capsys):
    assert cli.main(["regen", "--check", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("manifest.json.gz is missing; write it with kalnorm-ref regen\n")
    for name in (core.MANIFEST, core.ARRAYS):
        (tmp_path / name).write_bytes(b"nothing")
    assert cli.main(["regen", "--check", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_another_machine_agrees(capsys):
    """NumPy without AVX, OpenBLAS as on an old processor: sums in another order, the same inputs."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    features = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    elsewhere = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": features}
    if not features:
        pytest.skip("NumPy has no kernels here that could be switched off")
    command = [sys.executable, "-m", "kalnorm_ref", "regen", "--check"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **elsewhere}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith("inputs are equal in every bit")
    assert "expected tensors" in second
