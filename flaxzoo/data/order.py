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
PURPOSES = {"order": 0, "augment": 1, "validation": 2}


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


@functools.lru_cache(maxsize=4)  # two epochs meet in a prefetching loader; of two streams at most
def _cached_order(seed: int, epoch: int, n: int) -> Int32[np.ndarray, " n"]:
    order = epoch_order(seed, epoch, n).astype(np.int32)
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
    seed: int, step: int, n: int, batch_size: int
) -> Int32[np.ndarray, " batch_size"]:
    """Returns the images of global training batch `step` (from 0), counted over all epochs.

    Read-only. Each epoch of n // batch_size steps drops the incomplete last batch.

    Raises:
        UserError: batch_size is not within 1..n.
    """
    epoch, row = divmod(step, check_batch_size(n, batch_size))
    return _cached_order(seed, epoch, n)[row * batch_size : (row + 1) * batch_size]


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
