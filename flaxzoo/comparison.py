"""Runs side by side: a table, the settings in which they differ, their curves in one picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flaxzoo.arguments import nearby
from flaxzoo.errors import UserError
from flaxzoo.report.curves import Metrics
from flaxzoo.report.figure import new_figure, png
from flaxzoo.report.markup import document, duration, percent, picture, section, table
from flaxzoo.saved_model import is_saved
from flaxzoo.sources import read_json
from flaxzoo.training.run import flat, read_metrics, score

CURVES = (  # (title, column, column of the abscissa)
    ("training loss", "train_loss", "epoch"),
    ("validation loss", "val_loss", "epoch"),
    ("validation accuracy", "val_accuracy", "epoch"),
    ("validation accuracy, averaged weights", "val_ema_accuracy", "epoch"),
    ("validation accuracy over time", "val_accuracy", "seconds"),
    ("learning rate", "learning_rate", "epoch"),
)


@dataclass(frozen=True)
class RunFolder:
    """What a run left.

    Attributes:
        name: unique among those compared.
        config: every setting by its dotted name.
        metrics: rows of metrics.jsonl.
        summary: of a run that has ended, else None.
    """

    name: str
    config: Mapping[str, Any]
    metrics: Metrics
    summary: Mapping[str, Any] | None

    def row(self) -> dict[str, Any]:
        """Returns the figures of the run; None for those that it does not have (yet)."""
        last = self.metrics[-1] if self.metrics else {}
        summary = self.summary or {}
        scores = [reached for row in self.metrics if (reached := score(row)) is not None]
        tested = summary.get("test_ema") or summary.get("test") or {}
        return {
            "run": self.name,
            "model": self.config.get("model.name"),
            "data": self.config.get("data.source"),
            "ended": self.summary is not None,
            "step": last.get("step"),
            "epoch": last.get("epoch"),
            "train_loss": last.get("train_loss"),
            "best_validation": max(scores, default=None),
            "test": tested.get("accuracy"),
            "images_per_second": last.get("images_per_second"),
            "seconds": last.get("seconds"),
        }


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """Reads runs; a folder that is none is taken for a folder of runs.

    Raises:
        UserError: there is no run in one of them, or a file of one is damaged.
    """
    paths = [path for folder in folders for path in _runs_in(folder)]
    paths = list(dict.fromkeys(path.resolve() for path in paths))
    names = [path.name for path in paths]
    return [_read(path, path.name if names.count(path.name) == 1 else str(path)) for path in paths]


def differing_settings(runs: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """Returns the settings that are not the same in all runs, with the value in each."""
    names = sorted({name for run in runs for name in run.config})
    values = {name: [run.config.get(name) for run in runs] for name in names}
    return {name: each for name, each in values.items() if any(v != each[0] for v in each)}


def draw(runs: Sequence[RunFolder]) -> bytes | None:
    """Returns a PNG of all curves that a run has, overlaid; None where there is none."""
    shown = [curve for curve in CURVES if any(_points(run, *curve[1:]) for run in runs)]
    if not shown:
        return None
    rows = math.ceil(len(shown) / 2)
    figure = new_figure(11.0, 3.4 * rows + 0.3 * math.ceil(len(runs) / 3))
    for axes, (title, key, abscissa) in zip(
        figure.subplots(rows, 2, squeeze=False).flat, shown, strict=False
    ):
        for i, run in enumerate(runs):
            points = _points(run, key, abscissa)
            if points:
                style = "o-" if key.startswith("val") else "-"
                x, y = zip(*points, strict=True)
                axes.plot(x, y, style, color=f"C{i % 10}", markersize=3, label=run.name)
        if key.endswith("loss"):
            axes.set_yscale("log")
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel(abscissa)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in figure.axes[len(shown) :]:
        axes.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.set_layout_engine("constrained")
    return png(figure)


def comparison_page(runs: Sequence[RunFolder]) -> str:
    """Returns one HTML file with everything in it, for a browser or a mail."""
    rows = [run.row() for run in runs]
    best = max(rows, key=lambda row: row["test"] or row["best_validation"] or 0)
    kind = "test" if best["test"] else "best_validation"
    tiles = [(str(len(runs)), "runs", f"{sum(row['ended'] for row in rows)} have ended")]
    if best[kind] is not None:
        tiles.append((percent(best[kind]), kind.replace("_", " "), best["run"]))
    cells = [[_cell(key, value) for key, value in row.items()] for row in rows]
    sections = [section("Runs", table([key.replace("_", " ") for key in rows[0]], cells))]
    if (curves := draw(runs)) is not None:
        sections.append(section("Curves", picture(curves, "curves of the runs")))
    settings = differing_settings(runs)
    columns = ["name", *(run.name for run in runs)]
    text = table(columns, [[name, *values] for name, values in settings.items()])
    sections.append(section("Settings that differ", text if settings else "<p>None.</p>"))
    return document("Comparison of runs", ", ".join(run.name for run in runs), tiles, sections)


def _runs_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; expected a workdir{nearby(folder)}")
    if _is_run(folder):
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/config.json") if _is_run(path.parent))
    if not found:
        raise UserError(
            f"no run in {folder}; expected a workdir of train.py (with config.json), or a folder "
            "of such."
        )
    return found


def _is_run(folder: Path) -> bool:
    """Whether it is a workdir: models of `save_pretrained` have a config.json, too."""
    return (folder / "config.json").is_file() and not is_saved(folder)


def _read(folder: Path, name: str) -> RunFolder:
    config = flat(read_json(folder / "config.json"), prefix="")
    summary, metrics = folder / "summary.json", folder / "metrics.jsonl"
    return RunFolder(
        name,
        config,
        list(read_metrics(metrics)) if metrics.exists() else [],
        read_json(summary) if summary.exists() else None,
    )


def _points(run: RunFolder, key: str, abscissa: str) -> list[tuple[float, float]]:
    return [(row[abscissa], row[key]) for row in run.metrics if key in row and abscissa in row]


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key in ("best_validation", "test"):
        return percent(value)
    if key == "seconds":
        return duration(value)
    if key == "ended":
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
