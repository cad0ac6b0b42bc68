"""What is read follows from (seed, epoch, index) only: not from who reads it, or since when.

`test_stream.py` shows it for arrays; here for files, cropped at random and some of them unreadable.
Augmentations on the device are compared on one device and eight in tests/training/test_devices.py.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flaxzoo import data
from flaxzoo.data.dataset import FileSplit
from flaxzoo.data.order import batch_indices
from flaxzoo.data.stream import Batches, eval_batches_of, train_batches

STEPS_PER_EPOCH = 3  # of 12 images in batches of 4
TRAIN = {"seed": 5, "batch_size": 4, "image_size": 7, "on_error": "skip"}


@pytest.fixture
def pets(folder: Path) -> data.Split:
    """Twelve files of different sizes; one cannot be read."""
    (folder / "train" / "dog" / "1.png").write_bytes(b"no image")
    return data.load(f"folder={folder}", validation=0).train


def content(batches: Batches) -> list[dict[str, bytes]]:
    with batches:
        return [{key: value.tobytes() for key, value in batch.items()} for batch in batches]


def trained(split: data.Split, steps: range = range(8), **options) -> list[dict[str, bytes]]:
    return content(
        train_batches(split, start_step=steps.start, num_steps=len(steps), **TRAIN, **options)
    )


def joined(shares: list[list[dict[str, bytes]]]) -> list[dict[str, bytes]]:
    return [
        {key: b"".join(part[key] for part in parts) for key in parts[0]}
        for parts in zip(*shares, strict=True)
    ]


@pytest.mark.parametrize(("workers", "start"), [(1, 0), (2, 4)])
def test_worker_processes_make_the_bytes_of_threads(pets, workers, start):
    whole = trained(pets)
    assert len({batch["image"] for batch in whole}) == 8
    assert trained(pets, range(start, 8), workers=workers) == whole[start:]


@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_two_processes_of_a_run_read_what_one_reads(pets, sampling):
    shares = [trained(pets, sampling=sampling, process_index=i, process_count=2) for i in (0, 1)]
    assert joined(shares) == trained(pets, sampling=sampling)


@pytest.mark.parametrize("options", [{"workers": 2}, {"process_count": 2}])
def test_evaluation_is_shared_out_without_a_change(pets, options):
    def evaluated(**options) -> list[dict[str, bytes]]:
        return content(
            eval_batches_of(pets, batch_size=8, image_size=7, on_error="skip", **options)
        )

    count = options.get("process_count", 1)
    shares = [evaluated(**options, process_index=i) for i in range(count)]
    assert joined(shares) == evaluated()


@pytest.mark.parametrize("start", range(1, 2 * STEPS_PER_EPOCH))
@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_a_stream_goes_on_anywhere_in_an_epoch(pets, start, sampling):
    whole = trained(pets, sampling=sampling)
    assert trained(pets, range(start, 8), sampling=sampling) == whole[start:]


class Counting(FileSplit):
    """Counts how often each image is read."""

    def __init__(self, split: FileSplit):
        vars(self).update(vars(split))
        self.reads: Counter[int] = Counter()

    def read(self, i: int) -> bytes:
        self.reads[i] += 1
        return super().read(i)


@pytest.mark.parametrize("start", [1, 2, 4])
def test_images_before_the_start_are_never_read(folder, start):
    split = Counting(data.load(f"folder={folder}", validation=0).train)
    steps = range(start, start + 2)
    trained(split, steps)
    named = np.concatenate([batch_indices(TRAIN["seed"], step, 12, 4) for step in steps])
    assert split.reads == Counter(named.tolist())
