"""Holds the benchmark to its promises: sides take turns, what is not steady says so, tables say what was measured."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import kalnorm_ref as kr
from kalnorm_ref.bench import cases, growth_plot, our_cases, page, suite, tables, turns, worker
from kalnorm_ref.convolution import conv2d_forward

BRIEF = turns.Pace(repeats=2, turns=2, tries=1)
NORM = cases.norm((2, 2, 2, 3), "bn", "kn")
SERIES = cases.series(
    "channels of one map", "bn, kernel", (1, 2, 4), [cases.norm((1, 2, 2, c), "bn") for c in (1, 2, 4)]
)
GROUP = cases.norm((2, 2, 2, 4), "gn") | {"groups": 2}


class Fake:
    """A worker that computes nothing: its n-th call of a work takes seconds(n)."""

    def __init__(self, side, heard, names, seconds=lambda n: 1.0):
        self.side, self.heard, self.names, self.seconds, self.calls = side, heard, names, seconds, 0

    def ask(self, **request):
        if "prepare" in request:
            return {"seconds": dict.fromkeys(self.names, 0.25)}
        self.heard.append((self.side, request["turn"], request["repeats"]))
        self.calls += request["repeats"]
        return {"seconds": [self.seconds(n) for n in range(self.calls - request["repeats"], self.calls)]}


def test_the_sides_take_turns_of_as_many_calls_as_fit():
    heard = []
    fakes = {"ours": Fake("ours", heard, ("bn", "kn")), "torch": Fake("torch", heard, ("nchw",))}
    row = turns.measure(fakes, NORM, turns.Pace(seconds=3, turns=3))
    one_round = [("ours", "bn", 4), ("ours", "kn", 4), ("torch", "nchw", 4)]
    assert heard == 3 * one_round
    assert row["tries"] == 1 and row["spread"] == 0 and row["case"] == NORM
    assert [*row["columns"]] == ["ours bn", "ours kn", "torch nchw"]
    assert all(column["repeats"] == 12 for column in row["columns"].values())


@pytest.mark.parametrize(
    ("pace", "once", "calls"),
    [
        (turns.Pace(seconds=2, turns=4), 0.1, 5),
        (turns.Pace(seconds=2, turns=4), 3.0, 1),
        (turns.Pace(seconds=2, turns=4), 0.0, turns.LONGEST_TURN),
        (turns.Pace(repeats=7, turns=4), 3.0, 2),
    ],
)
def test_calls_of_a_turn(pace, once, calls):
    assert pace.calls(once) == calls


def test_what_is_not_steady_is_measured_again_and_the_steadiest_is_kept():
    def noisy(n):  # two measurements of 8 calls that differ by a factor of 4, then one by 10 %
        return (1.0, 4.0)[n % 2] if n < 16 else (0.95, 1.05)[n % 2]

    heard = []
    row = turns.measure({"ours": Fake("ours", heard, ("bn",), noisy)}, NORM, turns.Pace(repeats=8, turns=4))
    assert row["tries"] == 3 and len(heard) == 12
    assert row["spread"] == pytest.approx(0.1) and row["columns"]["ours bn"]["median"] == pytest.approx(1.0)


def test_what_never_gets_steady_keeps_its_best_measurement_and_says_so():
    def never(n):
        return 1.0 if n % 2 else (1.9, 1.5, 1.7, 1.8)[n // 8]

    row = turns.measure({"ours": Fake("ours", [], ("bn",), never)}, NORM, turns.Pace(repeats=8, turns=4))
    assert row["tries"] == turns.Pace().tries == 4
    assert row["spread"] == pytest.approx(0.5 / 1.25) and row["columns"]["ours bn"]["high"] == 1.5
    assert tables.note(*row["columns"].values()) == "spread 40 %"
    assert tables.note({"spread": turns.STEADY}) == ""


def test_summary_has_median_and_quartiles():
    wanted = {"median": 3.0, "low": 2.0, "high": 4.0, "repeats": 5, "spread": pytest.approx(2 / 3)}
    assert turns.summary([5.0, 1, 4, 2, 3]) == wanted


def test_the_worker_warms_up_and_answers_line_by_line():
    called = []

    def prepare(case):
        return {"a": lambda: called.append(case["n"])}

    requests = [{"prepare": {"n": 7}}, {"turn": "a", "repeats": 3}, {"turn": "b", "repeats": 1}]
    answers = io.StringIO()
    clock = iter(np.arange(100) * 0.5)  # a call takes half a second by it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.time, "perf_counter", lambda: next(clock))
        worker.serve(prepare, map(json.dumps, requests), answers)
    first, second, third = map(json.loads, answers.getvalue().splitlines())
    assert first == {"seconds": {"a": 0.5}} and second == {"seconds": [0.5, 0.5, 0.5]}
    assert called == 6 * [7]
    assert third["error"].endswith("KeyError: 'b'\n")


def test_a_real_worker_measures_tells_of_mistakes_and_of_its_end():
    with turns.started("ours", 1, kr.get_backend()) as ours:
        assert ours.versions["kalnorm_ref"] == kr.__version__ and ours.versions["numpy"] == np.__version__
        row = turns.measure({"ours": ours}, NORM, BRIEF)
        assert [*row["columns"]] == ["ours bn", "ours kn"]
        assert all(0 < c["low"] <= c["median"] <= c["high"] and c["repeats"] == 2 for c in row["columns"].values())
        with pytest.raises(
            RuntimeError, match=r"(?s)^in the process that runs ours:\nTraceback.*KeyError: 'flight'\n\Z"
        ):
            ours.ask(prepare={"kind": "flight"})
        ours.process.kill()
        with pytest.raises(ChildProcessError, match=r"^the process that runs ours ended with exit code -9\Z"):
            ours.ask(prepare=NORM)


def test_a_side_that_cannot_be_imported_is_one_clear_error(tmp_path, monkeypatch):
    """And what was set for OpenMP in this process alone has not reached it."""
    (tmp_path / "torch.py").write_text("import os\nraise ImportError(f'broken, {os.environ.get(\"GOMP_TEST\")}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("GOMP_TEST", "3")
    message = r"^torch cannot be imported: broken, None\Z"
    with pytest.raises(ImportError, match=message), turns.started("torch", 1, "numpy"):
        pass


def test_workers_get_the_users_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "GIVEN", tmp_path / "environ")
    here = {"OMP_THEIRS": "1", "OMP_OURS": "2", "GOMP_OURS": "3", "KALNORM_TEST": "4"}
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    assert {name for name in here if name in turns.user_environment()} == {"KALNORM_TEST"}
    turns.GIVEN.write_bytes(b"PATH=/bin\0OMP_THEIRS=0\0")
    found = turns.user_environment()
    assert {name: found[name] for name in here if name in found} == {"OMP_THEIRS": "1", "KALNORM_TEST": "4"}
    assert found["PATH"] == os.environ["PATH"]


def test_memory_is_what_was_resident_before_and_the_peak(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "STATUS", tmp_path / "status")
    worker.STATUS.write_text("Name:\tpython\nVmHWM:\t   40 kB\nVmRSS:\t   20 kB\n")
    grown = iter((50, 70))
    work = {"bn": lambda: worker.STATUS.write_text(f"VmHWM:\t   {next(grown)} kB\nVmRSS:\t   30 kB\n")}
    assert worker.memory(work, 2) == {"before": 20 * 1024, "peak": 70 * 1024}


@pytest.mark.parametrize("part", cases.PARTS)
def test_every_small_case_of_ours_runs(part):
    ran = []
    with our_cases.using(1, kr.get_backend()):
        for case in cases.cases(part, quick=True):
            for name, work in our_cases.prepare(json.loads(json.dumps(case))).items():
                work()
                ran.append(name)
    assert ran and all(isinstance(name, str) for name in ran)


def test_our_side_leaves_threads_and_backend_as_they_were():
    before = kr.backend.get_num_threads(), kr.get_backend()
    with our_cases.using(before[0] + 3, "numpy"):
        assert (kr.backend.get_num_threads(), kr.get_backend()) == (before[0] + 3, "numpy")
    assert (kr.backend.get_num_threads(), kr.get_backend()) == before


def test_every_full_case_has_sizes_that_fit():
    for part in cases.PARTS:
        for case in cases.cases(part):
            points = case["points"] if case["kind"] == "series" else [case]
            assert len(points) == len(case.get("sizes", points))
            for point in points:
                if point["kind"] == "step":
                    assert point["batch"] % (point["statistics"] or 1) == 0 and (point["depth"] - 2) % 6 == 0


@pytest.mark.parametrize(("size", "stride"), [((4, 6), 1), ((4, 6), 2), ((5, 7), 2)])
def test_operations_are_those_of_the_definition(size, stride):
    x, weight = np.ones((2, *size, 3)), np.ones((3, 3, 3, 5))
    outputs = conv2d_forward(x, weight, None, stride, 1)[0].size
    case = {"shape": list(x.shape), "channels": 5, "stride": stride}
    assert cases.operations(case) == 3 * outputs * 9 * 3 * 2
    assert cases.moved_bytes(case) == 5 * x.astype(np.float32).nbytes


def test_the_line_through_known_points():
    assert suite.line([1, 2, 4], [5.0, 7, 11]) == pytest.approx({"slope": 2, "intercept": 3, "r2": 1})
    assert suite.line([0, 1, 2], [0.0, 1, 0]) == pytest.approx({"slope": 0, "intercept": 1 / 3, "r2": 0}, abs=1e-12)
    assert suite.line([0, 1, 2, 3], [1.0, 0, 3, 2])["r2"] == pytest.approx(0.36)
    assert suite.line([1, 2], [4.0, 4.0])["r2"] == 1


def column(median, **more):
    return {"median": median, "low": 0.9 * median, "high": 1.05 * median, "repeats": 30, "spread": 0.15} | more


def canned():
    """Results of a run that never was, with a peer."""
    torch = {"torch channels_last": column(0.004), "torch nchw": column(0.001, repeats=99)}
    step = {f"ours {name}": column(seconds) for name, seconds in (("bn", 0.1), ("kn-learned", 0.13))}
    fit = {"slope": 0.002, "intercept": 0.01, "r2": 0.99}
    points = {f"ours {i}": column(0.01 * (i + 1), spread=0.31) for i in range(3)}
    machine = {"cpu": "a processor", "cores": 2, "threads": 2, "system": "Linux x86_64", "load": [0.1, 0.2, 0.3]}
    machine |= {"date": "2020-02-02", "python": "3", "numpy": "2", "scipy": "1", "torch": "9", "blas": "openblas 0"}
    machine |= {"kalnorm_ref": "0", "backend": "cython", "instruction_set": "avx"}
    roofline = {"case": cases.ROOFLINE, "columns": {"ours sgemm": column(0.1)}, "flops": 2e11, "bandwidth": 4e10}
    group = {"case": GROUP, "columns": {"ours gn": column(0.001)} | torch}
    return {
        "complete": True,
        "machine": machine,
        "settings": suite.settings(suite.Plan(parts=cases.PARTS, threads=2)),
        "roofline": roofline,
        "norms": [
            {"case": cases.norm((128, 32, 32, 16), "bn", "kn"), "columns": {"ours bn": column(0.002)} | torch}
            | {"columns": {"ours bn": column(0.002), "ours kn": column(0.003, spread=0.5)} | torch},
            group,
        ],
        "convolution": [{"case": cases.convolutions(False)[0], "columns": {"ours conv": column(0.002)} | torch}],
        "step": [{"case": cases.steps(False)[2], "columns": {"ours bn": column(0.25)} | torch}],
        "statistics": [{"case": cases.step(20, 128, 2, "bn", "kn-learned"), "columns": step}],
        "memory": [{"case": cases.memory(False)[0], "columns": {"ours": {"before": 2**26, "peak": 3 * 2**26}}}],
        "growth": [{"case": SERIES, "columns": points, "fit": fit}],
    }


def cells(table):
    """Rows of a Markdown table, without its rule, as lists of cells."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert len({len(line) for line in table.splitlines()}) == 1  # it lines up
    return [rows[0], *rows[2:]]


def test_tables_say_what_was_measured():
    found = {part: cells(table) for part, table in tables.tables(canned()).items()}
    assert [*found] == list(cases.PARTS)
    peer = ["4 (3.6 .. 4.2)", "0.50", "1 (0.9 .. 1.05)", "2.00"]
    bn, kn, gn = found["norms"][1:]
    assert bn == ["BN 128x32x32x16", "2 (1.8 .. 2.1)", "1.00", "21", "52 %", *peer, "30 / 30 / 99", ""]
    assert kn == ["KN 128x32x32x16", "3 (2.7 .. 3.15)", "1.50", "14", "35 %", *4 * ["-"], "30", "spread 50 %"]
    assert gn[:3] == ["GN 2x2x2x4", "1 (0.9 .. 1.05)", "-"] and gn[5:9] == [peer[0], "0.25", peer[2], "1.00"]
    conv = ["128x32x32x16 to 16, stride 1", "2 (1.8 .. 2.1)", "906", "453 %", *peer, "30 / 30 / 99", ""]
    assert found["convolution"][1] == conv
    assert found["step"][1][:3] == ["ResNet-20, batch 128", "250 (225 .. 262)", "512"]
    learned = ["ResNet-20, batch 128, kn-learned", "130 (117 .. 136)", "1.30", "985", "30", ""]
    assert found["statistics"][2] == learned
    assert found["memory"][1] == ["ResNet-8, batch 128, ours", "64", "192", "128"]
    assert found["growth"][1] == ["channels of one map", "bn, kernel", "1 .. 4", "2", "10", "0.9900", "spread 31 %"]


def test_without_a_peer_there_are_no_columns_for_it():
    results = canned()
    results["settings"]["peer"] = "none"
    assert "PyTorch" not in tables.text(results) and "ours / it" not in tables.text(results)


def test_the_page_says_how_to_read_it_and_where_it_was_measured(tmp_path):
    results = canned()
    page.write(tmp_path / "deep" / "er", results)
    out = tmp_path / "deep" / "er"
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "growth.png", "results.json"]
    text = (out / "README.md").read_text()
    assert "kalnorm-ref bench all --out benchmarks" in text and "![" in text and "not finished" not in text
    assert "- a processor, 2 cores, Linux x86_64; 2 threads on each side" in text
    assert "- kalnorm_ref 0, backend cython, avx\n" in text
    assert "- python 3, numpy 2, scipy 1, torch 9; BLAS openblas 0" in text
    assert "SGEMM of 2048 x 2048 matrices by NumPy's BLAS 200 GFLOP/s; copy of 64 MiB 40 GB/s" in text
    for part, table in tables.tables(results).items():
        assert f"## {tables.HEADINGS[part]}\n\n{table}\n" in text
    assert json.loads((out / "results.json").read_text())["growth"][0]["fit"]["r2"] == 0.99
    del results["growth"]
    page.write(out, results | {"complete": False})
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "results.json"]
    assert "not finished" in (out / "README.md").read_text()


def test_links_of_the_page_lead_to_files():
    root = Path(kr.__file__).parents[1]
    targets = set(re.findall(r"\]\(([^)]+)\)", page.page(canned()))) - {page.RESULTS, growth_plot.NAME}
    assert targets and all((root / "benchmarks" / target).resolve().exists() for target in targets)


def test_the_picture_has_a_panel_for_each_size_that_grows():
    rows = [
        {
            "case": case,
            "columns": {str(i): column(i + 1.0) for i in range(len(case["sizes"]))},
            "fit": suite.line(case["sizes"], np.arange(len(case["sizes"])) + 1.0),
        }
        for case in cases.cases("growth")
    ]
    figure = growth_plot.figure_of(rows)
    names = [axes.get_xlabel() for axes in figure.axes]
    assert names == list(dict.fromkeys(row["case"]["over"] for row in rows)) and len(names) == len(growth_plot.PANELS)
    labels = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
    assert len(labels) == len(rows) and labels[0].startswith("bn, ResNet-8: ")
    boxes = [axes.get_tightbbox(figure.canvas.get_renderer()) for axes in figure.axes]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1600 and box.y1 <= 900 for box in boxes)
