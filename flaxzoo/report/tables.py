"""Tables for spreadsheets."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from flaxzoo.report.curves import Metrics
from flaxzoo.report.review import Review

COLUMNS = (
    "epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate",
    "seconds",
)  # fmt: skip


def summary_csv(metrics: Metrics) -> str:
    """Returns one line for each evaluation, as timm's summary.csv; all lines where none was made.

    Other metrics of the validation split follow behind the columns that every run has.
    """
    rows = [row for row in metrics if "val_loss" in row] or list(metrics)
    more = sorted({k for row in rows for k in row if k.startswith("val_")} - set(COLUMNS))
    columns = [*COLUMNS, *more]
    return _csv(columns, ([row.get(name, "") for name in columns] for row in rows))


def classes_csv(review: Review) -> str:
    """Returns one line for each class, in the order of the labels."""
    columns = (
        "class", "images", "correct", "accuracy", "precision", "most_confused_with", "confused"
    )  # fmt: skip
    return _csv(columns, (
        (r.name, r.images, r.correct, r.accuracy, r.precision, r.confused_with, r.confused)
        for r in review.class_results()
    ))  # fmt: skip


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
