"""How a network does on the test images, with each of the statistics that its batch normalizers can use at inference.

`train` evaluates after each epoch; `restore` and `evaluate_modes` do it again for a checkpoint, in any mode.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from .. import data as datasets
from ..inference import normalizers, recompute_population, set_inference
from ..layers.loss import cross_entropy
from ..layers.statistics import INFERENCE
from . import checkpoint
from .progress import progress_bar
from .settings import Settings, build, from_json, whole

GAP = ("mean_error", "log_var_error")
TEST_BATCH = 100  # images; larger ones take memory and no less time


class Restored(NamedTuple):
    """A network out of a checkpoint, and what to evaluate it on."""

    settings: Settings
    epoch: int
    net: object
    dataset: datasets.Dataset
    statistics_batch_size: int


def evaluate(net, images, labels, statistics_batch_size=1, advance=None):
    """Mean loss and error in percent, in inference mode; outputs that are NaN count as argmax has it, as label 0.

    The images pass in order, in whole statistics batches but for the last. advance(n) is called after n images each.
    """
    size = multiple(TEST_BATCH, statistics_batch_size)
    loss, wrong = 0.0, 0
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        logits = net.forward(images[part], training=False)
        loss += float(cross_entropy(logits, labels[part])[0]) * len(labels[part])
        wrong += int((logits.argmax(axis=-1) != labels[part]).sum())
        if advance is not None:
            advance(len(labels[part]))
    return loss / len(labels), 100 * wrong / len(labels)


def population_pass(net, images, gradient_batch_size, statistics_batch_size, advance=None):
    """Let the network do inference with the statistics of the images, in order, as they are, in whole gradient batches.

    A gradient batch that the statistics batch does not divide is cut to a multiple of it, or grows to one.
    """
    size = multiple(gradient_batch_size, statistics_batch_size)

    def stream():
        for start in range(0, len(images) - size + 1, size):
            yield images[start : start + size]
            if advance is not None:
                advance(size)

    recompute_population(net, stream())


def multiple(near, size):
    """The largest multiple of `size` up to `near`, but at least `size`."""
    return max(1, near // size) * size


def restore(path, data_dir=None, statistics_batch_size=None):
    """Build the network of a checkpoint and load its weights and its data set; write nothing. Returns a Restored.

    `path` is the file or the folder that train wrote. statistics_batch_size None is that of the training.
    Raises: ValueError for a file that is missing, damaged or of other settings than this version has, or for data or a
    statistics batch that do not fit.
    """
    path = Path(path)
    path = path / checkpoint.NAME if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a checkpoint of `kalnorm-ref train`, or its folder")
    record, states = checkpoint.load(path)
    try:
        settings, epoch = from_json(record["settings"], data_dir), record["epoch"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a checkpoint that this version can evaluate ({error})") from error
    dataset = datasets.load(settings.data, settings.data_dir, settings.train_images, np.dtype(settings.dtype))
    count = len(dataset.train_labels)
    size = settings.statistics_batch_size
    if statistics_batch_size is not None:
        size = whole("statistics_batch_size", statistics_batch_size, 1)
    if size > count:
        raise ValueError(
            f"statistics_batch_size is {size}; expected at most {count}, the training images of {settings.data}"
        )
    steps = settings.epochs * (count // settings.gradient_batch_size)
    net = build(settings, dataset.train_images.shape[1:], len(dataset.classes), steps)
    try:
        net.load_state_dict(states["net"])
    except ValueError as error:
        raise ValueError(f"{path}: does not fit the network of its settings ({error})") from error
    for _, layer in normalizers(net):  # after it was built, since initial gains depend on the size
        layer.statistics_batch_size = size
    return Restored(settings, epoch, net, dataset, size)


def evaluate_modes(restored, modes=INFERENCE, progress=True):
    """Evaluate in each mode; returns rows and gap.

    rows: dicts, in the order given, with inference, test_error (percent) and test_loss. gap: see population_gap; None
    unless "population" is among the modes.
    """
    settings, _, net, dataset, size = restored
    count = len(dataset.train_labels)
    batch = multiple(settings.gradient_batch_size, size)
    total = len(modes) * len(dataset.test_labels) + ("population" in modes) * (count // batch * batch)
    rows, gap = [], None
    bar = progress_bar("evaluate", total, progress=progress)
    with bar, threadpool_limits(1, "blas"), np.errstate(all="ignore"):  # as in training, for the same bits
        for mode in modes:
            bar.set_description_str(f"{settings.norm}, {mode}")
            if mode == "population":
                population_pass(net, dataset.train_images, settings.gradient_batch_size, size, bar.update)
                gap = population_gap(net)
            else:
                set_inference(net, mode)
            loss, error = evaluate(net, dataset.test_images, dataset.test_labels, size, bar.update)
            rows.append({"inference": mode, "test_error": error, "test_loss": loss})
    return rows, gap


def population_gap(net):
    """How far running averages (M, V) are from population statistics (mean, var), or None without batch normalizers.

    mean_error: the mean over channels and normalizers of (M - mean)^2 / var; log_var_error: that of
    (log V - log var)^2; variances with eps.
    """
    errors = []
    for _, layer in normalizers(net):
        if not layer.fixed(training=False):
            continue  # it uses neither
        (mean, var), eps = layer.running_moments()
        at, around = (layer.running[name].astype(np.float64) for name in ("population_mean", "population_var"))
        around += layer.eps
        errors.append((np.mean((mean - at) ** 2 / around), np.mean((np.log(var + eps) - np.log(around)) ** 2)))
    return dict(zip(GAP, map(float, np.mean(errors, axis=0)), strict=True)) if errors else None


def results(restored, rows, gap):
    """What `evaluate --json` prints: the result of evaluate_modes, and what was evaluated."""
    settings = restored.settings
    return {
        "method": settings.norm,
        "seed": settings.seed,
        "data": settings.data,
        "epoch": restored.epoch,
        "statistics_batch_size": restored.statistics_batch_size,
        "modes": rows,
        "population_gap": gap,
    }


def _loss(value):
    """Four decimals, or as few digits as a loss of a run that diverged has room for."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def table(restored, rows, gap):
    """The result of evaluate_modes as text."""
    settings, size = restored.settings, restored.statistics_batch_size
    images = "1 image" if size == 1 else f"{size} images"
    head = f"{settings.norm} on {settings.data}, epoch {restored.epoch}, {images} per statistics batch"
    lines = [f"{row['inference']:<12}{row['test_error']:>12.2f}{_loss(row['test_loss']):>12}" for row in rows]
    if gap is not None:
        errors = f"(M - mean)^2 / var {gap['mean_error']:.2g}, (log V - log var)^2 {gap['log_var_error']:.2g}"
        lines.append(f"running averages (M, V) against the population (mean, var): {errors}")
    return "\n".join([head, f"{'inference':<12}{'test error %':>12}{'test loss':>12}", *lines])
