"""Fetching one file: with progress and a checksum, resumable, and quick to say that it cannot.

Proxies are used as the environment says (urllib). Nothing is retried: without a network the answer
comes within seconds, and a broken transfer goes on where it stopped when it is asked for again.
"""

import contextlib
import hashlib
import http.client
import os
import queue
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from flaxzoo.errors import UserError

CONNECT_SECONDS = 8.0  # for name lookup, connection and headers together
STALL_SECONDS = 20.0  # without a single byte, after which a transfer counts as broken
_CHUNK = 1 << 20


def download(
    url: str,
    path: Path,
    *,
    sha256: str,
    size: int | None = None,
    advice: str = "",
    elsewhere: str = "choose another data_dir",
) -> Path:
    """Downloads `url` to `path`, which appears only complete and verified. Returns `path`.

    The bytes go to `path`.part first; if that exists already, it is continued.

    Args:
        sha256: in hexadecimal, or its first digits, as many as are known. A file with another one
            is deleted.
        size: in bytes, if known.
        advice: what to do instead; ends the message of every error of the transfer.
        elsewhere: what to do where the folder cannot be written.

    Raises:
        UserError: no connection, a refusal, a broken transfer, or other content than expected.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
    except OSError as error:
        raise UserError(
            f"cannot write to {path.parent} ({error.strerror}), where {url} is to be downloaded; "
            f"{elsewhere}"
        ) from error
    try:
        if size is None or _bytes_in(part) != size:
            _fetch(url, part, size)
    except (OSError, http.client.HTTPException) as error:
        if not _bytes_in(part):
            part.unlink()
        raise UserError(
            f"cannot download {url} ({_reason(error)}); put the file at {path} yourself{advice}"
        ) from error
    got = _sha256(part)
    if not got.startswith(sha256):
        length = part.stat().st_size
        part.unlink()
        raise UserError(
            f"{url} is not the expected file: sha256 {got} of {length} bytes, expected {sha256}"
            f"{'' if size is None else f' of {size} bytes'}; it was deleted{advice}"
        )
    os.replace(part, path)
    return path


def _fetch(url: str, part: Path, size: int | None) -> None:
    """Completes `part`; raises OSError if the server stops early."""
    start = _bytes_in(part)
    if size is not None and start > size:
        start = 0
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not start:
            raise
        start, response = 0, _open(url, 0)  # the half file is longer than what is there
    with response:
        start = start if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = size if length is None else start + int(length)
        with open(part, "ab" if start else "wb") as file, _progress(url, start, total) as advance:
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                advance(len(chunk))
    if total is not None and _bytes_in(part) < total:
        raise OSError(
            f"broke off after {_bytes_in(part):,} of {total:,} bytes; "
            "asked again, it goes on from there"
        )


def _open(url: str, start: int) -> http.client.HTTPResponse:
    """Sends the request, in a thread: the system's name lookup has no time limit of its own."""
    headers = {"User-Agent": "flaxzoo"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(url, headers=headers)
    answer: queue.Queue = queue.Queue()
    given_up = threading.Event()

    def connect() -> None:
        try:
            opener = urllib.request.build_opener()  # reads the proxies anew; `urlopen` does not
            response = opener.open(request, timeout=STALL_SECONDS)
        except Exception as error:
            answer.put(error)
        else:
            answer.put(response)
            if given_up.is_set():
                response.close()

    threading.Thread(target=connect, daemon=True).start()
    try:
        response = answer.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        given_up.set()
        raise TimeoutError(f"no answer in {CONNECT_SECONDS:g} s") from None
    if isinstance(response, Exception):
        raise response
    return response


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, http.client.IncompleteRead | ConnectionResetError):
        return "the connection broke; asked again, it goes on from there"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _bytes_in(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _progress(url: str, start: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """Shows a bar on a terminal, one line elsewhere, on stderr; yields advance(bytes)."""
    name = url.rsplit("/", 1)[-1]
    if not sys.stderr.isatty():
        size = "" if total is None else f" ({total / 1e6:.1f} MB)"
        print(f"downloading {url}{size}", file=sys.stderr)
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = "[progress.description]{task.description}", BarColumn(), DownloadColumn()
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=total, completed=start)
        yield lambda count: progress.advance(task, count)
