"""Holds sweeps to their promises under kill -9 of driver, worker and Dask worker: no run is lost, none repeated."""

import os
import re
import signal

import pytest
from sweep_runs import bits, gone, needs_dask, results, small, stamps, start, table, until, workers

from kalnorm_ref import cli
from kalnorm_ref.experiments.sweep import executors, sweep

SEEDS = tuple(range(8))
LONGER = {"epochs": 20}
GRID = """
[base]
model = "mlp"
train_images = 320
statistics_batch_size = 8
epochs = 20
[[grid]]
norm = ["bn", "kn-learned"]
seed = [0, 1, 2, 3, 4, 5, 6, 7]
"""
DONE = re.compile(r"^\d+/16  (norm \S+, seed \d+): test error", re.MULTILINE)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """The same runs in one process, never stopped."""
    out = tmp_path_factory.mktemp("whole")
    sweep(small(["bn", "kn-learned"], SEEDS, **LONGER), out, workers=0, progress=False)
    return bits(out)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "grid.toml").write_text(GRID)
    return tmp_path


def logged(folder, *names):
    """The runs that the drivers say they have done."""
    return [run for name in names for run in DONE.findall((folder / name).read_text())]


def complete(folder, wanted):
    """Everything is there, in all places, with the bits of the sweep that nobody stopped, and nothing else."""
    out = folder / "out"
    assert bits(out) == wanted
    assert {row["id"] for row in table(out / "runs.csv")} == set(wanted) and len(table(out / "runs.csv")) == 16
    assert len(table(out / "epochs.csv")) == 16 * 20
    assert sorted(os.listdir(out)) == ["epochs.csv", "failed", "layers.csv", "learned.csv", "locks", "runs", "runs.csv"]
    assert sorted(os.listdir(out / "runs")) == sorted(wanted)
    assert os.listdir(out / "failed") == os.listdir(out / "locks") == []


def sweeping(folder, name, *more):
    return start("sweep", "grid.toml", "--out", "out", *more, folder=folder, name=name)


def killed(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_the_driver_killed_loses_no_finished_run_and_repeats_none(folder, wanted):
    out = folder / "out"
    process = sweeping(folder, "first", "--workers", "2")
    until(lambda: len(stamps(out)) >= 3, process)
    below = workers(process)
    killed(process)
    until(lambda: below and all(map(gone, below)))  # the workers end by themselves
    seen = stamps(out)
    assert 3 <= len(seen) < 16 and os.listdir(out / "locks") != []  # of the runs it was at
    process = sweeping(folder, "second", "--workers", "1")
    said = process.communicate(timeout=60)[0]
    assert said.startswith(f"16 of 16 runs finished, {len(seen)} of them before; 0 failed")
    assert process.returncode == 0 and stamps(out).items() >= seen.items()
    assert len(logged(folder, "second")) == 16 - len(seen)
    done = logged(folder, "first", "second")
    assert len(done) == len(set(done)) <= 16
    complete(folder, wanted)


def test_a_worker_killed_costs_one_more_try(folder, wanted):
    out = folder / "out"
    process = sweeping(folder, "log", "--workers", "2")
    until(lambda: len(stamps(out)) >= 2, process)
    os.kill(workers(process)[0], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == 0
    done = logged(folder, "log")
    assert len(done) == len(set(done)) == 16
    complete(folder, wanted)


def test_two_sweeps_share_the_runs_and_one_that_is_killed_leaves_its_own_to_the_other(folder, wanted):
    both = [sweeping(folder, name, "--workers", "0") for name in ("first", "second")]
    until(lambda: logged(folder, "first") and logged(folder, "second"), both[0])
    killed(both[0])
    both[1].communicate(timeout=60)
    assert both[1].returncode == 0
    shares = [logged(folder, name) for name in ("first", "second")]
    assert all(shares) and len(set(shares[0] + shares[1])) == len(shares[0]) + len(shares[1]) <= 16
    complete(folder, wanted)


def test_ctrl_c_keeps_what_is_finished_and_leaves_no_process_or_lock(folder):
    (folder / "grid.toml").write_text(GRID.replace("epochs = 20", "epochs = 100"))
    out = folder / "out"
    process = sweeping(folder, "log", "--workers", "2")
    until(lambda: len(stamps(out)) >= 1 and len(workers(process)) == 2, process)
    below = workers(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    lines = (folder / "log").read_text().splitlines()
    assert process.returncode == 130, lines
    assert all(map(gone, below)), lines
    assert lines[-1] == "kalnorm-ref: stopped; finished runs are in out, the same command goes on"
    assert {row["id"] for row in table(out / "runs.csv")} == set(results(out))
    assert 1 <= len(results(out)) < 16 and os.listdir(out / "locks") == []


@pytest.fixture
def cluster(folder):
    """A real scheduler and two workers, processes of their own: its address and the workers."""
    processes = []

    def dask(what, *more):
        module = f"distributed.cli.dask_{what}"
        processes.append(start(*more, "--no-dashboard", module=module, folder=folder, name=f"{what}{len(processes)}"))
        return processes[-1]

    try:
        scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", "scheduler.json")
        until((folder / "scheduler.json").exists, scheduler)
        address = re.search(r"Scheduler at:\s+(tcp://\S+)", (folder / "scheduler0").read_text())[1]
        options = ("--nthreads", "1", "--no-nanny", "--local-directory", str(folder / "dask"))
        yield address, [dask("worker", address, *options) for _ in range(2)]
    finally:
        for process in reversed(processes):
            process.kill()
            process.communicate()


@needs_dask
def test_a_dask_worker_killed_costs_nothing_but_time(folder, wanted, cluster):
    address, both = cluster
    out = folder / "out"
    for index, worker in enumerate(both):
        until(lambda name=f"worker{index + 1}": "Registered to" in (folder / name).read_text(), worker)
    process = sweeping(folder, "log", "--scheduler", address)
    until(lambda: len(stamps(out)) >= 3, process)
    both[0].kill()
    process.communicate(timeout=60)
    assert process.returncode == 0, (folder / "log").read_text()
    done = logged(folder, "log")
    assert len(done) == len(set(done)) == 16
    complete(folder, wanted)


@needs_dask
def test_a_scheduler_that_is_not_there_is_one_line(folder, monkeypatch, capsys):
    monkeypatch.setattr(executors, "CONNECT", 0.5)
    monkeypatch.chdir(folder)
    assert cli.main(["sweep", "grid.toml", "--out", "out", "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert not (folder / "out").exists()
    error = capsys.readouterr().err
    assert error.startswith("kalnorm-ref: error: no Dask scheduler at tcp://127.0.0.1:9 (") and error.count("\n") == 1
