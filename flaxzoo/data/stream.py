"""Streams of batches from a split: decoded, cropped and resized by threads or worker processes.

What a batch holds depends on the seed and the step only, never on the number of workers or on the
steps before it. grain fetches ahead and runs the worker processes; a script that asks for workers
needs the usual `if __name__ == "__main__"` guard, because they import it.
"""

import atexit
import functools
import gc
import logging
import math
import os
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from flaxzoo.data import transforms
from flaxzoo.data.batch_source import Batch, BatchSource, EvalPlan, TrainPlan, check_choice
from flaxzoo.data.dataset import ArraySplit, Split
from flaxzoo.data.order import ClassBalance, check_batch_size
from flaxzoo.data.workers import death, prepare, that_fit
from flaxzoo.errors import InputError, UserError

CROPS = ("random_resized", "resize", "center")
SAMPLINGS = ("shuffle", "balanced")
_AHEAD = 2  # batches made ahead of the one in use, by each worker
_log = logging.getLogger(__name__)
_open: "weakref.WeakSet[Batches]" = weakref.WeakSet()


def train_batches(
    split: Split,
    *,
    seed: int,
    batch_size: int,
    image_size: int,
    crop: str = "random_resized",
    resize: int | None = None,
    sampling: str = "shuffle",
    start_step: int = 0,
    num_steps: int,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    on_error: str = "raise",
    interpolation: str = "bilinear",
    reported: set[str] | None = None,
) -> "Batches":
    """Returns the training batches of steps start_step .. start_step + num_steps - 1.

    Each is {"image": uint8 [b, s, s, c], "label": int32 [b]}: this process's rows of the global
    batch that `order.batch_indices` names, with s = image_size, b = batch_size / process_count.

    Args:
        batch_size: of the global batch.
        crop: "random_resized"; "resize" (to a square); or "center": the short side to `resize`
            (default: image_size), then the middle.
        sampling: "shuffle": every image once an epoch; "balanced": every class equally often.
        workers: processes that decode; 0: threads of this process, one per core.
        on_error: "raise"; or "skip": an unreadable image is reported once in the log, and the
            next readable one of the split takes its place.
        interpolation: "bilinear" or "bicubic", of what is resized.
        reported: names of unreadable images that the log has already; gets those that follow.

    Raises:
        UserError: a value is out of range.
        InputError: while iterating, an image cannot be read, or a worker process died.
    """
    check_batch_size(len(split), batch_size)
    check_choice("crop", crop, CROPS)
    balance = balance_of(split, sampling)
    plan = TrainPlan(seed, start_step, len(split), batch_size, balance)
    rows = _local_rows(batch_size, process_index, process_count)
    resized = image_size if resize is None else resize
    source = BatchSource(
        split, plan, rows, num_steps, image_size, crop, resized, on_error, interpolation
    )
    return _stream(source, workers, reported)


def eval_batches_of(
    split: Split,
    *,
    batch_size: int,
    image_size: int,
    resize: int | None = None,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    on_error: str = "raise",
    interpolation: str = "bilinear",
    reported: set[str] | None = None,
) -> "Batches":
    """Returns the batches that cover `split` once, in order.

    Each is {"image": uint8 [b, s, s, c], "label": int32 [b], "mask": bool [b]}; where mask is
    False, the row is padding, or with on_error="skip" an unreadable image, and image is black.

    Args:
        resize: the short side is resized to this, then the middle cut; None: resized to a square.
        batch_size, workers, process_index, process_count, on_error, interpolation, reported: see
            `train_batches`.

    Raises:
        UserError: a value is out of range.
        InputError: while iterating, an image cannot be read, or a worker process died.
    """
    if batch_size < 1:
        raise UserError(f"batch size {batch_size} is not positive")
    plan = EvalPlan(len(split), batch_size)
    rows = _local_rows(batch_size, process_index, process_count)
    crop, steps = "resize" if resize is None else "center", math.ceil(len(split) / batch_size)
    resized = image_size if resize is None else resize
    source = BatchSource(
        split, plan, rows, steps, image_size, crop, resized, on_error, interpolation
    )
    return _stream(source, workers, reported)


def resident(
    split: Split, image_size: int, max_bytes: int = 2**30, interpolation: str = "bilinear"
) -> tuple[UInt8[np.ndarray, "n s s c"], Int32[np.ndarray, " n"]] | None:
    """Returns all of (images, labels) of a split that is in memory and small enough to stay.

    None if the split reads files, or its images of image_size (resized to a square, if they are of
    another size) take more than max_bytes.
    """
    if not isinstance(split, ArraySplit):
        return None
    if len(split) * image_size**2 * split.channels > max_bytes:
        return None
    images = split.images
    if images.shape[1:3] != (image_size, image_size):
        images = np.stack([transforms.resize(image, image_size, interpolation) for image in images])
    return images, split.labels


def balance_of(split: Split, sampling: str) -> ClassBalance | None:
    """Returns what `order.batch_indices` takes to sample a split as `sampling` says.

    Raises:
        UserError: no such sampling.
    """
    check_choice("sampling", sampling, SAMPLINGS)
    return ClassBalance(split.labels) if sampling == "balanced" else None


class Batches(Iterator[Batch]):
    """An iterator of batches that owns threads or processes; `close` it, or use it in a `with`."""

    def __init__(self, source: BatchSource, iterator: Any, reported: set[str] | None = None):
        self._source = source
        self._iterator = iterator
        self._position = 0
        self._reported = set() if reported is None else reported
        _open.add(self)

    def __next__(self) -> Batch:
        if self._iterator is None:
            raise StopIteration
        try:
            batch = next(self._iterator, None)
        except UserError as error:
            self.close()
            raise InputError(str(error)) from error
        except RuntimeError as error:
            self.close()
            raise death(error) or error from error
        except BaseException:  # Control-C
            self.close()
            raise
        if batch is None:
            self.close()
            raise StopIteration
        if self._source.workers:  # free the shared memory: it is scarce, and gone at exit
            batch = {key: np.array(value) for key, value in batch.items()}
        failures = batch.pop("failures")
        for row in np.flatnonzero(failures):
            self._report(int(self._source.indices(self._position)[0][row]), int(failures[row]))
        self._position += 1
        return batch

    def _report(self, index: int, count: int) -> None:
        split = self._source.split
        for i in range(index, index + count):
            name = split.name(i % len(split))
            if name not in self._reported:
                self._reported.add(name)
                _log.warning("skipped: %s", _failure(split, i % len(split)) or name)

    def close(self) -> None:
        """Stops the threads or processes; harmless if it was done before."""
        if self._iterator is not None:
            self._source.close()
            self._iterator.close()
            self._iterator = None
            if self._source.workers:
                # grain's last exception holds frames that hold shared memory, in a cycle; at exit,
                # Python would complain of memory that was never freed.
                gc.collect()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _failure(split: Split, i: int) -> str | None:
    """Returns why image i cannot be read, or None if it can."""
    try:
        split[i]
    except UserError as error:
        return str(error)
    return None


def _stream(source: BatchSource, workers: int, reported: set[str] | None) -> Batches:
    """Starts the threads or processes."""
    if workers < 0:
        raise UserError(f"workers {workers} is negative; expected 0 (threads) or more")
    import grain
    from absl import flags

    _close_at_exit()
    if workers and len(source):
        needed = (_AHEAD + 2) * _batch_bytes(source)
        source.workers = that_fit(min(workers, len(source)), needed)
    if not source.workers:
        source.threads = (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else (os.cpu_count() or 1)
        )
    elif not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain reads absl flags; a notebook has parsed none
    # grain looks through its whole buffer for every element: keep it short. A worker has no thread
    # that reads ahead, which would leave shared memory behind when the stream is closed.
    reader, ahead = (0, 0) if source.workers else (1, _AHEAD)
    reading = grain.ReadOptions(num_threads=reader, prefetch_buffer_size=ahead)
    batches = grain.MapDataset.source(source).to_iter_dataset(reading)
    if source.workers:
        options = grain.MultiprocessingOptions(source.workers, per_worker_buffer_size=_AHEAD)
        batches = batches.mp_prefetch(options, worker_init_fn=prepare)
    iterator = iter(batches)
    iterator.start_prefetch()
    return Batches(source, iterator, reported)


def _batch_bytes(source: BatchSource) -> int:
    """Returns the size of the images of a batch."""
    return source.image_size**2 * source.split.channels * len(source.indices(0)[0])


@functools.cache
def _close_at_exit() -> None:
    """Has what is still open closed before Python takes grain and multiprocessing apart."""
    atexit.register(lambda: [batches.close() for batches in list(_open)])


def _local_rows(batch_size: int, process_index: int, process_count: int) -> slice:
    if not 0 <= process_index < process_count or batch_size % process_count:
        raise UserError(
            f"batch size {batch_size} cannot be divided among {process_count} processes "
            f"(this is process {process_index}); expected a multiple of {process_count}"
        )
    local = batch_size // process_count
    return slice(process_index * local, (process_index + 1) * local)
