"""Reads the official binary CIFAR-10 and CIFAR-100, because the pickled releases would run code taken from a file.

A record is one byte for each label, then 3 planes (red, green, blue) of 32 rows of 32 pixels, a byte each. A release is
read from its folder or from its .tar.gz, in memory; nothing is unpacked.
"""

import gzip
import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

SCALE = 128.0
SIZE = 32
PLANES = 3
NAMES_LIMIT = 1 << 16  # bytes; a list of class names is far shorter


class DataError(ValueError):
    """A data file or a download is missing, damaged or not what it should be; the message is one line."""


class Layout(NamedTuple):
    """How one binary release is cut into files and records; tests read small releases through other values."""

    name: str
    folder: str
    archive: str
    train_files: tuple[str, ...]
    train_records: int  # in each training file
    test_files: tuple[str, ...]
    test_records: int  # in each test file
    label_limits: tuple[int, ...]  # number of values of each label byte; the last byte is the label used
    names_file: str  # one class name a line; where it is missing, `names`
    names: tuple[str, ...]

    @property
    def record(self) -> int:
        """Bytes of one record."""
        return len(self.label_limits) + PLANES * SIZE * SIZE

    @property
    def records(self) -> dict[str, int]:
        """Number of records of each binary file, by file name."""
        train = dict.fromkeys(self.train_files, self.train_records)
        return train | dict.fromkeys(self.test_files, self.test_records)


CIFAR10 = Layout(
    "cifar10",
    "cifar-10-batches-bin",
    "cifar-10-binary.tar.gz",
    tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    10_000,
    ("test_batch.bin",),
    10_000,
    (10,),
    "batches.meta.txt",
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
CIFAR100 = Layout(
    "cifar100",
    "cifar-100-binary",
    "cifar-100-binary.tar.gz",
    ("train.bin",),
    50_000,
    ("test.bin",),
    10_000,
    (20, 100),
    "fine_label_names.txt",
    tuple(f"class {number}" for number in range(100)),
)
LAYOUTS = {layout.name: layout for layout in (CIFAR10, CIFAR100)}


def default_folder() -> Path:
    """Return the folder of downloads: the environment variable KALNORM_DATA, else ~/.cache/kalnorm_ref."""
    return Path(os.environ.get("KALNORM_DATA") or "~/.cache/kalnorm_ref").expanduser()


def read(
    layout: Layout, folder: str | Path | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read one release as it is stored, in the order of its files.

    `folder` is the release's own folder, its .tar.gz, or the folder that holds either; None is `default_folder()`.
    Returns: train_images (N, 32, 32, 3) uint8 in 0..255 channels R, G, B, train_labels (N,) int64, test_images (M, 32,
    32, 3), test_labels (M,), classes (names in the order of the labels).
    Raises: DataError for a missing, truncated, damaged or foreign file.
    Reference: A. Krizhevsky (2009), "Learning multiple layers of features from tiny images", and the format's
    description at https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    path = _locate(layout, folder)
    stored = _read_archive(path, layout) if path.is_file() else _read_folder(path, layout)
    train = _decode(path, layout, layout.train_files, stored)
    test = _decode(path, layout, layout.test_files, stored)
    classes = layout.names
    if layout.names_file in stored:
        lines = stored[layout.names_file].decode("utf-8", errors="replace").splitlines()
        classes = tuple(line.strip() for line in lines if line.strip())
    if len(classes) != layout.label_limits[-1]:
        where = _where(path, layout, layout.names_file)
        raise _error(layout, where, f"{len(classes)} class names", f"{layout.label_limits[-1]}, one a line")
    return *train, *test, classes


def _error(layout: Layout, where: str | Path, found: str, needed: str) -> DataError:
    return DataError(f"{where}: {found}; needs {needed}; get it with `kalnorm-ref data fetch {layout.name}`")


def _where(path: Path, layout: Layout, file: str) -> str:
    """Name one file of the release for a message: inside the folder, or inside the archive."""
    return f"{path} ({layout.folder}/{file})" if path.is_file() else str(path / file)


def _locate(layout: Layout, folder: str | Path | None) -> Path:
    path = default_folder() if folder is None else Path(folder).expanduser()
    if path.is_file():
        return path
    needed = f"{layout.folder} or {layout.archive}"
    if not path.is_dir():
        raise _error(layout, path, "no such folder or file", f"a folder with {needed}")
    inner, archive = path / layout.folder, path / layout.archive
    if inner.is_dir():
        return inner
    if path.name == layout.folder or any((path / file).exists() for file in layout.records):
        return path
    if archive.is_file():
        return archive
    raise _error(layout, path, f"no {layout.name} in this folder", needed)


def _check_size(layout: Layout, where: str | Path, file: str, size: int) -> None:
    """Refuse a file by its size alone, before a byte of it is read into memory."""
    if file == layout.names_file:
        if size > NAMES_LIMIT:
            raise _error(layout, where, f"{size} bytes", f"at most {NAMES_LIMIT} for a list of names")
        return
    count, rest = divmod(size, layout.record)
    wanted = f"{layout.records[file]} records of {layout.record} bytes"
    if rest:
        raise _error(layout, where, f"{size} bytes, not a whole number of records", wanted)
    if count != layout.records[file]:
        raise _error(layout, where, f"{count} records", wanted)


def _read_folder(path: Path, layout: Layout) -> dict[str, bytes]:
    stored = {}
    for file in (*layout.records, layout.names_file):
        where = path / file
        if file == layout.names_file and not where.exists():
            continue
        if not where.is_file():
            raise _error(layout, where, "no such file", "this file of the binary release")
        try:
            _check_size(layout, where, file, where.stat().st_size)
            stored[file] = where.read_bytes()
        except OSError as error:
            raise _error(layout, where, f"cannot be read ({error.strerror})", "a readable file") from error
    return stored


def _read_archive(path: Path, layout: Layout) -> dict[str, bytes]:
    stored = {}
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                file = PurePosixPath(member.name).name
                if member.isfile() and (file in layout.records or file == layout.names_file):
                    _check_size(layout, _where(path, layout, file), file, member.size)
                    stored[file] = archive.extractfile(member).read()
            while stream.read(1 << 20):  # gzip compares its checksum only at the end of the stream
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise _error(layout, path, f"truncated or damaged ({error})", f"an intact {layout.archive}") from error
    for file in layout.records:
        if file not in stored:
            raise _error(layout, _where(path, layout, file), "not in the archive", "this file of the binary release")
    return stored


def _decode(
    path: Path, layout: Layout, files: tuple[str, ...], stored: dict[str, bytes]
) -> tuple[np.ndarray, np.ndarray]:
    """Turn records into images (N, 32, 32, 3) uint8 and labels (N,) int64, file after file."""
    total = sum(layout.records[file] for file in files)
    images = np.empty((total, SIZE, SIZE, PLANES), np.uint8)
    labels = np.empty(total, np.int64)
    bytes_of_label, start = len(layout.label_limits), 0
    for file in files:
        records = np.frombuffer(stored[file], np.uint8).reshape(-1, layout.record)
        for column, limit in enumerate(layout.label_limits):
            row = int(records[:, column].argmax())
            if records[row, column] >= limit:
                found = f"label byte {column} of record {row} is {records[row, column]}"
                raise _error(layout, _where(path, layout, file), found, f"0..{limit - 1}")
        rows = slice(start, start + len(records))
        labels[rows] = records[:, bytes_of_label - 1]
        planes = records[:, bytes_of_label:].reshape(-1, PLANES, SIZE, SIZE)
        images[rows] = planes.transpose(0, 2, 3, 1)
        start = rows.stop
    return images, labels
