"""Cuts a training set into shuffled, augmented gradient batches that depend on nothing but seed, epoch and position.

No generator lives from one epoch to the next, so a run resumed at any epoch sees the same bits. "The same bits" holds
for one NumPy version: NumPy keeps its bit streams for ever, but may change how a permutation is drawn from them.
"""

import operator
from collections.abc import Iterator

import numpy as np

PAD = 4  # zero pixels on each side before the random crop
ORDER, AUGMENT = 0, 1  # independent random streams of one seed


def _generator(seed: int, epoch: int, *key: int) -> np.random.Generator:
    for name, value in (("seed", seed), ("epoch", epoch)):
        if operator.index(value) < 0:
            raise ValueError(f"{name}: got {value}, needs an integer of at least 0")
    # spawn_key, not a plain list of numbers: a list is padded with zeros, so that [3, 1] and [3, 1, 0] are one stream
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, *key)))


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order in which one epoch visits the images; every epoch shuffles anew, so batches change members.

    Shapes: returns a permutation of 0..count-1, (count,) int64.
    Raises: ValueError for a negative count, seed or epoch.
    """
    if operator.index(count) < 0:
        raise ValueError(f"count: got {count}, needs an integer of at least 0")
    return _generator(seed, epoch, ORDER).permutation(count)


def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift every image by up to 4 pixels each way and mirror half of them, left to right.

    The image is padded with 4 zeros on each side, cropped to its own size at a random place, and flipped with
    probability 1/2. It comes after the per-pixel mean was removed, so a zero in the padding stands for a mean pixel.
    Shapes: images (N, H, W, C), any dtype; returns the same shape and dtype, a new array.
    Raises: ValueError for other than 4 axes.
    Reference: He et al. (2015), arXiv 1512.03385, section 4.2.
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"images: got shape {images.shape}, needs (N, H, W, C)")
    count, height, width, channels = images.shape
    tall, wide = height + 2 * PAD, width + 2 * PAD
    padded = np.zeros((count, tall, wide, channels), images.dtype)
    padded[:, PAD : PAD + height, PAD : PAD + width] = images
    top, left = rng.integers(0, 2 * PAD + 1, (2, count, 1))
    flip = rng.integers(0, 2, (count, 1), dtype=bool)
    column = np.arange(width)
    rows = np.arange(count)[:, np.newaxis] * tall + top + np.arange(height)  # (N, H), among the rows of all images
    columns = left + np.where(flip, column[::-1], column)  # (N, W)
    pixels = rows[:, :, np.newaxis] * wide + columns[:, np.newaxis, :]  # (N, H, W)
    return padded.reshape(-1, channels).take(pixels, axis=0)


def batches(
    images: np.ndarray, labels: np.ndarray, batch_size: int, seed: int, epoch: int, augment: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the gradient batches of one epoch; the last one, if it is not full, is dropped.

    Which images meet in a batch depends on (seed, epoch); how they are shifted and flipped on (seed, epoch, batch).
    Shapes: images (N, ...), with augment (N, H, W, C); labels (N,); yields new arrays x (batch_size, ...) and labels
    (batch_size,).
    Raises (at the call, not at the first batch): ValueError for a batch size outside 1..N, unequal numbers of images
    and labels, a negative seed or epoch.
    """
    count = len(images)
    if len(labels) != count:
        raise ValueError(f"labels: got {len(labels)}, needs {count}, one for each image")
    if not 1 <= operator.index(batch_size) <= count:
        raise ValueError(f"batch_size: got {batch_size}, needs 1..{count}, the number of images")
    order = epoch_order(count, seed, epoch)[: count - count % batch_size].reshape(-1, batch_size)
    return _walk(images, labels, order, (seed, epoch) if augment else None)


def _walk(
    images: np.ndarray, labels: np.ndarray, order: np.ndarray, draws: tuple[int, int] | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for index, rows in enumerate(order):
        x = images[rows]
        yield (x if draws is None else augment(x, _generator(*draws, AUGMENT, index))), labels[rows]
