"""Metrics of the latest steps, and how fast they went, without a wait in every step."""

import math
import time
from typing import Any

import jax


class NonFinite(ArithmeticError):
    """The loss or the update of a step is infinite or not a number."""


class Meter:
    """Collects what the steps return, still on the device, until it is read."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self._pending: list[dict[str, Any]] = []
        self._since = time.monotonic()

    def __bool__(self) -> bool:
        """Whether there are steps that were not read."""
        return bool(self._pending)

    def add(self, metrics: dict[str, Any]) -> None:
        """Keeps the metrics of one step; does not wait for the device."""
        self._pending.append(metrics)

    def read(self, step: int) -> dict[str, float]:
        """Waits for the device; returns the means over the steps since the last read.

        Args:
            step: the latest of them, for the message.

        Raises:
            NonFinite: names the first step whose loss or update is not finite.
        """
        rows = jax.device_get(self._pending)
        taken = [row for row in rows if not row.get("skipped")] or rows
        for i, row in enumerate(rows):
            for name in ("loss", "update_norm"):
                if not (row.get("skipped") or math.isfinite(row[name])):
                    first, what = step - len(rows) + 1 + i, name.replace("_", " ")
                    raise NonFinite(f"the {what} became {row[name]} at step {first}")
        self._pending.clear()
        means = {f"train_{k}": float(sum(row[k] for row in taken) / len(taken)) for k in rows[0]}
        if "skipped" in rows[0]:
            means["train_skipped"] = 1 - len(taken) / len(rows)
        seconds = time.monotonic() - self._since
        return means | {"images_per_second": len(rows) * self.batch_size / max(seconds, 1e-9)}

    def restart(self) -> None:
        """Starts the clock again, so that evaluating and saving do not count."""
        self._since = time.monotonic()
