"""Streams: the order's images, the same for any number of workers and from any step; bad files."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from flaxzoo import data
from flaxzoo.data import ArraySplit
from flaxzoo.data.order import batch_indices
from flaxzoo.data.stream import eval_batches_of, resident, train_batches
from flaxzoo.errors import UserError


def numbered(n: int = 23, size: int = 8) -> ArraySplit:
    """Noisy images; label i is image i."""
    images = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)
    return ArraySplit(images, np.arange(n, dtype=np.int32))


def collect(**options) -> list[dict[str, np.ndarray]]:
    defaults = {"seed": 1, "batch_size": 4, "image_size": 6, "num_steps": 12}
    with train_batches(numbered(), **(defaults | options)) as batches:
        return list(batches)


def assert_same(got: list[dict[str, np.ndarray]], expected: list[dict[str, np.ndarray]]):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_batches_hold_the_images_that_the_order_names():
    split = numbered()
    batches = collect(crop="resize", image_size=8)
    for step, batch in enumerate(batches):
        indices = batch_indices(1, step, 23, 4)
        np.testing.assert_array_equal(batch["label"], indices)
        np.testing.assert_array_equal(batch["image"], split.images[indices])
    assert batches[0]["image"].dtype == np.uint8
    assert batches[0]["label"].dtype == np.int32


def test_worker_processes_change_nothing():
    assert_same(collect(workers=2), collect())


def test_a_stream_can_start_at_any_step():
    assert_same(collect(start_step=7, num_steps=5), collect()[7:])


def test_each_epoch_crops_anew():
    first, second = (
        {
            int(label): image
            for b in epoch
            for label, image in zip(b["label"], b["image"], strict=True)
        }
        for epoch in (collect(num_steps=5), collect(start_step=5, num_steps=5))
    )
    common = first.keys() & second.keys()
    assert len(common) > 10
    assert all((first[i] != second[i]).any() for i in common)


def test_processes_share_the_global_batch():
    shares = [collect(process_index=i, process_count=2) for i in (0, 1)]
    joined = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*shares, strict=True)]
    assert_same(joined, collect())


@pytest.mark.parametrize(
    ("crop", "resize"),
    [("random_resized", None), ("resize", None), ("center", None), ("center", 9)],
)
def test_images_of_any_size_leave_in_one(folder, crop, resize):
    pets = data.load(f"folder={folder}", validation=0)
    options = {"seed": 0, "batch_size": 5, "image_size": 7, "num_steps": 2}
    with train_batches(pets.train, crop=crop, resize=resize, **options) as batches:
        assert [batch["image"].shape for batch in batches] == [(5, 7, 7, 3)] * 2


def test_evaluation_covers_every_image_once_and_pads_with_black():
    with eval_batches_of(numbered(), batch_size=8, image_size=8) as whole:
        batches = list(whole)
    assert [int(batch["mask"].sum()) for batch in batches] == [8, 8, 7]
    labels = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
    assert labels.tolist() == list(range(23))
    np.testing.assert_array_equal(batches[2]["image"][:7], numbered().images[16:])
    assert not batches[2]["image"][7:].any()


def test_evaluation_crops_the_centre():
    with eval_batches_of(numbered(size=10), batch_size=4, image_size=6, resize=10) as batches:
        np.testing.assert_array_equal(
            next(batches)["image"], numbered(size=10).images[:4, 2:8, 2:8]
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 24}, "batch size 24 does not fit the 23 training images"),
        ({"crop": "centre"}, "unknown crop 'centre'; did you mean 'center'"),
        ({"on_error": "ignore"}, "unknown on_error 'ignore'"),
        ({"workers": -1}, "workers -1 is negative"),
        ({"process_count": 3}, "cannot be divided among 3 processes"),
        ({"process_index": 2, "process_count": 2}, "this is process 2"),
        ({"image_size": 0}, "cannot cut 0 pixels"),
        ({"crop": "center", "resize": 5}, "cannot cut 6 pixels from images resized to 5"),
        ({"start_step": -1}, "steps -1"),
        ({"num_steps": -1}, "steps 0 to -2"),
    ],
)
def test_a_value_out_of_range_is_refused_before_anything_starts(changes, message):
    with pytest.raises(UserError, match=message):
        collect(**changes)


@pytest.fixture
def damaged(folder: Path) -> data.Split:
    """Twelve files; those at 2, 3 and 5, the last cat, cannot be read."""
    for name in ("cat/2.png", "cat/3.png", "cat/5.png"):
        (folder / "train" / name).write_bytes(b"no image")
    return data.load(f"folder={folder}", validation=0).train


TWELVE = {"seed": 0, "batch_size": 12, "image_size": 4, "num_steps": 2}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_file_is_named(damaged, workers):
    with pytest.raises(UserError, match=r"cannot read image .*/cat/[235]\.png: not an"):
        list(train_batches(damaged, workers=workers, **TWELVE))


def test_in_training_the_next_readable_image_takes_its_place(damaged):
    with train_batches(damaged, crop="resize", on_error="skip", **TWELVE) as it:
        batches = list(it)
    replaced = {2: 4, 3: 4, 5: 6}
    with eval_batches_of(damaged, batch_size=12, image_size=4, on_error="skip") as it:
        images = next(it)["image"]
    for step, batch in enumerate(batches):
        used = [replaced.get(int(i), int(i)) for i in batch_indices(0, step, 12, 12)]
        np.testing.assert_array_equal(batch["image"], images[used])
        np.testing.assert_array_equal(batch["label"], damaged.labels[used])


def test_every_skipped_file_is_reported_once_with_the_reason(damaged, caplog):
    caplog.set_level(logging.WARNING, "flaxzoo")
    with train_batches(damaged, on_error="skip", **TWELVE) as batches:
        list(batches)
    found = sorted(record.getMessage().rsplit("train/", 1)[1] for record in caplog.records)
    assert found == [f"{name}.png: not an image" for name in ("cat/2", "cat/3", "cat/5")]


def test_in_evaluation_an_unreadable_image_is_masked_out(damaged, caplog):
    with eval_batches_of(damaged, batch_size=8, image_size=4, on_error="skip") as batches:
        masks = np.concatenate([batch["mask"] for batch in batches])
    assert np.flatnonzero(~masks).tolist() == [2, 3, 5, 12, 13, 14, 15]
    assert len(caplog.records) == 3


def test_a_set_with_no_readable_image_is_an_error_even_when_skipping(folder):
    for path in (folder / "train").glob("*/*.png"):
        path.write_bytes(b"")
    split = data.load(f"folder={folder}", validation=0).train
    with pytest.raises(UserError, match=r"12 images in a row cannot be read, from .*png"):
        list(train_batches(split, on_error="skip", **TWELVE))


@pytest.mark.parametrize("workers", [0, 1])
def test_closing_early_leaves_nothing_running(workers):
    before = set(threading.enumerate())
    options = {"seed": 0, "batch_size": 4, "image_size": 8, "num_steps": 10**6}
    with train_batches(numbered(), workers=workers, **options) as batches:
        next(batches)
    assert not multiprocessing.active_children()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith(("flaxzoo", "grain")):
            thread.join(timeout=5)
            assert not thread.is_alive()
    with pytest.raises(StopIteration):
        next(batches)


def test_workers_outlive_the_signals_that_ask_a_run_to_stop():
    options = {"seed": 0, "batch_size": 4, "image_size": 8, "num_steps": 12}
    with train_batches(numbered(), workers=1, **options) as batches:
        first = next(batches)  # they work by now
        (worker,) = multiprocessing.active_children()
        for signum in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid, signum)
        rest = list(batches)
    with train_batches(numbered(), **options) as expected:
        assert_same([first, *rest], list(expected))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_program_that_forgets_to_close_still_ends_quietly(tmp_path, workers):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        from flaxzoo import data
        from flaxzoo.data.stream import train_batches

        if __name__ == "__main__":
            train = data.load("digits").train
            options = dict(seed=0, batch_size=8, image_size=8, workers={workers})
            consumed = list(train_batches(train, num_steps=2, **options))
            forgotten = train_batches(train, num_steps=99, **options)
            kept = next(forgotten)
            print(len(consumed), kept["image"].shape)
        """)
    )
    command = [sys.executable, "-W", "error", str(script)]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": ":".join(sys.path)}
    )
    # grain itself logs one line where jaxlib is older than 0.11.
    said = [line for line in run.stderr.splitlines() if "Grain multiprocess worker" not in line]
    assert (run.returncode, run.stdout, said) == (0, "2 (8, 8, 8, 1)\n", [])


def test_small_sets_in_memory_can_stay_on_the_device():
    images, labels = resident(numbered(), 8)
    np.testing.assert_array_equal(images, numbered().images)
    assert labels.tolist() == list(range(23))


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (5, 9, 3), (9, 4, 1), (5, 5, 3)])
def test_resident_images_are_those_of_a_stream_without_resize(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (23, *shape), np.uint8)
    split = ArraySplit(pixels, np.arange(23, dtype=np.int32))
    images, labels = resident(split, 5)
    with eval_batches_of(split, batch_size=23, image_size=5, resize=None) as batches:
        batch = next(batches)
    assert images.shape == (23, 5, 5, shape[2])
    np.testing.assert_array_equal(images, batch["image"])
    np.testing.assert_array_equal(labels, batch["label"])


def test_what_is_too_large_or_on_disk_is_not_resident(folder):
    assert resident(numbered(), 8, max_bytes=23 * 8 * 8 * 3 - 1) is None
    assert resident(data.load(f"folder={folder}").train, 8) is None
