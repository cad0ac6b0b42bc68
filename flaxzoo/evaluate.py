"""Exact evaluation of a whole split."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from flaxzoo.errors import UserError
from flaxzoo.report import Predictions
from flaxzoo.training.feed import Feed
from flaxzoo.training.parallel import Devices
from flaxzoo.training.state import Arrays

SUMS = ("loss", "correct", "count")
PER_IMAGE = ("seen", "predicted", "confidence", "image_loss")


def evaluate(
    eval_step: Callable[..., dict[str, Any]],
    weights: dict[str, Arrays],
    feed: Feed,
    devices: Devices,
) -> dict[str, float]:
    """Returns mean loss and accuracy over every image of the split, each counted once.

    `weights` holds "params" and "batch_stats", as `TrainState.weights` does.
    """
    return _means(judge(eval_step, weights, feed, devices, SUMS), feed)


def predict(
    eval_step: Callable[..., dict[str, Any]],
    weights: dict[str, Arrays],
    feed: Feed,
    devices: Devices,
) -> tuple[dict[str, float], Predictions]:
    """Returns what `evaluate` does, and how each image was judged."""
    batches = judge(eval_step, weights, feed, devices, SUMS + PER_IMAGE)
    # Batches hold the images in the order of the split; the last one is padded.
    arrays = {k: np.concatenate([b[k] for b in batches])[: len(feed)] for k in PER_IMAGE}
    seen = np.flatnonzero(arrays["seen"])
    predictions = Predictions(
        index=seen,
        label=feed.split.labels[seen],
        predicted=arrays["predicted"][seen],
        confidence=arrays["confidence"][seen],
        loss=arrays["image_loss"][seen],
    )
    return _means(batches, feed), predictions


def judge(
    eval_step: Callable[..., dict[str, Any]],
    weights: dict[str, Arrays],
    feed: Feed,
    devices: Devices,
    keys: Sequence[str],
) -> list[dict[str, Any]]:
    """Returns `keys` of the results of each batch, in the order of the split.

    Nothing waits for the device until the last batch was sent.
    """
    results, weights = [], devices.place(weights)
    with feed.evaluate() as batches:
        for batch in batches:
            inputs = devices.split(batch)
            result = eval_step(weights["params"], weights["batch_stats"], inputs, feed.resident)
            results.append({key: result[key] for key in keys})
    return jax.device_get(results)


def _means(batches: list[dict[str, Any]], feed: Feed) -> dict[str, float]:
    """Adds the sums of the batches up in double precision."""
    loss, correct, count = (sum(float(batch[key]) for batch in batches) for key in SUMS)
    if not count:
        raise UserError(f"no image of this split of {len(feed)} could be read.")
    return {"loss": loss / count, "accuracy": correct / count, "count": int(count)}
