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

from flaxzoo.data.disk import as_size, check_space, exclusive, full, is_full
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

    The bytes go to `path`.part first; if that exists already, it is continued. Of several processes
    that want the same file, one downloads it while the others wait.

    Args:
        sha256: in hexadecimal, or its first digits, as many as are known. A file with another one
            is deleted.
        size: in bytes, if known.
        advice: what to do instead; ends the message of every error of the transfer.
        elsewhere: what to do where the folder cannot be written.

    Raises:
        UserError: no connection, a refusal, a broken transfer, no room for it, or other content
            than expected.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.with_name(path.name + ".lock")
            stack.enter_context(exclusive(lock, f"downloads {url}"))
        except OSError as error:
            raise UserError(
                f"cannot write to {path.parent} ({error.strerror}), where {url} is to be "
                f"downloaded; {elsewhere}"
            ) from error
        if not path.exists():  # another process, which was waited for, may have made it
            part = path.with_name(path.name + ".part")
            _complete(url, part, size, f"put the file at {path} yourself{advice}", elsewhere)
            try:
                verify(part, url, sha256, size)
            except UserError as error:
                part.unlink()
                raise UserError(f"{error}; it was deleted{advice}") from None
            os.replace(part, path)
    return path


def read_text(url: str, most: int, *, advice: str = "") -> str:
    """Returns what is at `url`, at most so many bytes of it.

    Args:
        advice: what to do instead; ends the message.

    Raises:
        UserError: no connection, a refusal or a broken transfer.
    """
    try:
        with _open(url, 0) as response:
            return response.read(most).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise UserError(
            f"cannot read {url} ({_reason(error)}); put the file in its place yourself{advice}"
        ) from error


def unreachable(url: str) -> str | None:
    """Returns why there is no connection to the server of `url`; None if it answers, anything."""
    try:
        _open(url, 0).close()
    except urllib.error.HTTPError as error:
        error.close()
    except (OSError, http.client.HTTPException) as error:
        return _reason(error)
    return None


def _complete(url: str, part: Path, size: int | None, advice: str, elsewhere: str) -> None:
    """Makes `part` as long as the file at `url`; leaves no empty one behind."""
    done, folder = _bytes_in(part), part.parent
    if size is not None:
        check_space(folder, size - done, f"downloading {url}", elsewhere)
    try:
        if size is None or done != size:
            _fetch(url, part, size)
    except (OSError, http.client.HTTPException) as error:
        if not _bytes_in(part):
            part.unlink(missing_ok=True)
        if is_full(error):
            raise full(folder, size, f"downloading {url}", elsewhere) from error
        raise UserError(f"cannot download {url} ({_reason(error)}); {advice}") from error


def verify(path: Path, url: str, sha256: str, size: int | None = None) -> None:
    """Raises UserError unless the file at `path` is the one that `url` is known to hold."""
    with open(path, "rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if not got.startswith(sha256):
        raise UserError(
            f"{url} is not the expected file: sha256 {got} of {path.stat().st_size} bytes, "
            f"expected {sha256}{'' if size is None else f' of {size} bytes'}"
        )


def _check_room(url: str, part: Path, size: int, elsewhere: str) -> None:
    """Raises UserError if the rest of a file does not fit; leaves no empty `part` then."""
    done = _bytes_in(part)
    try:
        check_space(part.parent, size - done, f"downloading {url}", elsewhere)
    except UserError:
        if not done:
            part.unlink()
        raise


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
        mode = "ab" if start else "wb"
        with open(part, mode) as file, progress("downloading", url, start, total) as advance:
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


@contextlib.contextmanager
def progress(
    what: str, name: str, start: int, total: int | None
) -> Iterator[Callable[[int], None]]:
    """Shows a bar on a terminal, one line elsewhere, on stderr; yields advance(bytes).

    Args:
        what: is done to `name`, as in "downloading".
        start, total: bytes that are done, and those that are in all.
    """
    if not sys.stderr.isatty():
        size = "" if total is None else f" ({as_size(total)})"
        print(f"{what} {name}{size}", file=sys.stderr)
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = "[progress.description]{task.description}", BarColumn(), DownloadColumn()
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{what} {name.rsplit('/', 1)[-1]}", total=total, completed=start)
        yield lambda count: bar.advance(task, count)
