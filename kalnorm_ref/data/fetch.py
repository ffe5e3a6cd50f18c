"""Downloads the official CIFAR archives so that a slow or broken line costs the missing bytes and not a fresh start."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from kalnorm_ref.data.cifar import LAYOUTS, DataError, default_folder

HOME = "https://www.cs.toronto.edu/~kriz/"
MD5 = {"cifar10": "c32a1d4ab5d03f1284b67883e8d87530", "cifar100": "03b5dce01913d631647c71ecec9e9cb8"}
CHUNK = 1 << 16  # bytes
TIMEOUT = 60.0  # seconds without a byte


def fetch(
    name: str, folder: str | Path | None = None, url: str | None = None, md5: str | None = None, progress: bool = True
) -> Path:
    """Download one archive, or finish a download that was cut, and return its path.

    The bytes go to NAME.part, which becomes NAME only when its MD5 sum is right; a NAME that is right is left alone.
    `folder` None is the folder that `load` looks in; `url` names a mirror, `md5` (32 hex digits) another file's sum.
    Returns: path of cifar-10-binary.tar.gz or cifar-100-binary.tar.gz, which `load` reads as it is.
    Raises: ValueError for an unknown name or a url that is not http(s); DataError for a failed or cut download (the
    part stays, the next call resumes it) and for a wrong sum (the part is deleted).
    Reference: https://www.cs.toronto.edu/~kriz/cifar.html (files, sums); RFC 9110, section 14 (Range requests).
    """
    if name not in MD5:
        raise ValueError(f"name: got {name!r}, needs one of {', '.join(map(repr, MD5))}")
    url = url or HOME + LAYOUTS[name].archive
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url: got {url!r}, needs http:// or https://")
    md5 = (md5 or MD5[name]).lower()
    path = (default_folder() if folder is None else Path(folder).expanduser()) / LAYOUTS[name].archive
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and _md5(path) == md5:
            return path
        if not (part.is_file() and _md5(part) == md5):
            _download(url, part, progress)
        found = _md5(part)
        if found != md5:
            part.unlink()
            raise DataError(f"{url}: MD5 sum {found}; needs {md5}; the download was deleted, run again")
        os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:
        where = getattr(error, "filename", None) or url  # a local file, or the server
        raise DataError(f"{where}: {_reason(error)}; {_kept(part)}") from error
    return path


def _reason(error: Exception) -> str:
    status = f"HTTP {error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    text = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return status + " ".join(str(text).split())


def _kept(part: Path) -> str:
    size = part.stat().st_size if part.is_file() else 0
    return f"{size} bytes are kept in {part}, run again to resume" if size else "nothing was saved, run again"


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(url: str, part: Path, progress: bool) -> None:
    """Append to `part` what the server still has of it; start over where the server cannot continue."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        reply = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        part.unlink()  # nothing follows it and its sum is wrong: it is no beginning of this file
        return _download(url, part, progress)
    with reply:
        if reply.status != http.client.PARTIAL_CONTENT:
            start = 0  # the server ignored the range and sends the file from its first byte
        elif not reply.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise http.client.HTTPException(f"asked for bytes {start}-, got {reply.headers.get('Content-Range')}")
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = tqdm(total=total, initial=start, desc=part.stem, unit="B", unit_scale=True, disable=not progress)
        with part.open("ab" if start else "wb") as stream, bar:
            while chunk := reply.read(CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))
    size = part.stat().st_size
    if total is not None and size != total:  # http.client ends quietly where the line was cut
        raise DataError(f"{url}: cut off at byte {size} of {total}; {_kept(part)}")
    return None
