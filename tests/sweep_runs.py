"""Small sweeps, what they leave behind without their times, and processes to kill, for the tests of `sweep`."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kalnorm_ref as kr
from kalnorm_ref.experiments import settings

SMALL = {"model": "mlp", "epochs": 2, "train_images": 320, "statistics_batch_size": 8}
METHODS = ("bn", "kn-learned", "gn")
TIMES = ("seconds", "images_per_second")
DEADLINE = 60


def small(norms=METHODS, seeds=(0, 1), **more):
    return [settings.make(norm=norm, seed=seed, **SMALL | more) for norm in norms for seed in seeds]


def results(out):
    """{id: result} of a folder."""
    return {path.parent.name: json.loads(path.read_text()) for path in (out / "runs").glob("*/result.json")}


def bits(out):
    """{id: result} without what may differ between two machines or two days."""
    free = {"versions", "processor", "host", "threads", *TIMES}
    found = {}
    for run, result in results(out).items():
        epochs = [{name: value for name, value in row.items() if name not in TIMES} for row in result["epochs"]]
        found[run] = {name: value for name, value in result.items() if name not in free} | {"epochs": epochs}
    return found


def table(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def stamps(out):
    """{id: when its result was written}."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (out / "runs").glob("*/result.json")}


def start(*arguments, module="kalnorm_ref", folder, name="log"):
    """A process with its stderr in folder/name."""
    environment = os.environ | {"PYTHONPATH": str(Path(kr.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with (folder / name).open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=log,
        )


def until(condition, process=None):
    """Wait until the condition holds; it has to, while the process lives."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert process is None or process.poll() is None, "the process ended before"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers(process):
    """Ids of the worker processes of a driver, and of those of a driver that is gone."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("finds processes in /proc")
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == process.pid and "spawn_main" in command and "--multiprocessing-fork" in command:
            found.append(int(path.name))
    return found


def gone(pid):
    """Whether a process has ended, even if nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="Dask is not installed: pip install 'kalnorm-ref[cluster]'"
)
