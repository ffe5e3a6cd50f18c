"""The command `sweep`."""

import dataclasses
import json

from .. import backend
from ..experiments import settings as runs
from ..experiments import sweep
from ..experiments.sweep.clock import words
from ..experiments.sweep.grid import crossed, from_toml
from ..experiments.sweep.worker import RECORDS
from .common import METHOD_HELP, OPTIONS, InputError, add_run, command

EXAMPLES = """examples:
  kalnorm-ref sweep --methods bn kn-learned --statistics-batch-sizes 1 2 4 --seeds 0 1 2 --out out/small
  kalnorm-ref sweep grid.toml --dry-run                        what it would do, and how long that takes
  kalnorm-ref sweep grid.toml --out out/grid --workers 4       the same again after a stop goes on
  kalnorm-ref sweep grid.toml --out out/grid --scheduler tcp://10.0.0.1:8786

a grid in TOML:
  [base]                                   # shared by all tables
  data = "cifar10"
  epochs = 8
  [[grid]]                                 # lists are crossed, the last one varies fastest; the rest stays
  norm = ["bn", "brn", "kn-learned:gain=0.1"]
  statistics_batch_size = [1, 2, 4]
  seed = [0, 1, 2]
  [[grid]]                                 # a table more; a run that is in two tables is done once
  norm = "kn-analytic"
  depth = [8, 14, 20]
Keys: {fields}.

Every run is trained, then evaluated in each of the inference modes running, batch and population. --out receives
  runs/ID/result.json    all about a finished run; ID is made of what decides its bits: settings, backend, instruction
                         set and version. It is there whole or not at all
  failed/ID.json         the error of a run that failed, and its traceback; the sweep goes on, and exits with 1
  runs.csv, epochs.csv, layers.csv, learned.csv      the finished runs of this grid as flat tables, renewed after
                         each of them; kalnorm_ref/experiments/sweep/tables.py has their columns
A run is never done twice: kill the command or a worker at any moment and start it again. Several sweeps may share one
--out, on one machine or on a shared disk; each does what no other one is at. A run whose worker dies is tried
again, twice at most.

Workers: each needs this package and, unless it is digits, the data set on its own disk, in the same folder as here
(--data-dir), and holds it in memory; no disk is shared, since only this command writes. With --scheduler the workers
are Dask's, and its scheduler needs this package too (pip install 'kalnorm-ref[cluster]' gives all of it):
  dask scheduler
  dask worker tcp://10.0.0.1:8786 --nthreads 1 --nworkers 8     a worker process does one run at a time
Dask gives the run of a worker that died to another one, three times at most.
All must have kernels of the same instruction set: export {variable}=avx2 everywhere where machines differ.

"""


def add(commands):
    """Add the command and its options."""
    kept = "finished runs are in {out}, the same command goes on"
    names = ", ".join(field.name for field in dataclasses.fields(runs.Settings))
    epilog = EXAMPLES.format(fields=names, variable=backend.INSTRUCTION_SET)
    about = "Train and evaluate a grid of settings, on processes or a cluster; stopped at any moment, it goes on."
    sub = command(commands, "sweep", about, _prepare, kept, epilog + OPTIONS)
    add = sub.add_argument
    add("grid", nargs="?", metavar="FILE", help="a grid in TOML; without one, the options below describe it")
    about = f"{METHOD_HELP} (default: {' '.join(runs.METHODS)})"
    add("--methods", nargs="+", metavar="METHOD", help=about)
    for name in ("statistics-batch-sizes", "gradient-batch-sizes", "depths", "seeds"):
        what = "(default: 0)" if name == "seeds" else f"crossed, in place of --{name[:-1]}"
        add(f"--{name}", nargs="+", type=int, metavar="N", help=what)
    add("--workers", type=int, metavar="N", help="local processes (default: one for each core); 0: this process")
    add("--scheduler", metavar="ADDRESS", help="a Dask scheduler's, whose workers do the runs in place of local ones")
    about = "record of the estimators, see train --record: after the last epoch, all epochs or none (default: last)"
    add("--record", choices=RECORDS, default="last", help=about)
    add("--retry", action="store_true", help="do the runs again that have failed before")
    add("--dry-run", action="store_true", help="list the runs, those that are there, and the time; write nothing")
    add_run(sub, "out/sweep")
    sub.set_defaults(data=None)


CROSSED = {
    "methods": "norm",
    "statistics_batch_sizes": "statistics_batch_size",
    "gradient_batch_sizes": "gradient_batch_size",
    "depths": "depth",
    "seeds": "seed",
}


def _grid(arguments):
    """The Settings that the file or the options describe."""
    fields = [field.name for field in dataclasses.fields(runs.Settings)]
    given = {name: value for name in fields if (value := getattr(arguments, name, None)) is not None}
    lists = {name: value for name in CROSSED if (value := getattr(arguments, name)) is not None}
    if arguments.grid is not None:
        data_dir = given.pop("data_dir", None)
        for name in (*lists, *given):
            raise InputError(f"--{name.replace('_', '-')} beside {arguments.grid}; expected it in the file")
        return from_toml(arguments.grid, data_dir)
    table = {"norm": list(runs.METHODS)} | given
    for name, values in lists.items():
        if CROSSED[name] in given:
            option = name.replace("_", "-")
            raise InputError(f"--{option} and --{option[:-1]} are both there; expected one of them")
        table[CROSSED[name]] = values
    return crossed(table, "options")


def _prepare(arguments):
    cores = backend.available_cores()
    plan = sweep.prepare_sweep(_grid(arguments), arguments.out, arguments.record, arguments.retry)
    workers = min(cores, max(1, len(plan.open()))) if arguments.workers is None else arguments.workers
    runs.whole("workers", workers, 0)
    threads = arguments.threads
    if threads is None:
        threads = 1 if arguments.scheduler else max(1, cores // max(1, workers))

    def work():
        if arguments.dry_run:
            return _list(plan, max(1, workers), arguments.json)
        found = sweep.proceed_sweep(plan, workers, arguments.scheduler, threads, not arguments.quiet)
        if arguments.json:
            print(json.dumps(found, indent=2))
        else:
            finished, before, failed = found["finished"], found["finished_before"], len(found["failed"])
            print(f"{finished} of {len(found['runs'])} runs finished, {before} of them before; {failed} failed")
            print(f"runs.csv, epochs.csv, layers.csv and learned.csv are in {arguments.out}")
        return 1 if found["failed"] else 0

    return work


def _list(plan, workers, as_json):
    """Print what a sweep would do."""
    clock, todo = plan.clock(), plan.open()
    left = clock.left(list(todo.values()), workers=workers)
    if as_json:
        listed = [
            {"id": run, "state": plan.state(run), "seconds": clock.guess(settings)} | settings.to_json()
            for run, settings in plan.runs.items()
        ]
        print(json.dumps({"runs": listed, "open": len(todo), "workers": workers, "seconds": left}, indent=2))
        return
    for run in plan.runs:
        print(f"{run}  {plan.state(run):<8}  {plan.label(run)}")
    time = "unknown before one has finished" if left is None else f"about {words(left)} on {workers} workers"
    print(f"{len(plan.runs)} runs, {len(todo)} of them to do; time: {time}")
