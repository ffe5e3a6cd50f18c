"""Holds the command `bench` to its promises: what it refuses, what it writes, that no peer is there."""

import contextlib
import json

import pytest

import kalnorm_ref as kr
from kalnorm_ref import cli
from kalnorm_ref.bench import cases, our_cases, page, suite, turns, worker

PARTS = ", ".join(cases.PARTS)
MISTAKES = [
    (["--repeats", "0"], "repeats is 0; expected at least 1"),
    (["--seconds", "0"], "seconds is 0.0; expected at least 0.001"),
    (["--seconds", "nan"], "seconds is nan; expected at least 0.001"),
    (["--seconds", "inf"], "seconds is inf; expected at least 0.001"),
    (["norms", "flight"], f"unknown part 'flight'; expected one of {PARTS}, all"),
    (["--threads", "0"], "number of threads is 0; expected at least 1"),
    (
        ["--repeats", "2", "--seconds", "2"],
        "argument --seconds: not allowed with argument --repeats (see kalnorm-ref bench --help)",
    ),
    (["--out", "README.md"], "README.md is a file; expected a folder to write into"),
    (["--out", "."], "README.md is not from kalnorm-ref bench and would be lost; name another folder"),
    (["--peer", "torch"], "PyTorch is not installed; to get it: pip install torch; or compare with --peer none"),
]
POINTS = [cases.norm((1, 2, 2, c), "bn") for c in (1, 2, 4)]
TINY = {
    "norms": [cases.norm((2, 2, 2, 3), "bn", "brn", "kn")],
    "convolution": [{"kind": "convolution", "shape": [2, 4, 4, 3], "channels": 5, "stride": 2}],
    "step": [cases.step(8, 2, None, "bn")],
    "statistics": [cases.step(8, 2, 1, "bn", "kn-learned")],
    "memory": [cases.step(8, 2, None, "bn")],
    "growth": [cases.series("channels of one map", "bn, kernel", (1, 2, 4), POINTS)],
}


class Here:
    """What turns.started gives, but in this process, which saves starting another."""

    def __init__(self):
        self.versions = our_cases.versions()

    def ask(self, **request):
        if "prepare" in request:
            self.works = our_cases.prepare(request["prepare"])
            return {"seconds": {name: worker.turn(work, 1)[0] for name, work in self.works.items()}}
        return {"seconds": worker.turn(self.works[request["turn"]], request["repeats"])}


@pytest.fixture
def here(monkeypatch):
    """The arguments that the workers would be started with; they are in this process."""
    asked = []

    @contextlib.contextmanager
    def started(*arguments):
        asked.append(arguments)
        with our_cases.using(*arguments[1:]):
            yield Here()

    monkeypatch.setattr(suite, "started", started)
    return asked


@pytest.fixture
def tiny(monkeypatch):
    """Every part is small, and PyTorch is not installed."""
    monkeypatch.setattr(cases, "cases", lambda part, quick: TINY[part])
    monkeypatch.setattr(cases, "SMALL_ROOFLINE", {"kind": "roofline", "size": 64, "mebibytes": 1})
    monkeypatch.setattr(suite, "installed", lambda peer: False)


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[message[:30] for _, message in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2_and_nothing_written(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite, "installed", lambda peer: False)
    monkeypatch.setattr(suite, "run", lambda *plan: pytest.fail("it was measured all the same"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    assert cli.main(["bench", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err == f"kalnorm-ref: error: {message}\n" and printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_results_of_another_command_are_not_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite, "run", lambda *plan: pytest.fail("it was measured all the same"))
    (tmp_path / page.RESULTS).write_text("{}")
    assert cli.main(["bench", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith(
        "results.json is not from kalnorm-ref bench and would be lost; name another folder\n"
    )


def test_all_parts_are_measured_and_written(tiny, tmp_path, capsys):
    arguments = ["bench", "all", "--quick", "--repeats", "2", "--threads", "1", "--out", str(tmp_path), "--json"]
    before = kr.backend.get_num_threads()
    try:
        assert cli.main(arguments) == 0
    finally:
        kr.set_num_threads(before)
    printed = capsys.readouterr()
    results = json.loads(printed.out)
    assert printed.err == (
        "kalnorm-ref: PyTorch is not installed, so there is nothing to compare with; to get it: pip install torch\n"
    )
    assert [*results] == ["complete", "machine", "settings", "roofline", *cases.PARTS] and results["complete"]
    assert results["machine"]["threads"] == 1 and results["machine"]["backend"] == kr.get_backend()
    assert len(results["machine"]["load"]) == 3 and results["machine"]["kalnorm_ref"] == kr.__version__
    assert results["settings"]["pace"] == {"seconds": 0.15, "repeats": 2, "turns": 2, "tries": 1}
    assert results["roofline"]["flops"] > 0 and results["roofline"]["bandwidth"] > 0
    for part in cases.PARTS:
        assert [row["case"] for row in results[part]] == json.loads(json.dumps(TINY[part]))
    assert [*results["norms"][0]["columns"]] == ["ours bn", "ours brn", "ours kn"]
    times = results["statistics"][0]["columns"]["ours kn-learned"]
    assert 0 < times["low"] <= times["median"] <= times["high"] and times["repeats"] == 2
    assert 2**20 < results["memory"][0]["columns"]["ours"]["before"] < results["memory"][0]["columns"]["ours"]["peak"]
    assert results["growth"][0]["fit"].keys() == {"slope", "intercept", "r2"}
    assert json.loads((tmp_path / page.RESULTS).read_text()) == results
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "growth.png", "results.json"]


def test_named_parts_alone_are_measured_in_order_and_a_page_is_renewed(tiny, here, tmp_path, capsys):
    (tmp_path / page.PAGE).write_text(page.MARK)
    arguments = ["convolution", "norms", "--peer", "none", "--quick", "--repeats", "1", "--out", str(tmp_path)]
    assert cli.main(["bench", *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    heads = [line.split()[1] for line in printed.out.splitlines() if line.startswith(("| map", "| conv"))]
    assert heads == ["map", "convolution"]
    assert "# Benchmarks" in (tmp_path / page.PAGE).read_text()


def test_the_peer_is_asked_where_it_has_the_same_work(tiny, here):
    parts = ("norms", "convolution", "step", "statistics", "growth")
    results = suite.run(suite.Plan(parts, 1, "numpy", quick=True, pace=turns.Pace(repeats=1, turns=1, tries=1)), False)
    assert here == [("ours", 1, "numpy"), ("torch", 1, "numpy")]
    asked = {part: {name.split()[0] for name in results[part][0]["columns"]} for part in parts}
    assert asked == {part: {"ours", "torch"} if part in parts[:3] else {"ours"} for part in parts}


def test_ctrl_c_keeps_the_parts_that_are_finished(tiny, here, tmp_path, monkeypatch, capsys):
    def stopped(case, *others):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "_memory", stopped)
    arguments = ["norms", "memory", "--quick", "--repeats", "1", "--peer", "none", "--out", str(tmp_path / "out")]
    assert cli.main(["bench", *arguments]) == 130
    assert capsys.readouterr().err == f"kalnorm-ref: stopped; finished parts are in {tmp_path / 'out'}\n"
    stored = json.loads((tmp_path / "out" / page.RESULTS).read_text())
    assert not stored["complete"] and stored["norms"] and "memory" not in stored


def test_backend_and_threads_reach_the_worker(tiny, here, capsys):
    arguments = ["norms", "--quick", "--repeats", "1", "--peer", "none", "--backend", "numpy", "--json"]
    before = kr.backend.get_num_threads()
    try:
        assert cli.main(["bench", *arguments, "--threads", "3"]) == 0
    finally:
        kr.set_num_threads(before)
    assert here == [("ours", 3, "numpy")]
    results = json.loads(capsys.readouterr().out)
    assert results["machine"]["backend"] == results["settings"]["backend"] == "numpy"
    assert results["machine"]["instruction_set"] is None


def test_the_installed_peer_is_found_without_importing_it():
    assert suite.installed("numpy") and not suite.installed("a_package_that_nobody_has")
