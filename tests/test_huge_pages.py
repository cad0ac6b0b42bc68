"""Programs start a second time, with huge pages, where that changes something."""

import os
import subprocess
import sys

import pytest

from flaxzoo import huge_pages

PROGRAM = """
import os, sys, threading
from pathlib import Path
from flaxzoo import huge_pages

huge_pages.OFFER = Path(sys.argv[1])
if "--guest" in sys.argv:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print(os.getpid(), sys.argv[2:], os.environ.get(huge_pages.TUNABLES), flush=True)
huge_pages.restart_with_huge_pages()
print("runs")
"""


def lines(tmp_path, offer, *flags, **environ):
    (tmp_path / "enabled").write_text(offer)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "enabled"), "a b", *flags]
    environ = {k: v for k, v in os.environ.items() if k != huge_pages.TUNABLES} | environ
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_the_same_process_starts_again_with_the_same_arguments(tmp_path):
    first, second, end = lines(tmp_path, "always [madvise] never", "--c")
    assert first.endswith(" ['a b', '--c'] None")
    assert second == first.replace("None", "glibc.malloc.hugetlb=1")
    assert end == "runs"


@pytest.mark.parametrize(
    ("offer", "environ"),
    [
        ("[always] madvise never", {}),
        ("always madvise [never]", {}),
        ("always [madvise] never", {huge_pages.TUNABLES: "glibc.malloc.check=0"}),
    ],
)
def test_it_starts_once_where_nothing_would_change(offer, environ, tmp_path):
    assert len(lines(tmp_path, offer, **environ)) == 2


def test_a_process_with_other_threads_goes_on(tmp_path):
    assert len(lines(tmp_path, "always [madvise] never", "--guest")) == 2


def test_a_system_without_them_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.delenv(huge_pages.TUNABLES, raising=False)
    monkeypatch.setattr(huge_pages, "OFFER", tmp_path / "missing")
    huge_pages.restart_with_huge_pages()
    assert huge_pages.TUNABLES not in os.environ
