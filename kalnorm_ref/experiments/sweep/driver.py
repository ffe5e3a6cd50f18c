"""The driver of a sweep: hands runs to an executor, puts away what comes back, and says how far it is."""

import time
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, wait

from ..progress import announce, progress_bar
from . import tables
from .clock import images, words
from .worker import RECORDS, task_of, work

TRIES = 3  # of a run whose worker dies: the first, and two more
LOOK = 1.0  # seconds between two looks at what other sweeps are at
SHARE = 10  # the tables are not written more often than takes a tenth of the time


class Driver:
    """The state of a sweep at work; `plan` is a sweep.Sweep."""

    def __init__(self, plan, threads=1, progress=True):
        self.plan, self.store, self.threads, self.progress = plan, plan.store, threads, progress
        todo = plan.open()
        self.queue = sorted(todo, key=lambda run: todo[run].seed)  # so that soon every setting has been seen once
        self.elsewhere = []  # runs that another sweep is at
        self.flying = {}  # future: (id, time of the start)
        self.deaths = {}  # id: how often its worker has died
        self.failed = {run: report["error"] for run, report in plan.failures.items() if run not in todo}
        self.clock, self.lines = plan.clock(), {}
        self.old, self.due, self.room, self.bar = len(plan.results), 0.0, 1, None

    def run(self, executor, room):
        """Do all runs. room() says how many the executor takes at the moment."""
        self.store.make()
        try:
            with self.store.alive():
                self._all(executor, room)
        finally:
            self._close()

    def _all(self, executor, room):
        total = sum(map(images, self.plan.runs.values()))
        self.bar = progress_bar("sweep", total, progress=self.progress)
        for run, result in self.plan.results.items():
            self._take_in(run, result)
        self._greet()
        while self.queue or self.elsewhere or self.flying:
            self._write()
            self.room = room()
            while self.queue and len(self.flying) < self.room:
                self._begin(executor, self.queue.pop(0))
            done = wait(self.flying, LOOK, FIRST_COMPLETED).done if self.flying else ()
            for future in done:
                self._end(future)
            self._look(not done)

    def _close(self):
        """Write the tables, whatever has happened."""
        if self.bar is not None:
            self.bar.close()
            self.due = 0.0
            self._write()

    def summary(self):
        """What there is in the end, for json."""
        return {
            "out": str(self.store.out),
            "finished": len(self.lines),
            "finished_before": self.old,
            "failed": self.failed,
            "runs": [
                {"id": run, "finished": run in self.lines, **settings.to_json()}
                for run, settings in self.plan.runs.items()
            ],
        }

    # ---- one run ----

    def _begin(self, executor, run):
        if not self.store.take(run):
            self.elsewhere.append(run)
            return
        report = self.store.failure(run)
        if self.store.finished(run):  # by another sweep, a moment ago
            self._take_in(run, self.store.load(run))
        elif report is not None and report != self.plan.failures.get(run):
            self.failed[run] = report["error"]
        else:
            settings = self.plan.runs[run]
            task = task_of(settings, self.plan.record, self.threads)
            self.flying[executor.submit(work, task)] = run, time.monotonic()
            return
        self.store.release(run)

    def _end(self, future):
        run, _ = self.flying.pop(future)
        try:
            answer = future.result()
        except (BrokenExecutor, CancelledError):
            self.deaths[run] = self.deaths.get(run, 0) + 1
            if self.deaths[run] < TRIES:
                self._say(f"{self.plan.label(run)}: its worker died; trying again")
                self.queue.insert(0, run)
                self.store.release(run)
                return
            answer = {"error": f"its worker died {TRIES} times: killed, or out of memory"}
        except Exception as error:  # Dask's, or of what cannot be sent
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        if "result" in answer:
            self.store.publish(run, answer["result"])
            self._take_in(run, self.store.load(run))
            self._say(f"{self.plan.label(run)}: {_outcome(answer['result'])}")
        else:
            self.failed[run] = answer["error"]
            self.store.fail(run, {"id": run, **answer, "settings": self.plan.runs[run].to_json()})
            self._say(f"{self.plan.label(run)}: failed, {answer['error']}")
        self.store.release(run)

    def _take_in(self, run, result):
        self.lines[run] = tables.lines(run, result)
        self.bar.update(images(self.plan.runs[run]))
        if run not in self.plan.results:
            self.clock.saw(self.plan.runs[run], result["seconds"])

    def _look(self, idle):
        """Take back the runs that no other sweep is at any more."""
        if self.elsewhere and idle:
            if not self.flying:
                time.sleep(LOOK)
            busy = [run for run in self.elsewhere if self.store.busy(run)]
            self.queue += [run for run in self.elsewhere if run not in busy]
            self.elsewhere = busy

    # ---- what the user sees ----

    def _write(self):
        if time.monotonic() >= self.due:
            start = time.monotonic()
            tables.write(self.store.out, [self.lines[run] for run in self.plan.runs if run in self.lines])
            self.due = time.monotonic() + SHARE * (time.monotonic() - start)

    def _greet(self):
        count, runs = len(self.plan.runs), "run" if len(self.plan.runs) == 1 else "runs"
        self._say(f"{count} {runs}, {self.old} of them finished before, {len(self.failed)} failed before")
        wanted = RECORDS.index(self.plan.record)
        less = [r for r in self.plan.results.values() if r["recorded"] and RECORDS.index(r["recorded"]) < wanted]
        if less:
            self._say(f"those finished before keep their record; in {len(less)} it is less than {self.plan.record}")

    def _say(self, text):
        done, failed = len(self.lines), len(self.failed)
        self.bar.set_description_str(f"sweep {done}/{len(self.plan.runs)}" + (f", {failed} failed" if failed else ""))
        now = time.monotonic()
        flying = [(self.plan.runs[run], now - start) for run, start in self.flying.values()]
        waiting = [self.plan.runs[run] for run in (*self.queue, *self.elsewhere)]
        left = words(self.clock.left(waiting, flying, self.room))
        self.bar.set_postfix_str(f"{left} left")
        if self.progress:
            announce(f"{done + failed}/{len(self.plan.runs)}  {text}; time left: {left}")


def _outcome(result):
    row = result["evaluations"][0]
    if result["epochs"][-1]["train_loss"] is None:
        return "diverged"
    return f"test error {row['test_error']:.1f} %, {result['images_per_second']:.0f} images/s"
