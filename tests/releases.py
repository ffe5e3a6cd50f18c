"""Small CIFAR releases in the official layout, for the tests that read or download one."""

import gzip
import re
import tarfile

import numpy as np

from kalnorm_ref.data import cifar

# the official layouts with few records, so that a test writes kilobytes
SMALL10 = cifar.CIFAR10._replace(train_records=4, test_records=3)
SMALL100 = cifar.CIFAR100._replace(train_records=9, test_records=5)
GET10 = "get it with `kalnorm-ref data fetch cifar10`"


def exactly(message):
    return "^" + re.escape(message) + r"\Z"


def release(folder, layout, seed=0):
    """Write a random release; return its records (N, bytes) of training and test, in the order of the files."""
    rng, parts = np.random.default_rng(seed), {}
    folder.mkdir(parents=True)
    for file, count in layout.records.items():
        labels = rng.integers(0, layout.label_limits, (count, len(layout.label_limits)))
        parts[file] = np.hstack([labels, rng.integers(0, 256, (count, 3072))]).astype(np.uint8)
        (folder / file).write_bytes(parts[file].tobytes())
    (folder / layout.names_file).write_text("".join(f"kind {n}\n" for n in range(layout.label_limits[-1])) + "\n")
    return np.vstack([parts[file] for file in sorted(layout.train_files)]), parts[layout.test_files[0]]


def pack(folder, archive, level=9, leave_out=()):
    with gzip.open(archive, "wb", level) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for path in sorted(folder.iterdir()):
            if path.name not in leave_out:
                tar.add(path, f"{folder.name}/{path.name}")


def pixels(records):
    """Records to (N, 32, 32, 3) by the words of the format: the last 3,072 bytes are a red, a green, a blue plane."""
    red, green, blue = (records[:, start : start + 1024 or None] for start in (-3072, -2048, -1024))
    return np.stack([red, green, blue], axis=-1).reshape(-1, 32, 32, 3)


def equal(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
