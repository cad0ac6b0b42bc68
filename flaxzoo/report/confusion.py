"""Which classes a model takes for which."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from flaxzoo.picture import shorten
from flaxzoo.report.figure import new_figure, save
from flaxzoo.report.review import Review

MAX_COUNTED = 25  # classes up to which every cell shows its number
MAX_NAMED = 60  # classes up to which every row has its name
MAX_CELLS = 1000  # rows of the picture; more classes share them
PAIRS = 20


def confusion_matrix(review: Review, cells: int) -> Int64[np.ndarray, "{cells} {cells}"]:
    """Returns how many images of a true class (row) were given a class (column).

    Args:
        cells: rows and columns; the number of classes, or fewer, where neighbours share a cell.
    """
    p, n = review.predictions, len(review.classes)
    row, column = (labels.astype(np.int64) * cells // n for labels in (p.label, p.predicted))
    return np.bincount(row * cells + column, minlength=cells**2).reshape(cells, cells)


def plot_confusion(review: Review, path: Path) -> None:
    """Draws the matrix; with many classes, the pairs most often confused beside it.

    Colours are shares of the true class.
    """
    n = len(review.classes)
    matrix = confusion_matrix(review, min(n, MAX_CELLS))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    if n <= MAX_NAMED:
        _plot_named(review, matrix, shares, path)
    else:
        _plot_many(review, shares, path)


def _plot_named(review: Review, matrix: np.ndarray, shares: np.ndarray, path: Path) -> None:
    from matplotlib.colors import PowerNorm

    n = len(matrix)
    names = [shorten(name, 16) for name in review.classes]
    longest = max(map(len, names))
    turned = longest > 2
    side = max(3.0, 0.42 * n if n <= MAX_COUNTED else 0.17 * n)
    left = 0.5 + 0.07 * longest  # inches for the names and the title of the axis
    below = left if turned else 0.5
    figure = new_figure(side + left + 0.15, side + below + 0.4)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, below / height, side / width, side / height))
    # Where no number says it, a share of a few percent needs more than a linear scale to be seen.
    norm = PowerNorm(1.0 if n <= MAX_COUNTED else 0.5, 0, 1)
    axes.imshow(shares, cmap="Blues", norm=norm)
    size = 8 if n <= MAX_COUNTED else 7
    axes.set_xticks(range(n), names, rotation=90 if turned else 0, fontsize=size, parse_math=False)
    axes.set_yticks(range(n), names, fontsize=size, parse_math=False)
    if n <= MAX_COUNTED:
        for row, column in np.argwhere(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center",
                      color=colour, fontsize=8)  # fmt: skip
    _label(axes, f"{review.name}: {_accuracy(matrix):.2%} of {matrix.sum():,} images")
    save(figure, path)


def _plot_many(review: Review, shares: np.ndarray, path: Path) -> None:
    from matplotlib.colors import PowerNorm

    figure = new_figure(15.0, 9.6)
    axes = figure.add_axes((0.05, 0.06, 0.575, 0.9))  # 1,035 pixels: one or more a class
    axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.4, 0, 1), interpolation="nearest",
                extent=(0, len(review.classes), len(review.classes), 0))  # fmt: skip
    p = review.predictions
    _label(axes, f"{review.name}: {np.mean(p.label == p.predicted):.2%} of {len(p.label):,} images")
    beside = figure.add_axes((0.65, 0.06, 0.34, 0.9))
    beside.set_axis_off()
    beside.text(0, 1, "most confused", fontsize=12, weight="bold", va="top")
    for i, (label, taken_for, count) in enumerate(review.confused_pairs()[:PAIRS]):
        names = (shorten(review.classes[k], 26) for k in (label, taken_for))
        beside.text(0, 0.95 - 0.045 * i, f"{count:,} x  " + " as ".join(names), fontsize=9.5,
                    va="top", parse_math=False)  # fmt: skip
    save(figure, path)


def _label(axes: Any, title: str) -> None:
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)
    axes.tick_params(length=0)


def _accuracy(matrix: np.ndarray) -> float:
    return float(np.trace(matrix) / max(matrix.sum(), 1))
