"""Batches by number: which images they hold, decoded, cropped and resized, on any process.

A `BatchSource` is what grain reads, and what it sends to its worker processes.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flaxzoo.data import transforms
from flaxzoo.data.dataset import EncodedSplit, Split
from flaxzoo.data.order import ClassBalance, batch_indices, eval_batch, philox
from flaxzoo.data.random_crop import random_resized_crop, random_resized_crop_of_file
from flaxzoo.data.transforms import Pixels
from flaxzoo.errors import UserError, unknown

Batch = dict[str, np.ndarray]

_MAX_FAILURES = 100  # unreadable images in a row, after which the data set is what is wrong


@dataclasses.dataclass
class TrainPlan:
    """Training batches, numbered from `start_step`."""

    seed: int
    start_step: int
    n: int
    batch_size: int
    balance: ClassBalance | None = None

    def batch(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        step = self.start_step + k
        indices = batch_indices(self.seed, step, self.n, self.batch_size, self.balance)
        return indices, np.ones(self.batch_size, bool)

    def rng(self, k: int, row: int) -> np.random.Generator:
        """Returns the random numbers of a row of global batch k.

        They are the row's and not its image's, which balanced classes may repeat in an epoch.
        """
        epoch, step = divmod(self.start_step + k, self.n // self.batch_size)
        position = step * self.batch_size + row
        return np.random.Generator(philox(self.seed, "augment", epoch, position))


@dataclasses.dataclass
class EvalPlan:
    """Batches that cover n images once, in order."""

    n: int
    batch_size: int

    def batch(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return eval_batch(k, self.n, self.batch_size)


class BatchSource:
    """Random access to finished batches, as grain wants it; is sent to the worker processes.

    An element has one key more than its batch: "failures" int32 [b], how many images in a row,
    from the one the plan named, could not be read.
    """

    def __init__(
        self,
        split: Split,
        plan: TrainPlan | EvalPlan,
        rows: slice,
        steps: int,
        image_size: int,
        crop: str,
        resize: int,
        on_error: str,
        interpolation: str = "bilinear",
    ):
        if steps < 0 or (isinstance(plan, TrainPlan) and plan.start_step < 0):
            start = plan.start_step if isinstance(plan, TrainPlan) else 0
            raise UserError(f"steps {start} to {start + steps - 1} are no range of steps from 0")
        check_choice("on_error", on_error, ("raise", "skip"))
        check_choice("interpolation", interpolation, tuple(transforms.INTERPOLATIONS))
        if image_size < 1 or resize < image_size:
            raise UserError(f"cannot cut {image_size} pixels from images resized to {resize}")
        self.split, self.plan, self.rows, self.steps = split, plan, rows, steps
        self.image_size, self.crop, self.resize = image_size, crop, resize
        self.interpolation = interpolation
        self.skip = on_error == "skip"
        self.workers = 0
        self.threads = 1
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._closed = False

    def __len__(self) -> int:
        return self.steps

    def __repr__(self) -> str:  # grain prints its source; a split may be large
        return f"{type(self.split).__name__}[{len(self.split)}]"

    def indices(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (indices, mask) of this process's rows of batch k."""
        indices, mask = self.plan.batch(k)
        return indices[self.rows], mask[self.rows]

    def __getitem__(self, index: int) -> Batch:
        indices, mask = self.indices(index)
        images = self._black((len(indices), self.image_size, self.image_size, self.split.channels))
        labels, failures = self.split.labels[indices], np.zeros(len(indices), np.int32)
        rngs = self._rngs(index, len(indices))

        def fill(row: int) -> None:
            if self._closed:
                raise RuntimeError("the stream was closed")  # nobody waits for this batch any more
            source, pixels, failures[row] = self._read(int(indices[row]), rngs[row])
            if pixels is not None:
                images[row] = pixels
                labels[row] = self.split.labels[source]

        try:
            for _ in self._map(fill, np.flatnonzero(mask).tolist()):
                pass
        except BaseException:
            if self.workers:
                images.unlink_on_del()  # nobody gets them
            raise
        batch = {"image": images, "label": labels, "failures": failures}
        if isinstance(self.plan, EvalPlan):
            batch["mask"] = mask & (failures == 0)
        return batch

    def _map(self, function: Callable[[int], None], rows: list[int]) -> Iterator[None]:
        if self.threads == 1 or self._closed:
            return map(function, rows)
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(self.threads, "flaxzoo-decode")
        return self._pool.map(function, rows)

    def _black(self, shape: tuple[int, ...]) -> Any:
        """Returns an array of zeros; a worker's is a SharedMemoryArray, which need not be sent."""
        if not self.workers:
            return np.zeros(shape, np.uint8)
        from grain.multiprocessing import SharedMemoryArray  # takes a second

        return SharedMemoryArray(shape, np.uint8)

    def _rngs(self, k: int, b: int) -> list[np.random.Generator] | list[None]:
        """Returns the random numbers of all rows, if batches are cut at random.

        Between two images, whose pixels fill the processor's caches, each would take four times as
        long to make.
        """
        if self.crop != "random_resized" or isinstance(self.plan, EvalPlan):
            return [None] * b
        return [self.plan.rng(k, self.rows.start + row) for row in range(b)]

    def _read(self, index: int, rng: np.random.Generator | None) -> tuple[int, Pixels | None, int]:
        """Returns (index of the image read, its crop or None, failures before it)."""
        n = len(self.split)
        for failures in range(min(n, _MAX_FAILURES)):
            try:
                at = (index + failures) % n
                return at, self._crop(at, rng), failures
            except UserError:
                if not self.skip:
                    raise
                if isinstance(self.plan, EvalPlan):
                    return index, None, 1
        raise UserError(
            f"{min(n, _MAX_FAILURES)} images in a row cannot be read, from {self.split.name(index)}"
        )

    def _crop(self, at: int, rng: np.random.Generator | None) -> Pixels:
        split, size, how = self.split, self.image_size, self.interpolation
        if rng is not None:
            if isinstance(split, EncodedSplit):
                file = split.read(at), size, rng, split.channels, split.name(at)
                return random_resized_crop_of_file(*file, interpolation=how)
            return random_resized_crop(split[at], size, rng, interpolation=how)
        if self.crop == "center":
            return transforms.center_crop(split[at], size, self.resize, how)
        return transforms.resize(split[at], size, how)

    def close(self) -> None:
        """Stops the threads, in the middle of a batch."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def check_choice(kind: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises UserError, with the nearest choices, unless `value` is one of them."""
    if value not in choices:
        raise unknown(kind, value, choices)
