"""A process that works when it is asked and sleeps in a read meanwhile; one runs our side, another PyTorch's.

Two pools of OpenMP threads in one process would slow each other down, so `turns` starts this file twice, by its path:
    python .../kalnorm_ref/bench/worker.py ours|torch THREADS BACKEND
Requests come as lines of JSON, an answer is a line:
    {"prepare": case}             {"seconds": {name: of one call}}    makes the works of a case and tries them
    {"turn": name, "repeats": k}  {"seconds": [k numbers]}            after one call that does not count
    {"memory": case, "calls": n}  {"before": bytes, "peak": bytes}    for a fresh process: resident memory
The first line comes unasked: {"versions": {...}}, or {"missing": text} where an import failed.
"""

import importlib
import json
import os
import sys
import time
import traceback
import types
from pathlib import Path

STATUS = Path("/proc/self/status")
MODULES = {"ours": "our_cases", "torch": "torch_cases"}


def serve(prepare, requests, answers):
    """Answer each line of `requests`. prepare(case) returns the works of a case, {name: function of nothing}."""
    works = {}
    for line in requests:
        request = json.loads(line)
        try:
            if "prepare" in request:
                works.clear()  # the last case's arrays are free before the next one's are made
                works.update(prepare(request["prepare"]))
                answer = {"seconds": {name: once(work) for name, work in works.items()}}
            elif "turn" in request:
                answer = {"seconds": turn(works[request["turn"]], request["repeats"])}
            else:
                answer = memory(prepare(request["memory"]), request["calls"])
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def turn(work, repeats):
    """Seconds of each of `repeats` calls, after one that warms up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def once(work):
    """About the seconds of one call: the fastest of those that begin within a tenth of a second."""
    seconds = turn(work, 1)
    while sum(seconds) < 0.1:
        seconds += turn(work, 1)
    return min(seconds)


def memory(works, calls):
    """Resident bytes before the first call of the only work, and at most.

    From /proc, not getrusage: there the peak of a process includes what the one that started it had.
    """
    (work,) = works.values()
    before = resident("VmRSS")
    for _ in range(calls):
        work()
    return {"before": before, "peak": resident("VmHWM")}


def resident(name):
    """Bytes that the line `name` of /proc/self/status tells."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return 1024 * int(line.split()[1])


def main(side, threads, backend):
    """Import our side or PyTorch's, say so, and serve until the requests end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    package = Path(__file__).resolve().parents[1]
    sys.path[:] = [str(package.parent), *(path for path in sys.path if Path(path) != package / "bench")]
    if side == "torch":  # the package without its __init__, which would set OpenMP's environment to suit our kernels
        bare = sys.modules[package.name] = types.ModuleType(package.name)
        bare.__path__ = [str(package)]
    try:
        cases = importlib.import_module(f"{package.name}.bench.{MODULES[side]}")
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=answers, flush=True)
        return
    with cases.using(threads, backend):
        print(json.dumps({"versions": cases.versions()}), file=answers, flush=True)
        serve(cases.prepare, sys.stdin, answers)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
