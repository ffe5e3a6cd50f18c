"""A grid of runs, each done once whatever is killed in between, on any executor, with the same bits on all of them.

The driver (driver.py) hands the runs out, and alone writes: a folder for each finished run (store.py), the flat tables
(tables.py) and what failed. A worker (worker.py) computes, wherever executors.py has it. grid.py makes the settings out
of a TOML file or flags, clock.py tells how long the rest takes.
"""

import contextlib
from typing import NamedTuple

from .. import train
from ..settings import whole
from .clock import Clock
from .driver import Driver
from .executors import opened
from .grid import joined
from .store import Store, address, identity
from .tables import SETTINGS
from .worker import RECORDS

__all__ = ["Sweep", "prepare_sweep", "proceed_sweep", "sweep"]

ALIKE = ("data", "data_dir", "model", "depth", "norm", "statistics_batch_size", "gradient_batch_size", "brn_ramp")
ALIKE += ("train_images", "dtype", "inference")  # these decide whether a network takes its data


class Sweep(NamedTuple):
    """A sweep that is ready to run: its input has been looked at, and nothing has been written."""

    runs: dict  # id: Settings, in the order of the grid
    results: dict  # id: what result.json holds, of the runs that are there
    failures: dict  # id: what DIR/failed holds
    store: Store
    record: str
    retry: bool
    varied: tuple  # names of the settings in which the runs differ, and the method

    def open(self):
        """{id: Settings} of the runs that are to be done."""
        skipped = self.results if self.retry else self.results | self.failures
        return {run: settings for run, settings in self.runs.items() if run not in skipped}

    def state(self, run):
        """ "finished", "failed" or "open", as it was at the beginning."""
        return "finished" if run in self.results else "failed" if run in self.failures else "open"

    def label(self, run):
        """What tells a run from the others, in words."""
        return ", ".join(f"{name.replace('_', ' ')} {getattr(self.runs[run], name)}" for name in self.varied)

    def clock(self):
        """A Clock that has seen the finished runs."""
        clock = Clock()
        for run, result in self.results.items():
            clock.saw(self.runs[run], result["seconds"])
        return clock


def sweep(runs, out, workers=1, scheduler=None, threads=1, record="last", retry=False, progress=True, executor=None):
    """Do every run that `out` does not hold yet; returns the summary: finished, failed ({id: error}), runs.

    runs: Settings, in the order of the tables. out: a folder, which receives what store.py and tables.py describe.
    workers: local processes, 0 for this one; scheduler: the address of a Dask scheduler instead. threads: of the
    kernels in each worker. executor: any other concurrent.futures.Executor, given `workers` runs at a time; one that
    breaks for good ends the sweep. record: the estimators (experiments.record) after the "last" epoch, all "epochs" or
    "none"; runs that are there keep theirs. retry: do what has failed before as well.
    Raises: ValueError for settings or data that cannot be run, before any work.
    """
    return proceed_sweep(prepare_sweep(runs, out, record, retry), workers, scheduler, threads, progress, executor)


def prepare_sweep(runs, out, record="last", retry=False):
    """Look at the settings, the data and what is there; write nothing. Returns a Sweep, for `proceed_sweep`."""
    if record not in RECORDS:
        raise ValueError(f"record is {record!r}; expected one of {', '.join(RECORDS)}")
    store, named = Store(out), {}
    for settings in joined([runs]):
        named.setdefault(address(identity(settings)), settings)
    if not named:
        raise ValueError("runs is empty; expected at least one")
    results = {run: store.load(run) for run in named if store.finished(run)}
    failures = {run: report for run in named if run not in results and (report := store.failure(run)) is not None}
    varied = [n for n in SETTINGS if n == "norm" or len({getattr(settings, n) for settings in named.values()}) > 1]
    plan = Sweep(named, results, failures, store, record, retry, tuple(varied))
    _try_out(plan.open().values())
    return plan


def _try_out(runs):
    """Build each network once, and send a statistics batch through it; ValueError for what it does not take."""
    tried, loaded, dataset = set(), None, None
    for settings in sorted(runs, key=lambda settings: str(_data_of(settings))):
        key = tuple(getattr(settings, name) for name in ALIKE)
        if key not in tried:
            if _data_of(settings) != loaded:
                dataset, loaded = train.load_data(settings), _data_of(settings)
            train.prepare(settings, dataset=dataset)
            tried.add(key)


def _data_of(settings):
    return settings.data, settings.data_dir, settings.train_images, settings.dtype


def proceed_sweep(plan, workers=1, scheduler=None, threads=1, progress=True, executor=None):
    """Run a Sweep; see `sweep`. After Ctrl-C, or a kill at any moment, the same call goes on where it was."""
    workers, threads = whole("workers", workers, 0), whole("threads", threads, 1)
    driver = Driver(plan, threads, progress)
    given = None if executor is None else contextlib.nullcontext((executor, lambda: max(1, workers)))
    with given or opened(workers, scheduler) as (place, room):
        driver.run(place, room)
    return driver.summary()
