"""The images that a model is most wrong about."""

import math
from pathlib import Path

import numpy as np

from flaxzoo.picture import shorten, thumbnail
from flaxzoo.report.figure import DPI, new_figure, save
from flaxzoo.report.review import Review

COLUMNS = 6
LIMIT = 24
PIXELS = 112  # of an image in the grid
GAP = 16
CAPTION = 46  # pixels under an image


def plot_mistakes(review: Review, path: Path) -> None:
    """Draws the wrongly judged images of the highest loss, with what they are and were taken for.

    A run without mistakes gets a picture that says so.
    """
    worst = review.worst_mistakes(LIMIT)
    columns = min(COLUMNS, max(len(worst), 3))  # of three at least, or the title has no room
    rows, cell = math.ceil(len(worst) / columns), PIXELS + GAP
    width, height = columns * cell + GAP, rows * (cell + CAPTION) + 3 * GAP
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = new_figure(width / DPI, height / DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    p = review.predictions
    count = int(np.sum(p.label != p.predicted))
    title = f"{review.name}: the {len(worst)} worst of {count:,} mistakes" if count else (
        f"{review.name}: no mistakes"
    )  # fmt: skip
    axes.text(GAP, 1.5 * GAP, title, fontsize=9, va="center")
    for i, at in enumerate(worst):
        x, y = GAP + i % columns * cell, 3 * GAP + i // columns * (cell + CAPTION)
        canvas[y : y + PIXELS, x : x + PIXELS] = thumbnail(review.split[int(p.index[at])], PIXELS)
        true, taken_for = (shorten(review.classes[k], 12) for k in (p.label[at], p.predicted[at]))
        below = y + PIXELS + 3
        axes.text(x, below, f"{p.confidence[at]:.0%} {taken_for}", color="#b3261e", fontsize=7,
                  va="top", parse_math=False)  # fmt: skip
        axes.text(x, below + 16, f"is {true}", color="black", fontsize=7, va="top",
                  parse_math=False)  # fmt: skip
    axes.imshow(canvas, interpolation="nearest", aspect="auto", extent=(0, width, height, 0))
    save(figure, path)
