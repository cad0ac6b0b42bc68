"""A run's folder belongs to one run at a time, and to nobody once it was killed."""

import errno
import subprocess
import sys

import pytest

from flaxzoo.data import disk
from flaxzoo.errors import UserError
from flaxzoo.training.loop import train
from flaxzoo.training.run import claim

HOLD = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write("process 123 on kepler")
    file.flush()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that trains in tmp_path, as far as can be seen."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_in_a_folder_is_refused(config, tmp_path, holder):
    with pytest.raises(UserError) as caught:
        train(config, tmp_path, quiet=True)
    assert str(caught.value) == (
        f"another process trains in {tmp_path}: process 123 on kepler; wait for it, or use another "
        "--workdir."
    )
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_killed_run_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait(timeout=60)
    assert (tmp_path / ".lock").exists()
    with claim(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith("process ")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_held_while_the_run_lasts(tmp_path):
    with claim(tmp_path / "a" / "run"):
        with pytest.raises(UserError, match="another process trains in"), claim(tmp_path / "a/run"):
            pass
        (tmp_path / "a" / "run" / "config.json").touch()
    assert [path.name for path in (tmp_path / "a" / "run").iterdir()] == ["config.json"]


def test_folders_that_were_made_for_nothing_go(tmp_path):
    with pytest.raises(RuntimeError, match="a slip"), claim(tmp_path / "a" / "run"):
        raise RuntimeError("a slip")
    assert not list(tmp_path.iterdir())


def test_a_folder_whose_name_is_not_utf8_is_refused_before_it_is_made(config, tmp_path):
    with pytest.raises(UserError, match=r"must be UTF-8; got '.*caf\\udce9'"):
        train(config, tmp_path / "caf\udce9", quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_lets_everybody_in(tmp_path, monkeypatch):
    def flock(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(disk.fcntl, "flock", flock)
    with claim(tmp_path), claim(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert not list(tmp_path.iterdir())


def test_a_lock_is_not_passed_on_to_programs_that_a_run_starts(tmp_path):
    """Such as workers that decode images: one that outlives a run is not to hold its folder."""
    with claim(tmp_path):
        code = "import os, sys; print(os.path.realpath(sys.argv[1]) in "
        code += "[os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')])"
        told = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / ".lock")],
            close_fds=False, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    assert told.stdout == "False\n"
