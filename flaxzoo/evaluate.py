"""Exact evaluation of a whole split."""

from collections.abc import Callable
from typing import Any

import jax

from flaxzoo.errors import UserError
from flaxzoo.training.feed import Feed
from flaxzoo.training.parallel import Devices
from flaxzoo.training.state import Arrays


def evaluate(
    eval_step: Callable[..., dict[str, Any]],
    weights: dict[str, Arrays],
    feed: Feed,
    devices: Devices,
) -> dict[str, float]:
    """Returns mean loss and accuracy over every image of the split, each counted once.

    `weights` holds "params" and "batch_stats", as in `TrainState.weights`.

    Sums are taken per batch on the device and added up in double precision on the host; nothing
    waits for the device until the last batch was sent.
    """
    sums = []
    with feed.evaluate() as batches:
        for batch in batches:
            inputs = devices.split(batch)
            sums.append(eval_step(weights["params"], weights["batch_stats"], inputs, feed.resident))
    totals = dict.fromkeys(("loss", "correct", "count"), 0.0)
    for batch_sums in jax.device_get(sums):
        for key in totals:
            totals[key] += float(batch_sums[key])
    count = totals["count"]
    if not count:
        raise UserError(f"no image of this split of {len(feed)} could be read.")
    return {
        "loss": totals["loss"] / count,
        "accuracy": totals["correct"] / count,
        "count": int(count),
    }
