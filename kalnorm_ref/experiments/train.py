"""One training run: every method is trained by this code, and a run stopped at any moment resumes to the same bits.

What decides the bits is the settings, the backend and the state in the checkpoint: the order of the images and their
augmentation are functions of (seed, epoch), and BLAS runs on one thread, so that its sums have one order.
"""

import csv
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from .. import backend
from .. import data as datasets
from ..layers.loss import cross_entropy
from ..optim import SGD
from . import checkpoint, record_plot
from . import record as records
from .evaluate import evaluate, population_pass
from .progress import announce, progress_bar
from .settings import Settings, build, inference_of, learning_rate

COLUMNS = ("epoch", "train_loss", "test_loss", "test_error", "seconds", "images_per_second")
TIMES = COLUMNS[-2:]  # not in the checkpoint, whose bytes are a function of the settings
LOG = "log.csv"


class Run(NamedTuple):
    """A run that is ready to start or to go on: all that can be wrong with its input has been looked at."""

    settings: Settings
    dataset: datasets.Dataset
    net: object
    optimizer: SGD
    rows: list  # one dict an epoch that is finished
    out: Path | None
    recorded: list | None  # rows of record.csv; None where none was asked for

    @property
    def steps_per_epoch(self):
        """Whole gradient batches in the training images; the rest is left out of each epoch."""
        return len(self.dataset.train_labels) // self.settings.gradient_batch_size


def train(settings, out=None, resume=False, progress=True, dataset=None, record=False):
    """Train one network, evaluate it after every epoch, and return a row (dict) for each epoch.

    A row holds epoch (from 1), train_loss (mean over the steps), test_loss, test_error in percent (inference mode),
    seconds (of training, without the evaluation) and images_per_second. With `out`, log.csv holds the rows and
    checkpoint.npz the state after the last finished epoch; `resume` goes on from there, or starts where there is none.
    `dataset` saves loading it again. `record` also keeps record.csv (see experiments.record) and record.png in `out`.
    Raises: ValueError for bad data, settings that the network refuses, a checkpoint that is damaged or of other
    settings, or, without `resume`, an `out` that holds a checkpoint; for a record without an `out` or of a method
    without batch normalizers.
    """
    return proceed(prepare(settings, out, resume, dataset, record), progress)


def prepare(settings, out=None, resume=False, dataset=None, record=False):
    """Load the data, build the network, read the checkpoint; write nothing. Returns a Run, for `proceed`."""
    if record and out is None:
        raise ValueError("a record needs a folder to write into; out is None")
    if record and inference_of(settings) is None:
        raise ValueError(f"method {settings.norm!r} cannot be recorded; expected one with batch normalizers")
    dataset = load_data(settings) if dataset is None else dataset
    steps = settings.epochs * (len(dataset.train_labels) // settings.gradient_batch_size)
    shape, classes = dataset.train_images.shape[1:], len(dataset.classes)
    _try_out(settings, build(settings, shape, classes, steps), dataset)
    net = build(settings, shape, classes, steps)
    optimizer = SGD(net, settings.lr, settings.momentum, settings.weight_decay, settings.clip_norm)
    out = None if out is None else output_folder(out)
    run = Run(settings, dataset, net, optimizer, [], out, [] if record else None)
    if out is not None and (out / checkpoint.NAME).exists():
        if not resume:
            raise ValueError(f"{out} holds a checkpoint; go on from it with --resume, or name another folder")
        _take_up(run, out / checkpoint.NAME)
    if run.rows and record:
        run.recorded.extend(records.read(out / records.NAME, len(run.rows)))
    return run


def _try_out(settings, net, dataset):
    """Send one statistics batch through a network that is then thrown away; ValueError for what it does not take."""
    try:
        with np.errstate(all="ignore"):
            net.forward(dataset.train_images[: settings.statistics_batch_size], training=True)
    except ValueError as error:
        raise ValueError(f"method {settings.norm!r} on {settings.model}: {error}") from error


def load_data(settings):
    """The data set of the settings; ValueError if it has fewer training images than a gradient batch."""
    dataset = datasets.load(settings.data, settings.data_dir, settings.train_images, np.dtype(settings.dtype))
    if len(dataset.train_labels) < settings.gradient_batch_size:
        raise ValueError(
            f"gradient_batch_size is {settings.gradient_batch_size}; expected at most {len(dataset.train_labels)}, "
            f"the training images of {settings.data}"
        )
    return dataset


def output_folder(out):
    """`out` as a Path that is a folder or can become one; it is not made yet."""
    out = Path(out)
    nearest = next(path for path in (out, *out.parents) if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is a file; expected a folder to write into")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"{nearest} cannot be written to; expected a folder to write into")
    return out


def _identity(settings):
    """What has to be the same for the same bits, as json gives it back; the place of the data is no part of it."""
    fields = settings.to_json() | {"backend": backend.get_backend()}
    del fields["data_dir"]
    return fields


def _take_up(run, path):
    try:
        stored, states = checkpoint.load(path)
    except ValueError as error:
        raise ValueError(f"{error}; delete it to start over") from error
    before, now = stored["settings"], _identity(run.settings)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"{path} was written with {name} {before.get(name)}, not {now.get(name)}; resume with the same settings"
            )
    try:
        run.net.load_state_dict(states["net"])
        run.optimizer.load_state_dict(states["optimizer"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: does not fit the network ({error}); delete it to start over") from error
    times = _read_times(path.with_name(LOG))
    run.rows.extend(row | times.get(row["epoch"], dict.fromkeys(TIMES, math.nan)) for row in stored["rows"])


def _read_times(path):
    """What log.csv says of each epoch's seconds and images per second; nothing where it is missing."""
    if not path.exists():
        return {}
    try:
        with path.open(newline="") as stream:
            return {int(row["epoch"]): {name: float(row[name]) for name in TIMES} for row in csv.DictReader(stream)}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the log of a run ({error!r}); delete it to resume without its times") from error


def proceed(run, progress=True, bar=None):
    """Train from the last finished epoch to the end; return the rows. `bar` is a tqdm bar of images to advance."""
    settings = run.settings
    if run.out is not None:
        run.out.mkdir(parents=True, exist_ok=True)
    per_epoch = images_per_epoch(settings, run.dataset)
    done, total = len(run.rows) * per_epoch, settings.epochs * per_epoch
    own = bar is None
    bar = progress_bar(settings.norm, total, done, progress) if own else bar
    try:
        with threadpool_limits(1, "blas"), np.errstate(all="ignore"):  # a run that diverges shows it in its rows
            _write_log(run)
            for epoch in range(len(run.rows), settings.epochs):
                run.rows.append(_epoch(run, epoch, bar))
                _write_log(run)  # these two first, since the checkpoint leaves times and record to them
                _write_record(run)
                _write_checkpoint(run)
                if own and progress:
                    announce(f"epoch {epoch + 1} of {settings.epochs}: {sentence(run.rows[-1])}")
    finally:
        if own:
            bar.close()
        if run.recorded and run.out is not None:
            record_plot.draw(run.out / record_plot.NAME, settings, run.recorded)
    return run.rows


def images_per_epoch(settings, dataset):
    """Images that the progress bar counts in an epoch: those trained on, and those that population statistics take."""
    size = settings.gradient_batch_size
    passes = 2 if inference_of(settings) == "population" else 1
    return passes * (len(dataset.train_labels) // size * size)


def _epoch(run, epoch, bar):
    """Train for one epoch, then evaluate; returns the epoch's row."""
    settings, net = run.settings, run.net
    rate = learning_rate(settings, settings.epochs * run.steps_per_epoch)
    stream = datasets.batches(
        run.dataset.train_images,
        run.dataset.train_labels,
        settings.gradient_batch_size,
        settings.seed,
        epoch,
        settings.augment,
    )
    before = f"error {run.rows[-1]['test_error']:.1f} %" if run.rows else "error -"
    losses = []
    start = time.perf_counter()
    for index, (x, labels) in enumerate(stream):
        run.optimizer.lr = rate(epoch * run.steps_per_epoch + index)
        loss, dlogits = cross_entropy(net.forward(x, training=True), labels)
        net.backward(dlogits, input_gradient=False)
        run.optimizer.step()
        losses.append(float(loss))
        bar.set_postfix_str(f"epoch {epoch + 1}/{settings.epochs}, loss {losses[-1]:.3f}, {before}", refresh=False)
        bar.update(len(labels))
    seconds = time.perf_counter() - start
    sizes = settings.gradient_batch_size, settings.statistics_batch_size
    if inference_of(settings) == "population":
        bar.set_postfix_str(f"epoch {epoch + 1}/{settings.epochs}, population statistics, {before}", refresh=False)
        population_pass(net, run.dataset.train_images, *sizes, bar.update)
    test_loss, test_error = evaluate(net, run.dataset.test_images, run.dataset.test_labels, sizes[1])
    if run.recorded is not None:
        measured = records.measure(net, run.dataset.train_images, settings)
        run.recorded.extend({"epoch": epoch + 1} | row for row in measured)
    return {
        "epoch": epoch + 1,
        "train_loss": float(np.mean(losses)),
        "test_loss": test_loss,
        "test_error": test_error,
        "seconds": seconds,
        "images_per_second": len(losses) * settings.gradient_batch_size / seconds,
    }


def sentence(row):
    """A row in words."""
    return (
        f"test error {row['test_error']:.1f} %, training loss {row['train_loss']:.3f}, "
        f"{row['images_per_second']:.0f} images/s"
    )


def _write_checkpoint(run):
    if run.out is not None:
        rows = [{name: row[name] for name in COLUMNS if name not in TIMES} for row in run.rows]
        stored = {"settings": _identity(run.settings), "epoch": len(rows), "rows": rows}
        states = {"net": run.net.state_dict(), "optimizer": run.optimizer.state_dict()}
        checkpoint.save(run.out / checkpoint.NAME, stored, **states)


def _write_record(run):
    if run.recorded is not None and run.out is not None:
        checkpoint.write_csv(run.out / records.NAME, records.COLUMNS, run.recorded)


def _write_log(run):
    if run.out is not None:
        checkpoint.write_csv(run.out / LOG, COLUMNS, run.rows)
