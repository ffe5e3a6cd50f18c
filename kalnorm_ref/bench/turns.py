"""Two processes that take turns, so that slow drift of the machine hits both, and what is kept of their times."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

GIVEN = Path("/proc/self/environ")  # what this process was started with
STEADY = 0.2  # of the median, what the quartiles may be apart; beyond, the case is measured again
LONGEST_TURN = 2000  # calls


class Pace(NamedTuple):
    """How long to measure."""

    seconds: float = 2.0  # for each column of a case, without the warm-up
    repeats: int | None = None  # counted calls of each column, in place of seconds
    turns: int = 6  # of each column
    tries: int = 4  # measurements of a case that is not steady

    def calls(self, once):
        """Counted calls in one turn, of a work whose call takes `once` seconds."""
        if self.repeats is not None:
            return -(-self.repeats // self.turns)
        return max(1, min(LONGEST_TURN, round(self.seconds / self.turns / max(once, 1e-9))))


class Worker:
    """A process of `worker`, and the one way to speak to it: a line there, a line back."""

    def __init__(self, side, process):
        self.side, self.process = side, process
        self.versions = self._answer()["versions"]

    def ask(self, **request):
        """The answer to a request. RuntimeError for a mistake there, ChildProcessError for a process that ended."""
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise ChildProcessError(f"the process that runs {self.side} ended with exit code {self.process.wait()}")
        answer = json.loads(line)
        if "missing" in answer:
            raise ImportError(f"{self.side} cannot be imported: {answer['missing']}")
        if "error" in answer:
            raise RuntimeError(f"in the process that runs {self.side}:\n{answer['error']}")
        return answer


@contextlib.contextmanager
def started(side, threads, backend):
    """A Worker for `side`, "ours" or "torch", which ends with the context."""
    script = str(Path(__file__).with_name("worker.py"))
    command = [sys.executable, script, side, str(threads), backend]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # a session of its own: Ctrl-C reaches this process alone, which then ends that one
    with subprocess.Popen(command, env=user_environment(), start_new_session=True, **pipes) as process:
        try:
            yield Worker(side, process)
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # of a request that it could not take any more
                process.stdin.close()


def user_environment():
    """The environment without what was set in this process for OpenMP, as backend.py does on import.

    On a system without /proc all settings of OpenMP are left out.
    """
    try:
        given = {entry.partition(b"=")[0].decode() for entry in GIVEN.read_bytes().split(b"\0")}
    except OSError:
        given = set()
    return {
        name: value for name, value in os.environ.items() if name in given or not name.startswith(("OMP_", "GOMP_"))
    }


def measure(workers, case, pace):
    """Time a case in each of `workers`, {side: Worker}; measured again while it is not steady, the steadiest is kept.

    Returns: {"case", "columns": {"side name": summary of its times}, "spread", "tries"}.
    """
    once = {(side, name): s for side, w in workers.items() for name, s in w.ask(prepare=case)["seconds"].items()}
    found = []
    while not found or (found[-1]["spread"] > STEADY and len(found) < pace.tries):
        times = take_turns(workers, once, pace)
        columns = {" ".join(column): summary(seconds) for column, seconds in times.items()}
        spread = max(column["spread"] for column in columns.values())
        found.append({"case": case, "columns": columns, "spread": spread})
    return min(found, key=lambda row: row["spread"]) | {"tries": len(found)}


def take_turns(workers, once, pace):
    """Seconds of the counted calls of each column (side, name): a turn of each, then the next turn of each."""
    times = {column: [] for column in once}
    for _ in range(pace.turns):
        for (side, name), seconds in times.items():
            seconds += workers[side].ask(turn=name, repeats=pace.calls(once[side, name]))["seconds"]
    return times


def summary(seconds):
    """Median, quartiles and number of times, and how far the quartiles are apart, in medians."""
    low, median, high = (float(q) for q in np.quantile(seconds, (0.25, 0.5, 0.75)))
    return {"median": median, "low": low, "high": high, "repeats": len(seconds), "spread": (high - low) / median}
