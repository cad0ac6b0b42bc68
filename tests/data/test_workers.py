"""Worker processes that die, runs that are killed, little shared memory: nothing waits for ever.

What might, runs in a process of its own, with a time limit.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grain.multiprocessing import SharedMemoryArray

from flaxzoo.data import ArraySplit, FileSplit, workers
from flaxzoo.data.batch_source import BatchSource, TrainPlan
from flaxzoo.data.dataset import Split
from flaxzoo.data.stream import train_batches
from flaxzoo.errors import UserError

TIME_LIMIT = 180  # seconds, of which a quiet machine needs five

PROGRAM = """
import multiprocessing, os, signal, sys, time
import numpy as np
from flaxzoo.data import ArraySplit
from flaxzoo.data.stream import train_batches
from flaxzoo.errors import InputError

if __name__ == "__main__":
    images = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)
    split = ArraySplit(images, np.arange(64, dtype=np.int32))
    options = dict(seed=0, batch_size=32, image_size=64, num_steps=10**6)
    with train_batches(split, workers={count}, **options) as batches:
        for _ in range({count}):  # each worker makes one of them
            next(batches)
        workers = multiprocessing.active_children()
        print(*[worker.pid for worker in workers], flush=True)
{then}
"""


def start(folder: Path, count: int, then: str) -> subprocess.Popen:
    script = folder / "script.py"
    script.write_text(PROGRAM.format(count=count, then=textwrap.indent(then, 8 * " ")))
    return subprocess.Popen(
        [sys.executable, str(script)], text=True, env={"PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


KILL_THE_LAST = """
time.sleep({seconds})
os.kill(workers[-1].pid, signal.SIGKILL)
try:
    for _ in batches:
        pass
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(("count", "seconds"), [(1, 0), (2, 1)])  # with an empty queue, and a full
def test_a_killed_worker_is_told_in_a_sentence(tmp_path, count, seconds):
    process = start(tmp_path, count, KILL_THE_LAST.format(seconds=seconds))
    output, _ = process.communicate(timeout=TIME_LIMIT)
    pids, *said = output.splitlines()
    assert len(pids.split()) == count
    assert said == [
        "a worker process that decodes images was ended by SIGKILL, perhaps for lack of memory: "
        "fewer config.data.workers need less, and 0 decodes in threads"
    ]
    assert process.returncode == 0


def test_workers_end_with_a_run_that_is_killed(tmp_path):
    process = start(tmp_path, 2, "time.sleep(3600)")
    pids = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.communicate(timeout=TIME_LIMIT)
    deadline = time.monotonic() + TIME_LIMIT
    try:
        while running := [pid for pid in pids if is_running(pid)]:
            assert time.monotonic() < deadline, f"still running: {running}"
            time.sleep(0.1)
    finally:
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)
    assert len(pids) == 2


def is_running(pid: int) -> bool:
    try:
        return "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


MB = 10**6


@pytest.mark.parametrize(
    ("free", "fit", "said"),
    [
        (64 * MB, 4, ""),
        (63 * MB, 3, "only 3 of 4 worker processes decode: shared memory has 63.0 MB free, and "),
        (15 * MB, 0, "threads decode: shared memory has 15.0 MB free, and each process needs "),
    ],
)
def test_no_more_workers_start_than_shared_memory_has_room_for(
    monkeypatch, caplog, free, fit, said
):
    """A container's 64 MB must not be filled: a process that tries is killed without a word."""
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: usage)
    assert workers.that_fit(4, 8 * MB) == fit
    assert "".join(caplog.messages).startswith(said)
    assert bool(caplog.messages) == bool(said)


def test_without_a_file_system_of_shared_memory_all_workers_start(monkeypatch):
    monkeypatch.setattr(workers, "SHARED_MEMORY", "/no/such/folder")
    assert workers.that_fit(4, 8 * MB) == 4


def test_threads_decode_where_no_worker_fits(monkeypatch):
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
    images = np.zeros((8, 4, 4, 1), np.uint8)
    split = ArraySplit(images, np.arange(8, dtype=np.int32))
    options = {"seed": 0, "batch_size": 4, "image_size": 4, "num_steps": 3, "workers": 2}
    with train_batches(split, **options) as batches:
        assert len(list(batches)) == 3


def test_an_error_about_something_else_is_left_alone():
    assert workers.death(RuntimeError("the stream was closed")) is None
    error = workers.death(
        RuntimeError("Worker process was terminated unexpectedly with exit code 3. Search")
    )
    assert "was ended by exit code 3, perhaps" in str(error)


def source_of(split: Split) -> BatchSource:
    """Batches of four images, as a worker makes them."""
    source = BatchSource(split, TrainPlan(0, 0, 4, 4), slice(0, 4), 1, 8, "resize", 8, "raise")
    source.workers = 1
    return source


def test_a_worker_makes_images_where_the_run_reads_them():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    batch = source_of(ArraySplit(pixels, np.arange(4, dtype=np.int32)))[0]
    images: Any = batch["image"]
    images.unlink_on_del()
    shared = SharedMemoryArray.from_metadata(images.metadata)
    np.testing.assert_array_equal(shared, pixels[batch["label"]])


def test_shared_memory_of_a_batch_that_fails_is_freed(monkeypatch):
    made = []

    class Spy(SharedMemoryArray):
        def __new__(cls, *args):
            made.append((array := super().__new__(cls, *args)).metadata.name)
            return array

    monkeypatch.setattr("grain.multiprocessing.SharedMemoryArray", Spy)
    missing = FileSplit([f"/no/such/{i}.jpg" for i in range(4)], np.zeros(4, np.int32))
    with pytest.raises(UserError, match="no such file"):
        source_of(missing)[0]
    assert len(made) == 1
    deadline = time.monotonic() + TIME_LIMIT
    while Path(workers.SHARED_MEMORY, made[0]).exists():  # grain may free it in a thread
        assert time.monotonic() < deadline
        time.sleep(0.01)
