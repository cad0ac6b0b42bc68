"""What a run leaves to look at: curves, tables, pictures of its mistakes, a page of it all."""

from flaxzoo.report.confusion import plot_confusion
from flaxzoo.report.curves import plot_curves, plot_schedule
from flaxzoo.report.mistakes import plot_mistakes
from flaxzoo.report.page import page
from flaxzoo.report.review import Predictions, Review
from flaxzoo.report.tables import classes_csv, summary_csv

__all__ = [
    "Predictions",
    "Review",
    "classes_csv",
    "page",
    "plot_confusion",
    "plot_curves",
    "plot_mistakes",
    "plot_schedule",
    "summary_csv",
]
