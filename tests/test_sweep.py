"""Holds sweeps to their promises: results and tables that agree, the same bits everywhere, nothing done twice."""

import json
import math
import os
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
from sweep_runs import METHODS, TIMES, bits, results, small, stamps, table

import kalnorm_ref as kr
from kalnorm_ref import backend as backends
from kalnorm_ref import cli
from kalnorm_ref.bench.suite import cpu
from kalnorm_ref.experiments import record, settings, train
from kalnorm_ref.experiments.compare import versions
from kalnorm_ref.experiments.evaluate import evaluate_modes, restore
from kalnorm_ref.experiments.sweep import sweep
from kalnorm_ref.experiments.sweep.clock import Clock
from kalnorm_ref.experiments.sweep.grid import crossed
from kalnorm_ref.experiments.sweep.store import address, identity
from kalnorm_ref.experiments.sweep.tables import EPOCHS, LAYERS, LEARNED, RUNS, VERSIONS

FLAGS = ["--model", "mlp", "--epochs", "2", "--train-images", "320", "--statistics-batch-size", "8", "--quiet"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A sweep of six runs, done in this process."""
    out = tmp_path_factory.mktemp("sweep") / "new" / "out"
    return out, sweep(small(), out, workers=0, progress=False)


def test_a_result_holds_what_train_evaluate_and_record_say(done, tmp_path):
    out, _ = done
    (chosen,) = small(["kn-learned"], [1])
    result = results(out)[address(identity(chosen))]
    rows = train.train(chosen, tmp_path, progress=False, record=True)
    assert [row["test_loss"] for row in result["epochs"]] == [row["test_loss"] for row in rows]
    modes, gap = evaluate_modes(restore(tmp_path), progress=False)
    assert result["evaluations"] == modes and result["population_gap"] == gap
    recorded = [row for row in record.read(tmp_path / record.NAME, 2) if row["epoch"] == 2]
    assert result["layers"] == [{name: value for name, value in row.items() if value is not None} for row in recorded]
    assert result["settings"] | {"data_dir": None} == chosen.to_json() and result["recorded"] == "last"
    assert set(result) >= {"versions", "processor", "seconds", "images_per_second", "learned", "backend", "version"}


def test_the_tables_hold_the_runs_in_the_order_of_the_grid_to_the_last_bit(done):
    out, summary = done
    stored, order = results(out), [address(identity(run)) for run in small()]
    assert (summary["finished"], summary["finished_before"], summary["failed"]) == (6, 0, {})
    assert [run["id"] for run in summary["runs"]] == order
    runs, epochs, layers = (table(out / f"{name}.csv") for name in ("runs", "epochs", "layers"))
    assert [row["id"] for row in runs] == order
    assert [(row["id"], row["epoch"]) for row in epochs] == [(run, str(epoch)) for run in order for epoch in (1, 2)]
    for row in runs:
        result = stored[row["id"]]
        modes = {entry["inference"]: entry for entry in result["evaluations"]}
        assert tuple(row) == RUNS and row["norm"] == result["settings"]["norm"] and row["depth"] == ""
        assert float(row["train_loss"]) == result["epochs"][-1]["train_loss"]
        for mode in ("running", "batch", "population"):
            assert float(row[f"test_loss_{mode}"]) == modes[mode]["test_loss"]
            assert float(row[f"test_error_{mode}"]) == modes[mode]["test_error"]
        assert [float(row[name]) for name in TIMES] == [result[name] for name in TIMES]
        assert [row[name] for name in ("processor", "instruction_set")] == [cpu(), backends.instruction_set()]
        assert {name: row[name] for name in VERSIONS} == versions()
    for row, wanted in zip(layers, [row for run in order for row in stored[run]["layers"]], strict=True):
        assert tuple(row) == LAYERS
        assert {name: float(row[name]) for name in LAYERS[3:] if row[name]} == {
            n: wanted[n] for n in LAYERS[3:] if n in wanted
        }
    law = [row for row in table(out / "learned.csv") if row["transition_mean"]]
    assert tuple(law[0]) == LEARNED and {stored[row["id"]]["settings"]["norm"] for row in law} == {"kn-learned"}
    for row in law:
        (layer,) = (entry for entry in stored[row["id"]]["learned"] if entry["layer"] == row["layer"])
        cells = {f"{name}_{part}": value for name in layer.keys() - {"layer"} for part, value in layer[name].items()}
        assert cells == {name: float(row[name]) for name in LEARNED[2:]}
    assert tuple(epochs[0]) == EPOCHS
    assert {row["id"] for row in layers} == {run for run in order if stored[run]["settings"]["norm"] != "gn"}


def test_a_second_sweep_does_nothing_again_and_its_tables_hold_its_own_grid(done, tmp_path):
    out, _ = done
    before = stamps(out)
    runs = small(["gn", "bn"], [1])
    summary = sweep(runs, out, workers=0, progress=False)
    assert (summary["finished"], summary["finished_before"]) == (2, 2)
    assert [row["id"] for row in table(out / "runs.csv")] == [address(identity(run)) for run in runs]
    assert {row["id"] for row in table(out / "layers.csv")} == {address(identity(runs[1]))}
    sweep(small(), out, workers=0, progress=False)
    assert stamps(out) == before and sorted(os.listdir(out / "locks")) == []


def test_a_run_that_diverges_is_a_result_with_nan(tmp_path):
    summary = sweep(small(["bn"], [0], lr=1e30), tmp_path, workers=0, progress=False)
    (row,) = table(tmp_path / "runs.csv")
    assert summary["failed"] == {} and row["train_loss"] == row["test_loss_batch"] == "nan"
    assert [line["train_loss"] for line in table(tmp_path / "epochs.csv")] == ["nan", "nan"]
    assert all(
        line["used_mean_error"] == "nan" and line["prior_mean_error"] == "" for line in table(tmp_path / "layers.csv")
    )
    (result,) = results(tmp_path).values()
    assert result["epochs"][0]["train_loss"] is None


def test_the_bits_are_the_same_in_this_process_and_in_others_at_any_number_of_threads(done, tmp_path):
    before = backends.get_num_threads()
    sweep(small(), tmp_path / "a", workers=2, threads=2, progress=False)
    sweep(small(), tmp_path / "b", workers=0, threads=3, progress=False)
    assert bits(tmp_path / "a") == bits(tmp_path / "b") == bits(done[0]) != {}
    assert backends.get_num_threads() == before
    assert {result["threads"] for result in results(tmp_path / "b").values()} == {3}


def test_any_executor_will_do(done, tmp_path):
    with ThreadPoolExecutor(2) as executor:
        sweep(small(), tmp_path, workers=2, progress=False, executor=executor)
    assert bits(tmp_path) == bits(done[0])


def test_the_comparison_of_bits_sees_the_last_one(done, tmp_path):
    sweep(small(["bn"], [0]), tmp_path, workers=0, progress=False)
    (path,) = (tmp_path / "runs").glob("*/result.json")
    run, result = path.parent.name, json.loads(path.read_text())
    assert bits(tmp_path)[run] == bits(done[0])[run]
    result["epochs"][0]["test_loss"] = math.nextafter(result["epochs"][0]["test_loss"], 9)
    path.write_text(json.dumps(result))
    assert bits(tmp_path)[run] != bits(done[0])[run]


def test_a_record_of_all_epochs_changes_no_bit(done, tmp_path):
    sweep(small(["kn-learned"], [0]), tmp_path, workers=0, record="epochs", progress=False)
    ((run, result),) = bits(tmp_path).items()
    other = bits(done[0])[run]
    assert [row["epoch"] for row in result["layers"]] == [1, 1, 2, 2]
    assert result["layers"][2:] == other["layers"]
    assert {n: v for n, v in result.items() if n not in ("layers", "recorded")} == {
        n: v for n, v in other.items() if n not in ("layers", "recorded")
    }


def test_a_finished_run_keeps_its_record_and_the_user_is_told(tmp_path, capsys):
    runs = small(["bn"], [0])
    sweep(runs, tmp_path, workers=0, record="none", progress=False)
    before = stamps(tmp_path)
    sweep(runs, tmp_path, workers=0, record="epochs")
    assert "those finished before keep their record; in 1 it is less than epochs" in capsys.readouterr().err
    assert stamps(tmp_path) == before and table(tmp_path / "layers.csv") == []


def test_the_numpy_backend_has_runs_of_its_own(tmp_path):
    with kr.use_backend("numpy"):
        sweep(small(["bn"], [0]), tmp_path, workers=1, progress=False)
    ((run, result),) = results(tmp_path).items()
    assert result["backend"] == "numpy" and run == address({n: result[n] for n in identity(settings.make())})
    assert table(tmp_path / "runs.csv")[0]["instruction_set"] == ""  # it runs none


# ---- the command ----


def test_a_dry_run_lists_what_is_there_and_writes_nothing(done, capsys):
    out, _ = done
    before = sorted(out.rglob("*"))
    arguments = [
        "sweep",
        "--methods",
        *METHODS,
        "--seeds",
        "0",
        "2",
        "--dry-run",
        "--workers",
        "2",
        "--out",
        str(out),
        *FLAGS,
    ]
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["finished", "open"] * 3
    assert lines[1].split()[0] == address(identity(small(["bn"], [2])[0])) and lines[1].endswith("norm bn, seed 2")
    assert lines[-1].startswith("6 runs, 3 of them to do; time: about ") and lines[-1].endswith(" on 2 workers")
    assert cli.main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["open"] == 3 and told["seconds"] > 0 and told["runs"][1]["state"] == "open"
    assert cli.main([*arguments[:-1], "--out", str(out / "none")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "6 runs, 6 of them to do; time: unknown before one has finished"
    assert sorted(out.rglob("*")) == before


def test_progress_counts_the_runs_and_json_is_a_summary(tmp_path, capsys):
    arguments = ["sweep", "--methods", "bn", "--seeds", "0", "1", "--workers", "0", "--out", str(tmp_path), *FLAGS[:-1]]
    assert cli.main([*arguments, "--json"]) == 0
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert [line.split()[0] for line in lines] == ["0/2", "1/2", "2/2"] and lines[2].endswith("time left: 0 s")
    assert lines[1].split("  ")[1].startswith("norm bn, seed 0: test error ")
    assert json.loads(printed.out)["finished"] == 2


def test_help_teaches_with_examples_and_a_grid(capsys):
    assert cli.main(["sweep", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n  kalnorm-ref sweep") == 4 and "\n  [[grid]]" in shown
    grid = shown.split("a grid in TOML:\n")[1].split("Keys: ")[0]
    (found,) = [crossed(tomllib.loads(grid)["base"] | one, "help") for one in tomllib.loads(grid)["grid"][:1]]
    assert len(found) == 27


def test_the_clock_takes_the_runs_most_alike():
    clock, chosen = Clock(), settings.make(norm="bn")
    assert clock.left([chosen]) is None and clock.left([]) == 0
    clock.saw(settings.make(norm="bn", epochs=6), 30.0)
    assert clock.guess(chosen) == pytest.approx(60)
    clock.saw(settings.make(norm="gn", statistics_batch_size=2), 600.0)
    assert clock.guess(chosen) == pytest.approx(60)
    assert clock.guess(settings.make(norm="gn")) == pytest.approx(600)
    assert clock.left([chosen] * 4, [(chosen, 50.0)], 2) == pytest.approx((4 * 60 + 10) / 2)
    assert clock.left([chosen], (), 8) == pytest.approx(60)
    deep = [settings.make("cifar10", depth=depth) for depth in (8, 14)]
    clock.saw(deep[0], 80.0)
    assert clock.guess(deep[1]) == pytest.approx(140)


def test_without_dask_the_error_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    assert (
        cli.main(["sweep", "--methods", "bn", "--scheduler", "tcp://x:1", "--out", str(tmp_path / "out"), *FLAGS]) == 2
    )
    assert "install it with: pip install 'kalnorm-ref[cluster]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
