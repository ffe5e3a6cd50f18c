"""The whole run: every part in turn, from one plan to one dict of results."""

import contextlib
import datetime
import importlib.util
import os
import platform
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from .. import backend
from . import cases
from .turns import Pace, measure, started


class Plan(NamedTuple):
    """What to measure, and how."""

    parts: tuple = cases.DEFAULT
    threads: int = 1
    backend: str = "cython"
    peer: str = "torch"  # or "none"
    quick: bool = False
    pace: Pace = Pace()

    @property
    def sides(self):
        return ("ours",) if self.peer == "none" else ("ours", self.peer)


def installed(peer):
    """Whether the peer is there to compare with."""
    return importlib.util.find_spec(peer) is not None


def run(plan, progress=True, finished=lambda results: None):
    """Measure a Plan; returns the results, a dict that JSON can hold. finished(results) is called after every part."""
    work = {part: cases.cases(part, plan.quick) for part in plan.parts}
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(_bar(1 + sum(map(len, work.values())), progress))
        results = {"complete": False, "machine": machine(plan), "settings": settings(plan)}
        workers = {side: stack.enter_context(started(side, plan.threads, plan.backend)) for side in plan.sides}
        for worker in workers.values():
            results["machine"] |= worker.versions
        ours = {"ours": workers["ours"]}
        results["roofline"] = roofline(measure(ours, cases.SMALL_ROOFLINE if plan.quick else cases.ROOFLINE, plan.pace))
        bar.update()
        for part in plan.parts:
            bar.set_description_str(part)
            results[part] = []
            for case in work[part]:
                results[part].append(_row(part, case, workers if part in cases.PEERED else ours, plan))
                bar.update()
            results["complete"] = part == plan.parts[-1]
            finished(results)
    return results


def _bar(total, progress):
    return tqdm(total=total, desc="roofline", unit="case", disable=None if progress else True, dynamic_ncols=True)


def _row(part, case, workers, plan):
    if part == "memory":
        return {"case": case, "columns": {side: _memory(side, case, plan) for side in plan.sides}}
    row = measure(workers, case, plan.pace)
    if part == "growth":
        row["fit"] = line(case["sizes"], [column["median"] for column in row["columns"].values()])
    return row


def _memory(side, case, plan):
    """Resident bytes of a fresh process before its steps and at most."""
    with started(side, plan.threads, plan.backend) as worker:
        return worker.ask(memory=case, calls=cases.MEMORY_CALLS)


def line(x, y):
    """The straight line of least squares through y over x: slope, intercept, and R^2, the part of y's variance in it.

    R^2 is 1 for a constant y, of which the line leaves nothing.
    """
    x, y = np.asarray(x), np.asarray(y)
    slope, intercept = (float(p) for p in np.polyfit(x, y, 1))
    left, whole = ((y - intercept - slope * x) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    return {"slope": slope, "intercept": intercept, "r2": float(1 - left / whole) if whole else 1.0}


def roofline(row):
    """What the machine can do: operations a second of a matrix product, bytes a second, read and written, of a copy."""
    case, columns = row["case"], row["columns"]
    return row | {
        "flops": 2 * case["size"] ** 3 / columns["ours sgemm"]["median"],
        "bandwidth": 2 * case["mebibytes"] * 2**20 / columns["ours copy"]["median"],
    }


def machine(plan):
    """Where and when; the versions come from the processes that compute."""
    return {
        "cpu": cpu(),
        "cores": backend.available_cores(),
        "threads": plan.threads,
        "system": f"{platform.system()} {platform.machine()}",
        "load": [round(load, 2) for load in os.getloadavg()],
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "backend": plan.backend,
    }


def cpu():
    """The processor's name, as Linux tells it, or else Python."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def settings(plan):
    """How the figures were measured."""
    fields = plan._asdict() | {"pace": plan.pace._asdict()}
    return fields | {"parts": list(plan.parts)}
