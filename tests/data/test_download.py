"""Downloads, from a server on this machine that misbehaves in one way at a time."""

import contextlib
import errno
import hashlib
import http.server
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from flaxzoo.data import disk
from flaxzoo.data import download as module
from flaxzoo.data.download import download
from flaxzoo.errors import UserError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the path says what goes wrong."""

    def do_GET(self) -> None:  # the name is http.server's
        self.server.requests.append((self.path, self.headers.get("Range")))  # type: ignore
        start = self._start()
        if "missing" in self.path:
            return self.send_error(404)
        if start is not None and start >= len(CONTENT):
            return self.send_error(416)
        body = CONTENT[start or 0 :]
        self.send_response(200 if start is None else 206)
        if "unsized" not in self.path:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 3] if "broken" in self.path else body[:50_000])
        if "held" in self.path and start is None:
            self.wfile.flush()
            self.server.began.set()  # type: ignore[attr-defined]
            self.server.go_on.wait(300)  # type: ignore[attr-defined]
        if "broken" not in self.path:
            self.wfile.write(body[50_000:])

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # of a client that was killed
            super().handle()

    def _start(self) -> int | None:
        asked = self.headers.get("Range")
        if asked is None or "rangeless" in self.path:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[http.server.ThreadingHTTPServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.requests = []  # type: ignore[attr-defined]
    running.began, running.go_on = threading.Event(), threading.Event()  # type: ignore
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def url(server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def fetch(url: str, path: Path, **options) -> Path:
    return download(url, path, **({"sha256": SHA256, "size": len(CONTENT)} | options))


def test_a_file_arrives_whole_and_alone(url, tmp_path, capsys):
    path = fetch(f"{url}/set.bin", tmp_path / "new" / "set.bin")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["set.bin"]
    assert capsys.readouterr().err == f"downloading {url}/set.bin (0.3 MB)\n"


@pytest.mark.parametrize("path", ["set.bin", "unsized.bin"])
@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_the_size_need_not_be_known(url, tmp_path, path, size):
    assert fetch(f"{url}/{path}", tmp_path / "set", size=size).read_bytes() == CONTENT


def test_other_content_is_deleted(url, tmp_path):
    with pytest.raises(UserError, match=rf"not the expected file: sha256 {SHA256} .* expected 00"):
        fetch(f"{url}/set.bin", tmp_path / "set.bin", sha256="00")
    assert not list(tmp_path.iterdir())


def test_the_first_digits_of_the_checksum_will_do(url, tmp_path):
    assert fetch(f"{url}/set.bin", tmp_path / "a", sha256=SHA256[:8]).read_bytes() == CONTENT
    with pytest.raises(UserError, match=r"expected 0123abcd"):
        fetch(f"{url}/set.bin", tmp_path / "b", sha256="0123abcd")


@pytest.mark.parametrize("name", ["set.bin", "rangeless.bin"])
def test_half_a_file_is_completed(url, server, tmp_path, name):
    (tmp_path / f"{name}.part").write_bytes(CONTENT[:100_000])
    assert fetch(f"{url}/{name}", tmp_path / name).read_bytes() == CONTENT
    assert server.requests == [(f"/{name}", "bytes=100000-")]


def test_a_complete_part_is_not_asked_for_again(url, server, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    assert fetch(f"{url}/set.bin", tmp_path / "set.bin").read_bytes() == CONTENT
    assert not server.requests


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_that_is_too_long_is_started_anew(url, tmp_path, size):
    (tmp_path / "set.bin.part").write_bytes(CONTENT + b"more")
    path = fetch(f"{url}/set.bin", tmp_path / "set.bin", size=size)
    assert path.read_bytes() == CONTENT


def test_a_broken_transfer_says_so_and_goes_on_when_asked_again(url, tmp_path):
    path = tmp_path / "set.bin"
    with pytest.raises(UserError, match="broke off after 100,000 of 300,000 bytes"):
        fetch(f"{url}/broken.bin", path)
    assert not path.exists()
    assert (tmp_path / "set.bin.part").stat().st_size == 100_000
    assert fetch(f"{url}/set.bin", path).read_bytes() == CONTENT


def test_a_refusal_is_told_with_the_ways_out(url, tmp_path):
    with pytest.raises(UserError) as caught:
        fetch(f"{url}/missing.bin", tmp_path / "set.bin", advice="; or use digits")
    assert str(caught.value) == (
        f"cannot download {url}/missing.bin (the server answered 404 Not Found); "
        f"put the file at {tmp_path / 'set.bin'} yourself; or use digits"
    )
    assert not list(tmp_path.iterdir())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "flaxzoo.invalid"])
def test_without_a_server_the_answer_comes_within_seconds(tmp_path, monkeypatch, host):
    monkeypatch.setenv("no_proxy", "*")
    start = time.perf_counter()
    with pytest.raises(UserError, match=f"cannot download http://{host}.*put the file at"):
        fetch(f"http://{host}:{free_port()}/set.bin", tmp_path / "set.bin")
    assert time.perf_counter() - start < 10


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(UserError, match=r"no answer in 0\.2 s"):
            fetch(f"http://127.0.0.1:{deaf.getsockname()[1]}/set.bin", tmp_path / "set.bin")


def test_a_proxy_of_the_environment_is_used(url, server, tmp_path, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", url)
    fetch("http://flaxzoo.invalid/set.bin", tmp_path / "set.bin")
    assert server.requests == [("http://flaxzoo.invalid/set.bin", None)]


def test_a_folder_that_cannot_be_written_is_named(url, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"cannot write to {tmp_path / 'file'} .*another data_dir"):
        fetch(f"{url}/set.bin", tmp_path / "file" / "set.bin")


def test_a_terminal_shows_a_bar(url, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fetch(f"{url}/set.bin", tmp_path / "set.bin")
    assert "set.bin" in capsys.readouterr().err


PROGRAM = (
    "import sys; from pathlib import Path; from flaxzoo.data.download import download; "
    "download(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3])"
)


@contextlib.contextmanager
def process(url: str, path: Path) -> Iterator[subprocess.Popen]:
    """Starts a process that downloads; ends it."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, str(path), SHA256],
        cwd=Path(module.__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def test_of_two_processes_one_downloads_while_the_other_waits(url, server, tmp_path):
    path = tmp_path / "held.bin"
    with process(f"{url}/held.bin", path) as one:
        assert server.began.wait(300)
        with process(f"{url}/held.bin", path) as other:
            said = other.stderr.readline()
            assert said == f"waiting: another process downloads {url}/held.bin\n"
            server.go_on.set()
            assert (one.wait(300), other.wait(300)) == (0, 0)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["held.bin"]


def test_what_a_killed_process_has_begun_is_completed(url, server, tmp_path):
    path, part = tmp_path / "held.bin", tmp_path / "held.bin.part"
    with process(f"{url}/held.bin", path) as killed:
        assert server.began.wait(300)
        wait_for(lambda: part.exists() and part.stat().st_size == 50_000)
        killed.kill()
        killed.wait(300)
        assert (tmp_path / "held.bin.lock").exists()  # a file that locks nothing
        server.go_on.set()
        assert fetch(f"{url}/held.bin", path).read_bytes() == CONTENT
    assert server.requests[1] == ("/held.bin", "bytes=50000-")
    assert [p.name for p in tmp_path.iterdir()] == ["held.bin"]


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_without_room_nothing_is_asked_for(url, server, tmp_path, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=200_000)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError) as caught:
        fetch(f"{url}/set.bin", tmp_path / "set.bin")
    assert str(caught.value) == (
        f"downloading {url}/set.bin needs 0.3 MB in {tmp_path}, which has 0.2 MB free; make room, "
        "or choose another data_dir"
    )
    assert not server.requests
    assert not list(tmp_path.iterdir())
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:100_000])
    assert fetch(f"{url}/set.bin", tmp_path / "set.bin").read_bytes() == CONTENT  # the rest fits


def test_a_disk_that_fills_up_is_told_and_the_rest_comes_later(url, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError) as caught:
            fetch(f"{url}/set.bin", tmp_path / "set.bin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == (
        f"the disk of {tmp_path} is full: downloading {url}/set.bin needs 0.3 MB there, in all; "
        "make room and ask again, or choose another data_dir"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["set.bin.part"]
    assert fetch(f"{url}/set.bin", tmp_path / "set.bin").read_bytes() == CONTENT


def test_a_file_system_without_locks_lets_everybody_in(tmp_path, monkeypatch):
    def flock(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(disk.fcntl, "flock", flock)
    with disk.exclusive(tmp_path / "lock", "works"), disk.exclusive(tmp_path / "lock", "works"):
        assert (tmp_path / "lock").exists()
    assert not list(tmp_path.iterdir())
