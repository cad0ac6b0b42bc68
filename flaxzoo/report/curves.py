"""Curves of a run: its metrics and its schedule."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxzoo.report.figure import new_figure, save

Metrics = Sequence[dict[str, Any]]


def plot_curves(metrics: Metrics, folder: Path) -> None:
    """Writes loss.png, accuracy.png and learning_rate.png into `folder`."""
    _plot(
        metrics,
        folder / "loss.png",
        "loss",
        {"train": "train_loss", "validation": "val_loss", "average": "val_ema_loss"},
    )
    _plot(
        metrics,
        folder / "accuracy.png",
        "accuracy",
        {
            "train": "train_accuracy",
            "validation": "val_accuracy",
            "average": "val_ema_accuracy",
        },
    )
    _plot(metrics, folder / "learning_rate.png", "learning rate", {"": "learning_rate"})


def plot_schedule(
    learning_rate: Callable[[Any], Any], total_steps: int, steps_per_epoch: int, folder: Path
) -> None:
    """Writes schedule.png into `folder`: the learning rates of a whole run, as they are planned.

    Args:
        learning_rate: of an array of steps, elementwise. Of a long run it gets 2000, evenly spaced.
    """
    steps = np.linspace(0, total_steps - 1, min(total_steps, 2000)).round().astype(np.int32)
    rates = np.asarray(learning_rate(steps)).tolist()
    rows = [
        {"epoch": epoch, "learning_rate": rate}
        for epoch, rate in zip(steps / steps_per_epoch, rates, strict=True)
    ]
    _plot(rows, folder / "schedule.png", "learning rate", {"": "learning_rate"})


def _plot(metrics: Metrics, path: Path, ylabel: str, curves: dict[str, str]) -> None:
    figure = new_figure(6.0, 4.0)
    # Margins by hand: working them out ("constrained" layout) takes half of the drawing time.
    axes = figure.add_axes((0.13, 0.13, 0.84, 0.82))
    for label, key in curves.items():
        points = [(row["epoch"], row[key]) for row in metrics if key in row]
        if points:
            marker = "o" if key.startswith("val") else None
            axes.plot(*zip(*points, strict=True), label=label or None, marker=marker, markersize=3)
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(axes.get_lines()) > 1:
        axes.legend(frameon=False)
    save(figure, path)
