"""One run of a sweep, start to end, in whatever process: JSON-able settings go in, a JSON-able result comes out.

Nothing is written here, so that a worker needs the package and the data set, and no disk that it shares with anybody.
What decides the bits (settings, backend, instruction set, version) comes with the task and is obeyed or refused; BLAS
runs on one thread, and the kernels' number of threads changes no bit.
"""

import functools
import json
import platform
import threading
import time
import traceback

import numpy as np
from threadpoolctl import threadpool_limits

from ... import __version__, backend
from ... import data as datasets
from ...bench.suite import cpu
from ...full_covariance import cholesky_noise
from ...inference import watch
from ...layers.group import GroupKalmanNorm
from ...layers.kalman import KalmanNorm
from ...layers.statistics import INFERENCE
from .. import record as records
from .. import train
from ..compare import to_json, versions
from ..evaluate import Restored, evaluate_modes
from ..settings import from_json, inference_of
from .store import identity

RECORDS = ("none", "last", "epochs")
_one_at_a_time = threading.Lock()  # threads of a process share BLAS's number of threads, and ours


def task_of(settings, record="last", threads=1):
    """What `work` is given, as json has it: what decides the bits, where the data is, and what changes no bit."""
    data_dir = None if settings.data_dir is None else str(settings.data_dir)
    return {"identity": identity(settings), "data_dir": data_dir, "record": record, "threads": threads}


def work(task):
    """Train, evaluate in every inference mode, look at the estimators; returns a dict for json.

    It holds "result", or "error" (one line) and "traceback" for whatever went wrong. A run that diverged is a result,
    with null for what is not finite.
    """
    with _one_at_a_time:
        before = backend.get_num_threads()
        try:
            backend.set_num_threads(task["threads"])
            with _as_asked(task["identity"]), threadpool_limits(1, "blas"), np.errstate(all="ignore"):
                return {"result": json.loads(to_json(_result(task)))}
        except Exception as error:
            name = type(error).__name__
            return {
                "error": " ".join(f"{name}: {error}".split()),
                "traceback": traceback.format_exc(),
                "host": platform.node(),
            }
        finally:
            backend.set_num_threads(before)


def _as_asked(what):
    """The context in which this process computes the bits asked for; RuntimeError where it cannot."""
    if what["version"] != __version__:
        raise RuntimeError(f"this worker has kalnorm_ref {__version__}; expected {what['version']}")
    here, asked = backend.instruction_set(), what["instruction_set"]
    if asked not in (None, here):
        name = backend.INSTRUCTION_SET
        raise RuntimeError(f"this worker runs kernels for {here}; expected {asked}: set {name} alike everywhere")
    return backend.use_backend(what["backend"])


@functools.lru_cache(1)
def _data(name, folder, train_images, dtype):
    """The data set; a worker keeps the one it used last."""
    return datasets.load(name, folder, train_images, np.dtype(dtype))


def _result(task):
    start = time.perf_counter()
    settings = from_json(task["identity"]["settings"], task["data_dir"])
    batched = inference_of(settings) is not None
    dataset = _data(settings.data, settings.data_dir, settings.train_images, settings.dtype)
    run = train.prepare(settings, dataset=dataset)
    if batched and task["record"] == "epochs":
        run = run._replace(recorded=[])
    rows = train.proceed(run, progress=False)
    recorded = run.recorded or []
    if batched and task["record"] == "last":
        measured = records.measure(run.net, dataset.train_images, settings)
        recorded = [{"epoch": settings.epochs} | row for row in measured]
    evaluations, gap = _evaluations(run, batched)
    return {
        **task["identity"],
        "versions": versions(),
        "processor": cpu(),
        "host": platform.node(),
        "threads": task["threads"],
        "recorded": task["record"] if batched else None,
        "epochs": rows,
        "evaluations": evaluations,
        "population_gap": gap,
        "layers": [{name: value for name, value in row.items() if value is not None} for row in recorded],
        "learned": learned(run.net, dataset.train_images[: settings.statistics_batch_size]),
        "images_per_second": float(np.median([row["images_per_second"] for row in rows])),
        "seconds": time.perf_counter() - start,
    }


def _evaluations(run, batched):
    """A row for each inference mode, and the population gap; methods without batch normalizers know no difference."""
    settings = run.settings
    state = Restored(settings, settings.epochs, run.net, run.dataset, settings.statistics_batch_size)
    rows, gap = evaluate_modes(state, INFERENCE if batched else INFERENCE[:1], progress=False)
    return rows if batched else [rows[0] | {"inference": mode} for mode in INFERENCE], gap


def learned(net, images):
    """What each Kalman layer has come to: gain, noise and transition; None where it has none of them.

    gain and noise (a variance): mean and spread (standard deviation) over channels, the gain for one statistics batch
    of training images. transition: mean and spread of the diagonal of A, norm of the rest of A.
    """
    gains = {}
    with watch(net, lambda path, seen: gains.setdefault(path, seen.gain)):
        net.forward(images, training=True)
    rows = []
    for path, layer in net.leaves.items():
        if isinstance(layer, KalmanNorm | GroupKalmanNorm):
            gain = layer.gain() if isinstance(layer, GroupKalmanNorm) else gains[path]
            rows.append({"layer": path, "gain": _summary(gain), **_law(layer)})
    return rows


def _law(layer):
    """Noise and transition of a layer that has them."""
    if layer.transition is None:
        return {"noise": None, "transition": None}
    if "noise_factor" in layer.params:
        noise = np.diagonal(cholesky_noise(layer.params["noise_factor"]))
    else:
        noise = np.exp(np.float64(layer.transition.log_noise(layer.params)))
    matrix = layer.params.get("transition")
    if matrix is None:
        return {"noise": _summary(noise), "transition": None}
    rest = np.zeros((1, 1)) if matrix.ndim == 1 else matrix.astype(np.float64)
    diagonal = matrix if matrix.ndim == 1 else np.diagonal(matrix)
    np.fill_diagonal(rest, 0)
    return {"noise": _summary(noise), "transition": _summary(diagonal) | {"rest": float(np.linalg.norm(rest))}}


def _summary(values):
    if values is None:
        return None
    values = np.asarray(values, np.float64)
    return {"mean": float(values.mean()), "spread": float(values.std())}
