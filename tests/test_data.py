"""Holds the data to what training relies on: the right pixels and labels, repeatable batches, and errors that help."""

import gzip
import hashlib
import itertools
import os

import numpy as np
import pytest
from releases import GET10, SMALL10, SMALL100, equal, exactly, pack, pixels, release

from kalnorm_ref import data
from kalnorm_ref.data import cifar, digits


def test_digits_are_the_published_ones_in_the_documented_order():
    train, train_labels, test, test_labels, classes = digits.read()
    assert (train.shape, test.shape, train.dtype) == ((1297, 8, 8, 1), (500, 8, 8, 1), np.uint8)
    labels = np.concatenate([train_labels, test_labels])
    # counts: the UCI description, class distribution of optdigits.tes; sum: scikit-learn's arrays sorted as documented
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    stored = train.tobytes() + test.tobytes() + labels.astype(np.uint8).tobytes()
    assert hashlib.sha256(stored).hexdigest() == "b43e30b00f26de0afa761b4c46306560f17fd2c9e5bf85602e8b900d68abffa6"
    assert classes == tuple("0123456789")


def test_digits_enter_as_sixteenths_minus_the_mean_of_the_training_images_kept():
    raw_train, raw_labels, raw_test, raw_test_labels, _ = digits.read()
    loaded = data.load("digits", train_limit=1024)  # a power of two: every number below is exact in float32
    mean = raw_train[:1024].astype(float).mean(axis=0) / 16
    equal(loaded[:4], (raw_train[:1024] / 16 - mean, raw_labels[:1024], raw_test / 16 - mean, raw_test_labels))
    assert loaded.name == "digits" and loaded.train_labels.dtype == loaded.test_labels.dtype == np.int64
    assert loaded.train_images.dtype == loaded.test_images.dtype == np.float32
    everything = data.load("digits", dtype=np.float64)
    assert everything.train_images.shape == (1297, 8, 8, 1) and everything.train_images.dtype == np.float64
    assert not np.array_equal(everything.test_images, loaded.test_images)  # another mean


@pytest.mark.parametrize("layout", [SMALL10, SMALL100], ids=lambda layout: layout.name)
def test_cifar_is_scaled_and_centred_on_the_first_images(layout, tmp_path, monkeypatch):
    monkeypatch.setitem(cifar.LAYOUTS, layout.name, layout)
    train, test = release(tmp_path / layout.folder, layout)
    loaded = data.load(layout.name, tmp_path, train_limit=8)  # exact in float32 again
    mean = pixels(train[:8]).astype(float).mean(axis=0) / 128
    # the byte before the pixels is the label; in CIFAR-100 the coarse label comes before it
    wanted = pixels(train[:8]) / 128 - mean, train[:8, -3073], pixels(test) / 128 - mean, test[:, -3073]
    equal(loaded[:4], wanted)
    assert loaded.train_images.flags.c_contiguous and loaded.train_images.dtype == np.float32
    assert loaded.classes == tuple(f"kind {n}" for n in range(layout.label_limits[-1])) and loaded.name == layout.name


@pytest.mark.parametrize("layout", [SMALL10, SMALL100], ids=lambda layout: layout.name)
def test_folder_parent_and_archive_give_the_same_release(layout, tmp_path, monkeypatch):
    train, test = release(tmp_path / "a" / layout.folder, layout)
    archive = tmp_path / "b" / layout.archive
    archive.parent.mkdir()
    pack(tmp_path / "a" / layout.folder, archive)
    (tmp_path / "a" / layout.folder).joinpath("stray.txt").write_text("not part of it")
    monkeypatch.setenv("KALNORM_DATA", str(tmp_path / "a"))
    for place in (tmp_path / "a", str(tmp_path / "a" / layout.folder), archive, archive.parent, None):
        equal(cifar.read(layout, place)[:4], (pixels(train), train[:, -3073], pixels(test), test[:, -3073]))
    assert os.listdir(archive.parent) == [layout.archive]  # nothing was unpacked


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_planted_pixel_lands_in_its_row_column_and_channel(plane, tmp_path):
    release(tmp_path / SMALL10.folder, SMALL10)
    record = bytearray(3073)
    record[1 + 1024 * plane + 32 * 5 + 7] = 255
    (tmp_path / SMALL10.folder / "test_batch.bin").write_bytes(bytes(3073) + record + bytes(3073))
    images = cifar.read(SMALL10, tmp_path)[2]
    assert np.argwhere(images).tolist() == [[1, 5, 7, plane]]


def test_cifar10_at_full_size(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for file in (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"):
        with (folder / file).open("wb") as stream:
            stream.truncate(10_000 * 3073)  # zeros that take no disk
    with (folder / "data_batch_1.bin").open("r+b") as stream:
        stream.write(bytes([9, 128]))
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    loaded = data.load("cifar10", tmp_path, train_limit=2)
    assert loaded.train_images[:, 0, 0, 0].tolist() == [0.5, -0.5] and loaded.train_labels.tolist() == [9, 0]
    assert loaded.test_images.shape == (10_000, 32, 32, 3) and set(loaded.test_images[:, 0, 0, 0]) == {-0.5}
    message = "train_limit: got 50001, needs 1..50000, the training images of cifar10"
    with pytest.raises(ValueError, match=exactly(message)):
        data.load("cifar10", tmp_path, train_limit=50_001)


def _rewrite(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


BROKEN = {
    "missing": ("data_batch_3.bin", os.remove, "no such file; needs this file of the binary release"),
    "short": ("data_batch_2.bin", _rewrite(lambda raw: raw[:-1]),
              "12291 bytes, not a whole number of records; needs 4 records of 3073 bytes"),
    "long": ("test_batch.bin", _rewrite(lambda raw: raw + raw[:3073]), "4 records; needs 3 records of 3073 bytes"),
    "empty": ("data_batch_5.bin", _rewrite(lambda raw: b""), "0 records; needs 4 records of 3073 bytes"),
    "label": ("data_batch_4.bin", _rewrite(lambda raw: raw[:6146] + b"\x0a" + raw[6147:]),
              "label byte 0 of record 2 is 10; needs 0..9"),
    "few names": ("batches.meta.txt", _rewrite(lambda raw: raw[7:]), "9 class names; needs 10, one a line"),
    "big names": ("batches.meta.txt", _rewrite(lambda raw: raw + bytes(65536)),
                  "65607 bytes; needs at most 65536 for a list of names"),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize("file, spoil, message", BROKEN.values(), ids=BROKEN)
def test_broken_file_is_named_with_what_was_found_and_needed(file, spoil, message, packed, tmp_path):
    place = folder = tmp_path / SMALL10.folder
    release(folder, SMALL10)
    spoil(folder / file)
    where = folder / file
    if packed:
        place = tmp_path / "some.tar.gz"
        pack(folder, place)
        where = f"{place} (cifar-10-batches-bin/{file})"
        message = message.replace("no such file", "not in the archive")
    with pytest.raises(data.DataError, match=exactly(f"{where}: {message}; {GET10}")):
        cifar.read(SMALL10, place)


@pytest.mark.parametrize("layout", [SMALL10, SMALL100])
def test_without_a_file_of_names_the_classes_have_their_usual_ones(layout, tmp_path):
    folder = tmp_path / layout.folder
    release(folder, layout)
    (folder / layout.names_file).unlink()
    pack(folder, tmp_path / "made.tar.gz")
    for place in (folder, tmp_path / "made.tar.gz"):
        *_, classes = cifar.read(layout, place)
        assert classes == layout.names and len(classes) == layout.label_limits[-1]


def test_coarse_label_out_of_range(tmp_path):
    release(tmp_path / SMALL100.folder, SMALL100)
    path = tmp_path / SMALL100.folder / "test.bin"
    path.write_bytes(b"\x14" + path.read_bytes()[1:])
    message = "label byte 0 of record 0 is 20; needs 0..19; get it with `kalnorm-ref data fetch cifar100`"
    with pytest.raises(data.DataError, match=exactly(f"{path}: {message}")):
        cifar.read(SMALL100, tmp_path)


def test_missing_places(tmp_path, monkeypatch):
    needed = "cifar-10-batches-bin or cifar-10-binary.tar.gz"
    message = f"{tmp_path}: no cifar10 in this folder; needs {needed}; {GET10}"
    with pytest.raises(data.DataError, match=exactly(message)):
        data.load("cifar10", tmp_path)
    message = f"no such folder or file; needs a folder with {needed}; {GET10}"
    with pytest.raises(data.DataError, match=exactly(f"{tmp_path / 'no'}: {message}")):
        data.load("cifar10", tmp_path / "no")
    monkeypatch.setenv("KALNORM_DATA", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(data.DataError, match=exactly(f"{tmp_path}/.cache/kalnorm_ref: {message}")):
        data.load("cifar10")


SPOIL = {
    "half": lambda raw: raw[: len(raw) // 2],
    "no trailer": lambda raw: raw[:-4],
    "one pixel": lambda raw: raw[:9000] + bytes([raw[9000] ^ 1]) + raw[9001:],  # only the gzip checksum notices
    "empty": lambda raw: b"",
    "a web page": lambda raw: b"<html>" * 99,
    "no tar": lambda raw: gzip.compress(b"<html>" * 99),
}


@pytest.mark.parametrize("spoil", SPOIL.values(), ids=SPOIL)
def test_damaged_archive(spoil, tmp_path):
    release(tmp_path / SMALL10.folder, SMALL10)
    archive = tmp_path / SMALL10.archive
    pack(tmp_path / SMALL10.folder, archive, level=0)
    cifar.read(SMALL10, archive)  # it was sound
    archive.write_bytes(spoil(archive.read_bytes()))
    message = exactly(f"{archive}: truncated or damaged (X); needs an intact cifar-10-binary.tar.gz; {GET10}")
    with pytest.raises(data.DataError, match=message.replace("X", ".+")):
        cifar.read(SMALL10, archive)


def test_bad_requests():
    with pytest.raises(ValueError, match=exactly("name: got 'mnist', needs one of 'digits', 'cifar10', 'cifar100'")):
        data.load("mnist")
    with pytest.raises(TypeError, match=exactly("dtype: got int32, needs float32 or float64")):
        data.load("digits", dtype=np.int32)
    for limit in (0, -1, 1298):
        message = f"train_limit: got {limit}, needs 1..1297, the training images of digits"
        with pytest.raises(ValueError, match=exactly(message)):
            data.load("digits", train_limit=limit)


def test_epoch_order_is_a_permutation_of_seed_and_epoch_alone():
    orders = {(seed, epoch): data.epoch_order(97, seed, epoch) for seed in range(4) for epoch in range(4)}
    for key, order in orders.items():
        assert sorted(order) == list(range(97)) and order.dtype == np.int64
        equal([data.epoch_order(97, *key)], [order])
    assert len({tuple(order) for order in orders.values()}) == 16  # (1, 2) is not (2, 1) either


def test_batches_mix_whole_images_anew_every_epoch():
    images, labels = np.arange(103.0).reshape(103, 1, 1, 1) + np.zeros((4, 4, 2)), np.arange(103) * 7
    groups = []
    for epoch in range(2):
        found = list(data.batches(images, labels, 10, seed=5, epoch=epoch))
        assert [x.shape for x, _ in found] == [(10, 4, 4, 2)] * 10  # 3 images are left over
        members = np.concatenate([y for _, y in found])
        assert len(set(members)) == 100
        equal([np.concatenate([x for x, _ in found]) * 7], [members.reshape(-1, 1, 1, 1) + np.zeros((4, 4, 2))])
        groups += [{frozenset(y) for _, y in found}]
    assert not groups[0] & groups[1]  # shuffling batches only would keep the groups


def test_augmented_batches_depend_on_seed_epoch_and_position_alone():
    images, labels = np.random.default_rng(0).normal(3, 2, (24, 6, 6, 2)), np.arange(24)
    same = np.broadcast_to(images[:1], images.shape)  # equal images show the draws alone

    def epoch_of(images, seed, epoch):
        return np.concatenate([x for x, _ in data.batches(images, labels, 8, seed, epoch, augment=True)])

    earlier = [epoch_of(images, 1, epoch) for epoch in range(3)]
    equal([epoch_of(images, 1, 2)], [earlier[2]])  # resumed at epoch 2
    plain = [list(y) for _, y in data.batches(images, labels, 8, 1, 2)]
    assert plain == [list(y) for _, y in data.batches(images, labels, 8, 1, 2, augment=True)]
    pieces = [part.tobytes() for key in ((1, 0), (1, 1), (2, 0)) for part in np.split(epoch_of(same, *key), 3)]
    assert len(set(pieces)) == 9  # no two batches share their draws


def test_augment_shifts_within_four_zeros_and_flips_half():
    image = np.arange(1.0, 127.0).reshape(1, 7, 6, 3)  # no two numbers alike, higher than wide
    frame = np.pad(image[0], ((4, 4), (4, 4), (0, 0)))
    draws = list(itertools.product(range(9), range(9), (1, -1)))
    names = {frame[top : top + 7, left : left + 6][:, ::flip].tobytes(): (top, left, flip) for top, left, flip in draws}
    stack = np.repeat(image, 4000, axis=0)
    out = data.augment(stack, np.random.default_rng(3))
    equal([stack[0]], [image[0]])
    drawn = [names[one.tobytes()] for one in out]  # a KeyError is an image that is no crop
    assert set(drawn) == set(draws) and abs(np.mean([flip for *_, flip in drawn])) < 0.06  # 4 standard deviations
    single = data.augment(stack.astype(np.float32), np.random.default_rng(3))
    equal([single], [out])
    assert (single.dtype, out.dtype) == (np.float32, np.float64)
    with pytest.raises(ValueError, match=exactly("images: got shape (7, 6, 3), needs (N, H, W, C)")):
        data.augment(image[0], np.random.default_rng(3))


def test_bad_batches_raise_at_the_call():
    images, labels = np.zeros((5, 2, 2, 1)), np.zeros(5, int)
    for size in (0, -3, 6):
        with pytest.raises(ValueError, match=exactly(f"batch_size: got {size}, needs 1..5, the number of images")):
            data.batches(images, labels, size, 0, 0)
    with pytest.raises(ValueError, match=exactly("labels: got 4, needs 5, one for each image")):
        data.batches(images, labels[1:], 2, 0, 0)
    with pytest.raises(ValueError, match=exactly("epoch: got -1, needs an integer of at least 0")):
        data.batches(images, labels, 2, 0, -1)
    with pytest.raises(ValueError, match=exactly("seed: got -2, needs an integer of at least 0")):
        data.epoch_order(5, -2, 0)
