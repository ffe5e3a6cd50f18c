"""Holds the folder of a sweep to its promises: failures stop nothing, results stay, locks are given back."""

import json
import math
import os
import platform
import time
from concurrent.futures import BrokenExecutor, Future

import pytest
from sweep_runs import small, stamps, table, until

from kalnorm_ref import cli
from kalnorm_ref.experiments import train
from kalnorm_ref.experiments.sweep import prepare_sweep, sweep
from kalnorm_ref.experiments.sweep.driver import Driver
from kalnorm_ref.experiments.sweep.executors import Processes, Serial
from kalnorm_ref.experiments.sweep.store import Store, address, identity
from kalnorm_ref.experiments.sweep.worker import task_of, work

FLAGS = ["--model", "mlp", "--epochs", "2", "--train-images", "320", "--statistics-batch-size", "8", "--quiet"]


# ---- failures ----


def failing(monkeypatch, seed):
    real = train.proceed

    def proceed(run, progress):
        if run.settings.seed == seed:
            raise MemoryError("no room\nfor it")
        return real(run, progress)

    monkeypatch.setattr(train, "proceed", proceed)


def test_a_failure_is_recorded_stops_nothing_and_is_retried_when_asked(tmp_path, monkeypatch, capsys):
    arguments = [
        "sweep",
        "--methods",
        "bn",
        "gn",
        "--seeds",
        "0",
        "1",
        "--workers",
        "0",
        "--out",
        str(tmp_path),
        *FLAGS,
    ]
    with monkeypatch.context() as patch:
        failing(patch, seed=0)
        assert cli.main(arguments) == 1
        assert "2 of 4 runs finished, 0 of them before; 2 failed" in capsys.readouterr().out
        assert cli.main(arguments) == 1  # skipped
    bad = [address(identity(run)) for run in small(["bn", "gn"], [0])]
    assert sorted(path.stem for path in (tmp_path / "failed").iterdir()) == sorted(bad)
    report = json.loads((tmp_path / "failed" / f"{bad[0]}.json").read_text())
    assert report["error"] == "MemoryError: no room for it" and "in proceed" in report["traceback"]
    assert report["settings"]["seed"] == 0 and len(table(tmp_path / "runs.csv")) == 2
    before = stamps(tmp_path)
    assert cli.main(arguments) == 1 and stamps(tmp_path) == before
    assert cli.main([*arguments, "--retry"]) == 0
    assert len(table(tmp_path / "runs.csv")) == 4 and list((tmp_path / "failed").iterdir()) == []
    assert {run: stamp for run, stamp in stamps(tmp_path).items() if run not in bad} == before


class Dying(Serial):
    """Loses its worker in every run of the method gn."""

    def __init__(self):
        self.given = []

    def submit(self, function, task):
        self.given.append(task["identity"]["settings"]["norm"])
        if self.given[-1] != "gn":
            return super().submit(function, task)
        future = Future()
        future.set_exception(BrokenExecutor("gone"))
        return future


def test_a_run_whose_worker_dies_is_tried_three_times(tmp_path):
    driver, executor = Driver(prepare_sweep(small(seeds=[0]), tmp_path), progress=False), Dying()
    driver.run(executor, lambda: 1)
    assert sorted(executor.given) == ["bn", "gn", "gn", "gn", "kn-learned"]
    assert list(driver.summary()["failed"].values()) == ["its worker died 3 times: killed, or out of memory"]
    assert [row["norm"] for row in table(tmp_path / "runs.csv")] == ["bn", "kn-learned"]
    assert os.listdir(tmp_path / "locks") == []


def test_a_worker_that_dies_takes_no_other_run_with_it():
    executor = Processes(2)
    try:
        slow, killed = executor.submit(time.sleep, 1), executor.submit(os._exit, 9)
        assert isinstance(killed.exception(60), BrokenExecutor)
        assert executor.submit(math.sqrt, 4).result(60) == 2  # a new process in its place
        assert slow.exception(60) is None
    finally:
        executor.shutdown(wait=False)


# ---- the store ----


def test_the_first_result_stays(tmp_path):
    store = Store(tmp_path)
    store.make()
    store.publish("a", {"x": 1})
    store.publish("a", {"x": 2})
    assert json.loads(store.path("a").read_text()) == {"x": 1} and os.listdir(tmp_path / "runs") == ["a"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_result_is_named(tmp_path, text):
    store = Store(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    store.path("a").write_text(text)
    with pytest.raises(ValueError, match=r"result\.json: damaged \(.*\); delete .*a to run it again\Z"):
        store.load("a")


def test_a_result_of_other_settings_is_named(tmp_path):
    run = small(["bn"], [0])
    sweep(run, tmp_path, workers=0, progress=False)
    (path,) = (tmp_path / "runs").glob("*/result.json")
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))
    with pytest.raises(ValueError, match=r"result\.json: the result of run \w+, not \w+; delete"):
        sweep(run, tmp_path, workers=0, progress=False)


def lock_of(tmp_path, text, age=0.0):
    store = Store(tmp_path)
    store.make()
    lock = tmp_path / "locks" / "a"
    lock.write_text(text)
    os.utime(lock, (time.time() - age,) * 2)
    return store


@pytest.mark.parametrize(
    ("owner", "age", "taken"),
    [
        (f"{platform.node()} 1", 0, False),  # init lives
        (f"{platform.node()} 1", 601, True),
        (f"{platform.node()} {2**22 + 1}", 0, True),  # more than Linux counts to
        (f"elsewhere {2**22 + 1}", 0, False),
        ("elsewhere 5", 590, False),
        ("elsewhere 5", 601, True),
        ("", 0, False),
        (f"{platform.node()} {os.getpid()}", 0, True),  # ours, of an earlier life
    ],
)
def test_a_lock_is_taken_over_when_its_owner_is_gone(tmp_path, owner, age, taken):
    store = lock_of(tmp_path, owner, age)
    assert store.busy("a") is not taken and store.take("a") is taken
    assert (tmp_path / "locks" / "a").read_text() == (store.owner if taken else owner)
    store.release("a")
    assert (tmp_path / "locks" / "a").exists() is not taken


def test_a_lock_that_is_held_is_touched_and_one_that_was_lost_is_left(tmp_path, monkeypatch):
    store = lock_of(tmp_path, "elsewhere 5", 601)
    assert store.take("a")
    lock = tmp_path / "locks" / "a"
    os.utime(lock, (0, 0))
    monkeypatch.setattr("kalnorm_ref.experiments.sweep.store.BEAT", 0.01)
    with store.alive():
        until(lambda: lock.stat().st_mtime > 0)
    assert not lock.exists()
    assert store.take("a")
    lock.write_text("elsewhere 6")
    store.release("a")
    assert lock.read_text() == "elsewhere 6"


def test_leftovers_of_a_killed_write_are_removed(tmp_path):
    store = Store(tmp_path)
    store.make()
    (tmp_path / "runs" / ".a.host.1").mkdir()
    (tmp_path / "runs" / ".b.host.1").mkdir()
    assert store.take("a") and os.listdir(tmp_path / "runs") == [".b.host.1"]


def test_a_run_that_another_sweep_is_at_is_waited_for(tmp_path):
    runs = small(["bn", "gn"], [0])
    run = address(identity(runs[0]))
    other, given = Store(tmp_path), []
    other.owner = "elsewhere 5"
    other.make()
    assert other.take(run)

    class Watched(Serial):
        def submit(self, function, task):
            given.append(task["identity"]["settings"]["norm"])
            other.publish(run, work(task_of(runs[0]))["result"])  # the other one ends in the meantime
            other.release(run)
            return super().submit(function, task)

    driver = Driver(prepare_sweep(runs, tmp_path), progress=False)
    driver.run(Watched(), lambda: 1)
    assert given == ["gn"] and driver.summary()["finished"] == 2 and len(table(tmp_path / "runs.csv")) == 2
