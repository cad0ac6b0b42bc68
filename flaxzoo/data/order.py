"""Which images are in which batch: functions of (seed, epoch) and (seed, step), with no state.

Random keys come from the raw output of Philox, a counter-based generator. NumPy promises that
stream for ever, which it does not for `Generator.permutation`, so an order outlives an upgrade.
"""

import functools
import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int32, Int64

from flaxzoo.errors import UserError

# The second word of Philox's key, so that no two uses of one seed share random numbers.
PURPOSES = {"order": 0, "augment": 1, "validation": 2, "balance": 3}


def philox(seed: int, purpose: str, *counter: int) -> np.random.Philox:
    """Returns the bit generator of (seed, purpose, counter), independent of every other one.

    Args:
        seed: any integer; taken modulo 2**64.
        purpose: a key of `PURPOSES`.
        counter: at most two integers >= 0, such as (epoch, index).
    """
    high = [0] * (2 - len(counter)) + list(counter)
    key = np.array([seed % 2**64, PURPOSES[purpose]], np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, *high], np.uint64))


def epoch_order(seed: int, epoch: int, n: int) -> Int64[np.ndarray, " n"]:
    """Returns the order in which epoch `epoch` visits n images, the same on every machine."""
    return np.argsort(philox(seed, "order", epoch).random_raw(n), kind="stable")


class ClassBalance:
    """Which images are of which class, for epochs that draw every class equally often.

    Draws are numbered over all epochs; of k classes, draw t is of class t mod k, so that no two
    classes ever differ by more than one. Within its class it takes the next image of a permutation,
    and of a fresh one when that is exhausted, so that the images of a small class repeat evenly.
    Classes without images are left out.
    """

    def __init__(self, labels: Int32[np.ndarray, " n"]):
        by_class = np.argsort(labels, kind="stable").astype(np.int32)
        starts = np.cumsum(np.bincount(labels))[:-1]
        self.members = [images for images in np.split(by_class, starts) if len(images)]

    def epoch_order(self, seed: int, epoch: int, size: int) -> Int32[np.ndarray, " size"]:
        """Returns the images that the `size` draws of epoch `epoch` visit, in that order."""
        start, k = epoch * size, len(self.members)
        drawn = np.empty(size, np.int32)
        for label in range(k):
            first = (label - start) % k
            count = len(drawn[first::k])
            if count:
                drawn[first::k] = self._draws(seed, label, (start + first) // k, count)
        return drawn[epoch_order(seed, epoch, size)]

    def _draws(self, seed: int, label: int, first: int, count: int) -> Int32[np.ndarray, " count"]:
        """Returns the images of draws first, ..., first + count - 1 within one class."""
        members = self.members[label]
        m = len(members)
        passes = range(first // m, math.ceil((first + count) / m))
        keys = [philox(seed, "balance", label, i).random_raw(m) for i in passes]
        order = np.concatenate([np.argsort(key, kind="stable") for key in keys])
        return members[order[first % m :][:count]]


@functools.lru_cache(maxsize=4)  # two epochs meet in a prefetching loader; of two streams at most
def _cached_order(
    seed: int, epoch: int, size: int, balance: ClassBalance | None
) -> Int32[np.ndarray, " size"]:
    make = epoch_order if balance is None else balance.epoch_order
    order = make(seed, epoch, size).astype(np.int32)
    order.flags.writeable = False  # shared by all callers
    return order


def check_batch_size(n: int, batch_size: int) -> int:
    """Returns the number of steps in an epoch, n // batch_size.

    Raises:
        UserError: batch_size is less than 1 or more than n, so an epoch would have no step.
    """
    if not 1 <= batch_size <= n:
        raise UserError(
            f"batch size {batch_size} does not fit the {n} training images; "
            f"expected 1 to {n}, since the incomplete last batch of an epoch is dropped"
        )
    return n // batch_size


def batch_indices(
    seed: int, step: int, n: int, batch_size: int, balance: ClassBalance | None = None
) -> Int32[np.ndarray, " batch_size"]:
    """Returns the images of global training batch `step` (from 0), counted over all epochs.

    Read-only. Each epoch of n // batch_size steps drops the incomplete last batch.

    Args:
        balance: of the classes of the n images, to draw them equally often; None to visit every
            image once an epoch.

    Raises:
        UserError: batch_size is not within 1..n.
    """
    steps = check_batch_size(n, batch_size)
    epoch, row = divmod(step, steps)
    size = n if balance is None else steps * batch_size  # what is drawn is also used
    return _cached_order(seed, epoch, size, balance)[row * batch_size : (row + 1) * batch_size]


def eval_batch(
    k: int, n: int, batch_size: int
) -> tuple[Int32[np.ndarray, " batch_size"], Bool[np.ndarray, " batch_size"]]:
    """Returns (indices, mask) of evaluation batch k (from 0): images in order.

    Beyond the last image, the index is 0 and the mask False.
    """
    positions = np.arange(k * batch_size, (k + 1) * batch_size)
    mask = positions < n
    return np.where(mask, positions, 0).astype(np.int32), mask


def eval_batches(
    n: int, batch_size: int
) -> Iterator[tuple[Int32[np.ndarray, " b"], Bool[np.ndarray, " b"]]]:
    """Yields `eval_batch(k, n, batch_size)` until every one of n images was covered once."""
    for k in range(math.ceil(n / batch_size)):
        yield eval_batch(k, n, batch_size)
