"""Where a sweep keeps its runs: one folder each, named by what decides its bits, whole or not there.

    DIR/runs/<id>/result.json     a finished run; made in runs/.<id>.<host>.<pid> beside it, then renamed
    DIR/failed/<id>.json          the last failure of a run, until a retry ends
    DIR/locks/<id>                host and pid of the sweep that is at this run, touched every few seconds

What is guaranteed: a finished run is whole, and is never lost or changed. A run that a living sweep is at is not begun
by another one; the lock of a process of this host that has ended, and any that nobody touched for ten minutes, is taken
over. Where two sweeps take over the same lock at the same moment, or one was stopped for ten minutes, a run may be done
twice: the first to finish counts, and the other had the same bits.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import threading

from ... import __version__, backend
from .. import checkpoint
from ..train import output_folder

RESULT = "result.json"
STALE, BEAT = 600, 10  # seconds after which nobody is at a lock, and between two touches


def identity(settings):
    """What decides the bits of a run, as json has it; the place of the data is no part of it."""
    fields = settings.to_json()
    del fields["data_dir"]
    name = backend.get_backend()
    return {
        "settings": fields,
        "backend": name,
        "instruction_set": backend.instruction_set() if name == "cython" else None,  # NumPy runs none of these kernels
        "version": __version__,
    }


def address(what):
    """The name of a run: the first 16 hexadecimal digits of the SHA-256 of its identity, as canonical JSON."""
    text = json.dumps(what, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """The folder DIR of one or several sweeps."""

    def __init__(self, out):
        self.out = output_folder(out)
        self.held = set()  # ids of the runs that are ours
        self.owner = f"{platform.node()} {os.getpid()}"

    def make(self):
        """Make the folders."""
        for name in ("runs", "failed", "locks"):
            (self.out / name).mkdir(parents=True, exist_ok=True)

    def path(self, run):
        return self.out / "runs" / run / RESULT

    def finished(self, run):
        return self.path(run).is_file()

    def load(self, run):
        """The result of a finished run; ValueError for a file that is damaged or of another run."""
        path = self.path(run)
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            found = address({name: result[name] for name in ("settings", "backend", "instruction_set", "version")})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged ({error!r}); delete {path.parent} to run it again") from error
        if found != run:
            raise ValueError(f"{path}: the result of run {found}, not {run}; delete {path.parent} to run it again")
        return result

    def publish(self, run, result):
        """Write the result of a run, whole or not at all; where there is one already, that one stays."""
        folder = self.path(run).parent
        part = folder.with_name(f".{run}.{self.owner.replace(' ', '.')}")
        part.mkdir(exist_ok=True)
        checkpoint.write_text(part / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")
        try:
            os.rename(part, folder)
        except OSError:
            if not self.finished(run):
                raise
            shutil.rmtree(part)
        (self.out / "failed" / f"{run}.json").unlink(missing_ok=True)

    def failure(self, run):
        """What DIR/failed says of a run, or None."""
        path = self.out / "failed" / f"{run}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{path}: damaged ({error}); delete it to run it again") from error

    def fail(self, run, report):
        """Record a failure, in place of an earlier one."""
        checkpoint.write_text(self.out / "failed" / f"{run}.json", json.dumps(report, indent=2) + "\n")

    # ---- locks ----

    def take(self, run):
        """Whether the run is ours to do from now on; False while a living sweep is at it."""
        lock = self.out / "locks" / run
        for _ in range(2):
            try:
                with lock.open("x") as stream:
                    stream.write(self.owner)
            except FileExistsError:
                if not self._stale(lock):
                    return False
                lock.unlink(missing_ok=True)
            else:
                self.held.add(run)
                for part in lock.parents[1].glob(f"runs/.{run}.*"):  # of a sweep that was killed while it wrote
                    shutil.rmtree(part)
                return True
        return False

    def busy(self, run):
        """Whether a living sweep, as far as can be told, is at the run."""
        return not self._stale(self.out / "locks" / run)

    def _stale(self, lock):
        try:
            owner, touched = lock.read_text(), lock.stat().st_mtime
        except FileNotFoundError:
            return True
        host, _, pid = owner.partition(" ")
        if owner == self.owner:  # ours, but not held: a process of this number was here before
            return True
        if host == platform.node() and pid.isdecimal() and not _alive(int(pid)):
            return True
        return self._now() - touched > STALE

    def _now(self):
        """The time by the clock that stamps the files, which may be another machine's."""
        clock = self.out / "locks" / f".clock.{self.owner.replace(' ', '.')}"
        clock.touch()
        now = clock.stat().st_mtime
        clock.unlink()
        return now

    @contextlib.contextmanager
    def alive(self):
        """While this context is open, a thread shows that we are at the runs we hold; then they are given back."""
        over = threading.Event()
        thread = threading.Thread(target=self._touch, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            for run in tuple(self.held):
                self.release(run)

    def _touch(self, over):
        while not over.wait(BEAT):
            for run in tuple(self.held):
                with contextlib.suppress(OSError):
                    os.utime(self.out / "locks" / run)

    def release(self, run):
        """Give back a run that we have taken."""
        if run in self.held:
            self.held.remove(run)
            lock = self.out / "locks" / run
            with contextlib.suppress(FileNotFoundError):
                if lock.read_text() == self.owner:  # else somebody took it over
                    lock.unlink()


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
