"""Reads the handwritten digits embedded in the package, so that a first training run needs no download.

Source: E. Alpaydin and C. Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
doi 10.24432/C50P49, licence CC BY 4.0; taken from scikit-learn's copy, which is the 1,797 images of the UCI test file.
DIGITS_LICENSE.md beside this file says what was changed.

The order is fixed in the file: row i of the source, sorted by the hexadecimal SHA-256 of str(i). No random generator
had a part in it, and anyone can make the file again. The same 13 people wrote the training and the test images.
"""

from importlib.resources import files

import numpy as np

TRAIN_COUNT = 1297  # the first rows of the file; the last 500 are the test images
SCALE = 16.0  # each pixel counts the set pixels of a 4x4 block, 0..16
CLASSES = tuple("0123456789")


def read() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read the embedded digits as they are stored.

    Returns: train_images (1297, 8, 8, 1) uint8 in 0..16, train_labels (1297,) int64 in 0..9, test_images (500, 8, 8,
    1), test_labels (500,), classes (10 names).
    Reference: Alpaydin and Kaynak (1998), doi 10.24432/C50P49.
    """
    with files(__package__).joinpath("digits.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        images = stored["images"][..., np.newaxis]
        labels = stored["labels"].astype(np.int64)
    return images[:TRAIN_COUNT], labels[:TRAIN_COUNT], images[TRAIN_COUNT:], labels[TRAIN_COUNT:], CLASSES
