"""Where the runs of a sweep are done: in this process, in local ones, or wherever a Dask scheduler has workers.

Each is a concurrent.futures.Executor and the number of runs to give it at a time. What is lost with a worker shows as a
BrokenExecutor or a CancelledError of its future.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor

from tqdm import tqdm

from ..progress import announce

CONNECT = 10  # seconds to find a scheduler in


@contextlib.contextmanager
def opened(workers=1, scheduler=None):
    """The executor and a function that tells how many runs to give it now; left by an exception, it drops them.

    workers 0 is this process. Raises: ImportError without Dask, OSError without its scheduler.
    """
    with contextlib.ExitStack() as stack:
        if scheduler is not None:
            client = stack.enter_context(_client(scheduler))
            executor = client.get_executor(pure=False)
            if not client.nthreads():
                announce(f"the scheduler at {scheduler} has no worker yet; waiting for one")

            def room():
                return max(1, len(client.nthreads()))  # none yet: one run waits at the scheduler

        else:
            executor = Processes(workers) if workers else Serial()

            def room():
                return max(1, workers)

        try:
            yield executor, room
        except BaseException:
            executor.shutdown(wait=False)
            raise
        executor.shutdown()


def _client(scheduler):
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            f"a scheduler needs dask.distributed ({error}); install it with: pip install 'kalnorm-ref[cluster]'"
        ) from error
    try:
        return Client(scheduler, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(f"no Dask scheduler at {scheduler} ({error})") from error


class Serial(Executor):
    """Each run in this process, while it is submitted."""

    def submit(self, function, /, *args):
        future = Future()
        future.set_result(function(*args))
        return future


class Processes(Executor):
    """`workers` local processes, each a pool of its own, so that one that dies takes its own run with it and no other.

    They are spawned, since threads of BLAS and OpenMP do not survive a fork, ignore Ctrl-C, and end with the process
    that started them, however that ends. Submit no more than one run for each.
    """

    def __init__(self, workers):
        self.slots = [_Slot() for _ in range(workers)]

    def submit(self, function, /, *args):
        slot = next(slot for slot in self.slots if slot.future is None or slot.future.done())
        return slot.submit(function, *args)

    def shutdown(self, wait=True, *, cancel_futures=False):
        """As ever, but that `wait` False ends the processes, whatever they are at."""
        for slot in self.slots:
            slot.stop(wait)


class _Slot:
    """One process, started when it is first needed and again after it died."""

    def __init__(self):
        self.pool = self.pid = self.future = None

    def submit(self, function, *args):
        with contextlib.suppress(BrokenExecutor):  # the process was killed between two runs
            if self.pool is not None:
                self.future = self.pool.submit(function, *args)
                return self.future
        self.stop(False)
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, context, initializer=_begin)
        self.pid = self.pool.submit(os.getpid)
        self.future = self.pool.submit(function, *args)
        return self.future

    def stop(self, wait):
        """End the process; without `wait` whatever it is at."""
        if self.pool is None:
            return
        self.pool.shutdown(wait=False, cancel_futures=True)
        if not wait and self.pid is not None:
            with contextlib.suppress(BrokenExecutor, CancelledError):
                pid = self.pid.result(60)
                for child in multiprocessing.active_children():  # without those that have ended
                    if child.pid == pid:
                        child.kill()
        self.pool.shutdown(wait=True)


def _begin():
    """What a new process does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())  # its own would be a semaphore, left behind by a process that is killed
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)
