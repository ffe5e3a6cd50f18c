"""Holds the report of a sweep to its promises: right intervals, nothing dropped in silence, one line for a mistake."""

import json
import math

import made_sweeps as made
import numpy as np
import pytest
from scipy import stats

from kalnorm_ref import cli
from kalnorm_ref.experiments import report
from kalnorm_ref.experiments.report.read import _run, read
from kalnorm_ref.experiments.report.statistics import best, estimate, groups, ordered, paired

rng = np.random.default_rng(3)


def test_an_interval_by_hand():
    """Errors 1, 2, 6: mean 3, s^2 = (4 + 1 + 9) / 2 = 7, t of 2 degrees of freedom 4.302653 (any table)."""
    found = estimate([1.0, 2.0, 6.0])
    assert found.n == 3 and found.mean == 3.0
    assert found.half == pytest.approx(4.302653 * math.sqrt(7 / 3), rel=1e-6)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_an_interval_is_that_of_scipy(n):
    values = rng.normal(12.0, 3.0, n)
    low, high = stats.t.interval(0.95, n - 1, np.mean(values), stats.sem(values))
    found = estimate(values.tolist())
    assert found.mean - found.half == pytest.approx(low, rel=1e-12)
    assert found.mean + found.half == pytest.approx(high, rel=1e-12)


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert estimate([7.5]) == (1, 7.5, None) and estimate([]) == (0, None, None)
    assert not estimate([7.5]).excludes_zero() and not estimate([]).excludes_zero()


def test_equal_values_tell_no_spread():
    assert estimate([0.1 + 0.2] * 3) == (3, 0.1 + 0.2, 0.0)
    same = {0: 12.4, 1: 30.1, 2: 8.2}, {0: 12.2, 1: 29.9, 2: 8.0}  # 0.2 apart but for rounding
    assert paired(*same) == (3, 0.2, 0.0) and not paired(*same).excludes_zero()


def test_a_paired_interval_is_that_of_scipy():
    ours, theirs = rng.normal(9.0, 2.0, 5), rng.normal(10.0, 2.0, 5)
    wanted = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    found = paired(dict(enumerate(ours)), dict(enumerate(theirs)))
    assert [found.mean - found.half, found.mean + found.half] == pytest.approx([*wanted], rel=1e-6)
    assert found.half != pytest.approx(estimate((ours - theirs.mean()).tolist()).half, rel=0.01)


def test_a_pair_is_a_seed_that_both_have_finished():
    ours, theirs = {0: 5.0, 1: 7.0, 2: math.nan, 4: 50.0}, {1: 6.5, 0: 4.0, 2: 1.0, 3: 99.0}
    assert paired(ours, theirs) == estimate([1.0, 0.5])
    assert paired(ours, {9: 1.0}).n == 0


def test_the_best_is_named_only_where_the_next_is_surely_worse():
    a, b, c = {0: 5.0, 1: 5.2, 2: 5.1}, {0: 6.0, 1: 6.3, 2: 6.05}, {0: 60.0, 1: 61.0, 2: 63.0}
    assert best({"b": b, "a": a, "c": c}) == "a"
    assert best({"a": a, "b": {0: 6.0, 1: 4.5, 2: 6.05}, "c": c}) is None  # c is surely worse, but b is the next
    assert best({"a": a, "b": {}, "c": c}) == "a"
    assert best({"a": a}) is None and best({}) is None
    assert best({"a": {0: 5.0}, "c": {0: 60.0}}) is None
    assert best({"d": {0: 1.0, 1: 1.1, 2: math.nan}, "a": a, "c": c}) == "a"  # a mean of survivors does not compete
    assert best({"d": {0: math.nan}}) is None


def test_groups_are_of_equal_settings_in_the_order_of_their_numbers():
    rows = [
        made.run("bn", 1, seed, id=f"{batch}.{seed}", gradient_batch_size=batch)
        for batch in (128, 32)
        for seed in (0, 1)
    ]
    runs = [_run("runs.csv", 2, {name: str(value) for name, value in row.items()}) for row in rows]
    found = groups(runs)
    assert [group.settings for group in found] == [{"gradient_batch_size": "32"}, {"gradient_batch_size": "128"}]
    assert [[run.seed for run in group.runs] for group in found] == [[0, 1], [0, 1]]
    assert sorted(["10", "9", "", "b", "0.5"], key=ordered) == ["", "0.5", "9", "10", "b"]


# ---- reading ----


def small(**other):
    return made.sweep(("bn", "kn-learned"), (1, 4), (0, 1), **other)


@pytest.mark.parametrize(
    ("error", "loss", "train_loss", "found"),
    [
        (12.5, 0.4, 0.3, 12.5),
        (90.2, math.nan, 0.3, math.nan),  # outputs that are nan have an argmax
        (90.2, 0.4, math.inf, math.nan),
        (math.nan, 0.4, 0.3, math.nan),
        (12.5, "", "", 12.5),
        ("", "", 0.3, None),
    ],
)
def test_what_counts_as_diverged(tmp_path, error, loss, train_loss, found):
    row = made.run("bn", 1, 0) | {"test_error_batch": error, "test_loss_batch": loss, "train_loss": train_loss}
    [run] = read([made.write(tmp_path, [row])]).runs
    np.testing.assert_equal(run.errors.get("batch"), found)


def test_several_sources_are_one_sweep_with_each_run_once(tmp_path):
    rows = small()
    again = [row | {"seconds": 99.0, "images_per_second": 1.0} for row in rows[2:4]]
    first = made.write(tmp_path / "a", rows[:4], made.epochs(rows[:4]))
    second = made.write(tmp_path / "b", [*again, *rows[4:]], made.epochs(rows[2:]), made.layers(rows[4:]))
    found = read([first, second])
    assert [run.id for run in found.runs] == [row["id"] for row in rows]
    assert found.runs[2].seconds == rows[2]["seconds"]
    assert len(found.epochs) == 6 * len(rows) and len(found.layers) == 7 * 4
    assert read([first, first]) == read([first])


def test_what_the_runs_were_made_with_and_which_failed(tmp_path):
    made.write(tmp_path, small())
    for name, threads in (("x", 2), ("y", 4)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        about = {"versions": {"numpy": "2.4.0"}, "processor": "abacus", "threads": threads, "other": 1}
        (tmp_path / "runs" / name / "result.json").write_text(json.dumps(about))
    (tmp_path / "failed").mkdir()
    for name in ("lost", small()[0]["id"]):
        (tmp_path / "failed" / f"{name}.json").write_text("{}")
    found = read([tmp_path])
    assert found.made_with == {"numpy": ["2.4.0"], "processor": ["abacus"], "threads": ["2", "4"]}
    assert found.failed == ("lost",)
    texts = [block.text for block in report.blocks_of(report.prepare([tmp_path], tmp_path / "out"))[:2]]
    assert texts[1] == "Ended in an error, and in no table: lost."


MISTAKES = [
    (lambda p: None, ["nowhere"], "nowhere: no such folder; expected one with runs.csv, as a sweep writes it"),
    (
        lambda p: None,
        ["empty"],
        "empty: no runs.csv in it; expected the folder of a sweep, or one with its flat tables",
    ),
    (lambda p: cut(p, "seed"), [], "src/runs.csv: no column seed"),
    (
        lambda p: cut(p, "test_error_"),
        [],
        "src/runs.csv: no column test_error_running, test_error_batch or test_error_pop",
    ),
    (
        lambda p: spoil(p, "test_error_batch", "many"),
        [],
        "src/runs.csv, line 3: test_error_batch is 'many'; expected a num",
    ),
    (
        lambda p: spoil(p, "test_error_batch", "100.5"),
        [],
        "src/runs.csv, line 3: test_error_batch is 100.5; expected 0 to 1",
    ),
    (
        lambda p: spoil(p, "statistics_batch_size", "0"),
        [],
        "src/runs.csv, line 3: statistics_batch_size is 0; expected at l",
    ),
    (
        lambda p: spoil(p, "statistics_batch_size", "1.5"),
        [],
        "src/runs.csv, line 3: statistics_batch_size is '1.5'; expect",
    ),
    (lambda p: spoil(p, "seed", ""), [], "src/runs.csv, line 3: seed is ''; expected an integer of at least 0"),
    (
        lambda p: spoil(p, "seed", "0"),
        [],
        "src/runs.csv: runs bn.1.0 and bn.1.1 have the same settings; expected a seed onc",
    ),
    (
        lambda p: spoil(p, "id", "bn.1.0"),
        [],
        "src/runs.csv: run bn.1.0 has seed '1', and '0' in src/runs.csv; expected the s",
    ),
    (lambda p: spoil(p, "id", "bn,1"), [], "src/runs.csv, line 3: other than "),
    (
        lambda p: (p / "runs.csv").write_text((p / "runs.csv").read_text().partition("\n")[0]),
        [],
        "src/runs.csv: no run; exp",
    ),
    (lambda p: (p / "runs.csv").write_bytes(b"id,\xff\n"), [], "src/runs.csv: not a table of comma-separated values ("),
    (lambda p: spoil(p, "id", "who", "epochs.csv"), [], "src/epochs.csv, line 3: id 'who' is not in runs.csv"),
    (lambda p: spoil(p, "epoch", "", "epochs.csv"), [], "src/epochs.csv, line 3: epoch is ''; expected an integer"),
    (lambda p: spoil(p, "epoch", "1", "epochs.csv"), [], "src/epochs.csv, line 3: id 'bn.1.0' has epoch 1 twice"),
    (
        lambda p: spoil(p, "test_loss", "x", "epochs.csv"),
        [],
        "src/epochs.csv, line 3: test_loss is 'x'; expected a number",
    ),
    (lambda p: cut(p, "gain", "layers.csv"), [], "src/layers.csv: no column gain"),
    (lambda p: (p / "result.json").write_text("[]"), [], "src/result.json: not the result of a run ("),
    (lambda p: None, ["src", "--against", "bm"], "against: 'bm' is not in src; there are bn, kn-learned"),
    (
        lambda p: blank(p, "test_error_batch"),
        ["src", "--panels", "batch"],
        "panels: 'batch' is not in src; there are running",
    ),
    (lambda p: blank(p, "test_error_"), [], "src/runs.csv: no error in any column test_error_...; expected some"),
    (lambda p: None, ["src", "--panels", "moving"], "argument --panels: invalid choice: 'moving' (choose from "),
    (
        lambda p: cut(p, "momentum"),
        ["other", "src"],
        "src/runs.csv: column momentum is in some of the sources only; expecte",
    ),
    (
        lambda p: spoil(p, "lr", "7"),
        ["other", "src"],
        "src/runs.csv: run bn.1.1 has lr '7', and '0.05' in other/runs.csv; e",
    ),
]


def cut(folder, start, name="runs.csv"):
    """Take out the columns whose name begins so."""
    lines = [line.split(",") for line in (folder / name).read_text().splitlines()]
    kept = [i for i, column in enumerate(lines[0]) if not column.startswith(start)]
    (folder / name).write_text("".join(",".join(line[i] for i in kept) + "\n" for line in lines))


def spoil(folder, column, value, name="runs.csv", lines_to_spoil=(2,)):
    """Put a value into a column of the second row."""
    lines = [line.split(",") for line in (folder / name).read_text().splitlines()]
    for line in lines_to_spoil:
        lines[line][lines[0].index(column)] = value
    (folder / name).write_text("".join(",".join(line) + "\n" for line in lines))


def blank(folder, start):
    """Empty the columns whose name begins so."""
    for column in [
        name for name in (folder / "runs.csv").read_text().splitlines()[0].split(",") if name.startswith(start)
    ]:
        spoil(folder, column, "", lines_to_spoil=range(1, 9))


@pytest.mark.parametrize(("change", "arguments", "message"), MISTAKES, ids=[message[:60] for *_, message in MISTAKES])
def test_a_mistake_is_one_line_and_nothing_written(tmp_path, monkeypatch, capsys, change, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("src", "other"):
        made.write(tmp_path / name, small(), made.epochs(small()), made.layers(small()))
    change(tmp_path / "src")
    assert cli.main(["report", *(arguments or ["src"]), "--out", "out"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"kalnorm-ref: error: {message}") and printed.err.count("\n") == 1
    assert printed.out == "" and not (tmp_path / "out").exists()


def test_from_a_sweep_to_its_report(tmp_path, capsys):
    out, page = str(tmp_path / "sweep"), str(tmp_path / "page")
    grid = ["--methods", "bn", "kn-learned", "--statistics-batch-sizes", "8", "--seeds", "0", "1", "--record", "epochs"]
    small = ["--model", "mlp", "--epochs", "2", "--train-images", "64", "--workers", "0", "--quiet"]
    assert cli.main(["sweep", *grid, *small, "--out", out]) == 0
    capsys.readouterr()
    assert cli.main(["report", out, "--out", page, "--panels", "running", "population"]) == 0
    printed = capsys.readouterr()
    pictures = "curves.png, error.png, estimators-epoch.png, estimators-layer.png, gain.png, inference.png"
    assert printed.out == f"{pictures}, report.html, report.md, summary.csv are in {page}\n" and printed.err == ""
    text = (tmp_path / "page" / "report.md").read_text()
    assert "4 runs, " in text and "| `kalnorm_ref` | " in text and "| `processor` | " in text
    assert text.count("### Test error in percent, ") == text.count("### Test error minus that of bn, ") == 3


def test_help_teaches(capsys):
    assert cli.main(["report", "--help"]) == 0
    printed = capsys.readouterr().out
    for word in (
        "kalnorm-ref report out/sweep --out out/report",
        "runs.csv",
        "summary.csv",
        "n = 1, no interval",
        "bold",
    ):
        assert word in printed
