"""Holds the data to what training relies on: the right pixels and labels, repeatable batches, and errors that help."""

import errno
import gzip
import hashlib
import itertools
import os
import re
import socket
import tarfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from kalnorm_ref import data
from kalnorm_ref.data import cifar, digits

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
    "no names": ("batches.meta.txt", os.remove, "no such file; needs this file of the binary release"),
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


BODY = np.random.default_rng(1).bytes(200_000)
SUM = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def serve(monkeypatch):
    """Start servers of BODY; `cut` ends the first answer early, `shift` answers a range from the wrong byte."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = []

    def start(ranges=True, cut=None, shift=0, body=BODY):
        seen, sent = [], []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append(self.headers["Range"])
                first = int(seen[-1][6:-1]) + shift if seen[-1] and ranges else 0
                known = self.path == "/file" and first < len(body)
                self.send_response((206 if first else 200) if known else 416 if first else 404)
                self.send_header("Content-Length", len(body) - first if known else 0)
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
                self.end_headers()
                reply = body[first : cut if len(seen) == 1 else None] if known else b""
                sent.append(len(reply))  # before the client can be done with it
                self.wfile.write(reply)

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        running.append((server, thread))
        return SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/file", seen=seen, sent=sent)

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "new" / "folders" / "cifar-10-binary.tar.gz"
    return SimpleNamespace(folder=path.parent, path=path, part=path.with_name(path.name + ".part"))


def get(server, target, **options):
    return data.fetch("cifar10", target.folder, **{"url": server.url, "md5": SUM, "progress": False} | options)


def plant(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_fetch_afresh_and_only_once(serve, target, capsys):
    server = serve()
    assert get(server, target) == target.path and capsys.readouterr().err == ""
    assert target.path.read_bytes() == BODY and os.listdir(target.folder) == [target.path.name]
    assert get(server, target, md5=SUM.upper()) == target.path and server.seen == [None]
    plant(target.path, BODY[:-1] + b"?")  # a damaged archive is replaced
    get(server, target, progress=True)
    assert target.path.read_bytes() == BODY and "cifar-10-binary.tar.gz: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_fetch_resumes_a_cut_download(ranges, serve, target, capsys):
    server = serve(ranges, cut=70_000)
    kept = f"70000 bytes are kept in {target.part}, run again to resume"
    with pytest.raises(data.DataError, match=exactly(f"{server.url}: cut off at byte 70000 of 200000; {kept}")):
        get(server, target)
    assert target.part.read_bytes() == BODY[:70_000] and not target.path.exists()
    assert get(server, target, progress=True).read_bytes() == BODY and not target.part.exists()
    assert "cifar-10-binary.tar.gz: 100%" in capsys.readouterr().err  # the bar counts the bytes kept
    assert server.seen == [None, "bytes=70000-"] and server.sent == [70_000, 130_000 if ranges else 200_000]


def test_fetch_with_a_whole_or_overlong_part(serve, target):
    server = serve()
    plant(target.part, BODY)
    assert get(server, target).read_bytes() == BODY and server.seen == []  # nothing was missing
    target.path.unlink()
    plant(target.part, b"?" + BODY[1:])  # 416: nothing follows, but the sum is wrong
    assert get(server, target).read_bytes() == BODY and server.seen == ["bytes=200000-", None]


def test_fetch_refuses_a_wrong_sum(serve, target):
    server = serve()
    plant(target.part, b"?" * 100)  # the beginning of another file
    found = hashlib.md5(b"?" * 100 + BODY[100:]).hexdigest()
    message = f"{server.url}: MD5 sum {found}; needs {SUM}; the download was deleted, run again"
    with pytest.raises(data.DataError, match=exactly(message)):
        get(server, target)
    assert os.listdir(target.folder) == []
    official = {"cifar10": "c32a1d4ab5d03f1284b67883e8d87530", "cifar100": "03b5dce01913d631647c71ecec9e9cb8"}
    for name, wanted in official.items():
        message = f"{server.url}: MD5 sum {SUM}; needs {wanted}; the download was deleted, run again"
        with pytest.raises(data.DataError, match=exactly(message)):
            data.fetch(name, target.folder, server.url, progress=False)


def test_fetch_explains_what_the_network_did(serve, target):
    server = serve()
    url = server.url + "/lost"
    with pytest.raises(data.DataError, match=exactly(f"{url}: HTTP 404 Not Found; nothing was saved, run again")):
        get(server, target, url=url)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"
    plant(target.part, BODY[:9])
    reason = f"[Errno {errno.ECONNREFUSED}] {os.strerror(errno.ECONNREFUSED)}"
    kept = f"9 bytes are kept in {target.part}, run again to resume"
    with pytest.raises(data.DataError, match=exactly(f"{url}: {reason}; {kept}")):
        get(server, target, url=url)
    server = serve(shift=5)
    message = f"{server.url}: asked for bytes 9-, got bytes 14-199999/200000; {kept}"
    with pytest.raises(data.DataError, match=exactly(message)):
        get(server, target)
    assert target.part.read_bytes() == BODY[:9]
    plant(target.folder / "file", b"")
    message = f"{target.folder / 'file'}: File exists; nothing was saved, run again"
    with pytest.raises(data.DataError, match=exactly(message)):
        data.fetch("cifar10", target.folder / "file", server.url)


def test_fetch_asks_the_official_server_and_nothing_but_http(target, monkeypatch):
    asked = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda request, timeout: asked.append(request.full_url) or 1 / 0)
    for name in ("cifar10", "cifar100"):
        with pytest.raises(ZeroDivisionError):
            data.fetch(name, target.folder)
    home = "https://www.cs.toronto.edu/~kriz/cifar-"
    assert asked == [home + "10-binary.tar.gz", home + "100-binary.tar.gz"]
    with pytest.raises(ValueError, match=exactly("name: got 'digits', needs one of 'cifar10', 'cifar100'")):
        data.fetch("digits")
    with pytest.raises(ValueError, match=exactly("url: got 'file:///etc/hosts', needs http:// or https://")):
        data.fetch("cifar10", target.folder, "file:///etc/hosts")


def test_load_reads_what_fetch_brought(serve, tmp_path, monkeypatch):
    monkeypatch.setitem(cifar.LAYOUTS, "cifar10", SMALL10)
    monkeypatch.setenv("KALNORM_DATA", str(tmp_path / "home"))
    train, _ = release(tmp_path / "made" / SMALL10.folder, SMALL10)
    pack(tmp_path / "made" / SMALL10.folder, tmp_path / "made.tar.gz")
    body = (tmp_path / "made.tar.gz").read_bytes()
    data.fetch("cifar10", url=serve(body=body).url, md5=hashlib.md5(body).hexdigest(), progress=False)
    equal([data.load("cifar10").train_labels], [train[:, -3073]])
