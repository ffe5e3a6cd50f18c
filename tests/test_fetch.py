"""Holds the downloader to its promises: resumed, checked, atomic, and clear about what went wrong."""

import errno
import hashlib
import os
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from releases import SMALL10, equal, exactly, pack, release

from kalnorm_ref import data
from kalnorm_ref.data import cifar

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
