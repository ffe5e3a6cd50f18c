"""Gives training one way to its images, whatever the data set: scaled, mean-free, channels last."""

import operator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kalnorm_ref.data import cifar, digits
from kalnorm_ref.data.batches import augment, batches, epoch_order
from kalnorm_ref.data.cifar import DataError
from kalnorm_ref.data.fetch import fetch

__all__ = ["NAMES", "DataError", "Dataset", "augment", "batches", "epoch_order", "fetch", "load"]

NAMES = ("digits", *cifar.LAYOUTS)


class Dataset(NamedTuple):
    """Images ready for a network; every image is pixels / scale minus the training images' mean at that pixel."""

    train_images: np.ndarray  # (N, H, W, C), float32 unless asked otherwise
    train_labels: np.ndarray  # (N,) int64, 0..len(classes) - 1
    test_images: np.ndarray  # (M, H, W, C)
    test_labels: np.ndarray  # (M,) int64
    classes: tuple[str, ...]  # names, in the order of the labels
    name: str


def load(
    name: str, folder: str | Path | None = None, train_limit: int | None = None, dtype: np.dtype | type = np.float32
) -> Dataset:
    """Load a data set by its name: "digits" (embedded), "cifar10" or "cifar100" (binary release, see `fetch`).

    Digits are pixels / 16, CIFAR pixels / 128; from training and test images alike the per-pixel mean of the training
    images kept is then subtracted. `train_limit` keeps the first so many training images. `folder` is the release's
    folder, its .tar.gz or a folder with either; None is $KALNORM_DATA, else ~/.cache/kalnorm_ref; digits need none.
    Shapes: digits (1297 and 500, 8, 8, 1); CIFAR (50000 and 10000, 32, 32, 3), channels R, G, B.
    Raises: ValueError for an unknown name or a train_limit outside 1..N; TypeError for a dtype other than float32 and
    float64; DataError (a ValueError) for files that are missing or damaged.

    >>> load("digits").train_images.shape
    (1297, 8, 8, 1)
    """
    if name not in NAMES:
        raise ValueError(f"name: got {name!r}, needs one of {', '.join(map(repr, NAMES))}")
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype: got {dtype}, needs float32 or float64")
    source, stored = (digits, digits.read()) if name == "digits" else (cifar, cifar.read(cifar.LAYOUTS[name], folder))
    train_images, train_labels, test_images, test_labels, classes = stored
    limit = len(train_labels) if train_limit is None else operator.index(train_limit)
    if not 1 <= limit <= len(train_labels):
        raise ValueError(f"train_limit: got {limit}, needs 1..{len(train_labels)}, the training images of {name}")
    train_images, train_labels = train_images[:limit], train_labels[:limit]
    mean = train_images.sum(axis=0, dtype=np.uint64) / (limit * source.SCALE)  # float64; the sum of bytes is exact
    return Dataset(
        _centre(train_images, source.SCALE, mean.astype(dtype)),
        train_labels,
        _centre(test_images, source.SCALE, mean.astype(dtype)),
        test_labels,
        classes,
        name,
    )


def _centre(pixels: np.ndarray, scale: float, mean: np.ndarray) -> np.ndarray:
    images = pixels.astype(mean.dtype)
    images /= scale  # a power of two: exact
    images -= mean
    return images
