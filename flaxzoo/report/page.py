"""report.html: one file with everything about a run in it, for a browser, a printer or a mail."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flaxzoo.report.curves import Metrics
from flaxzoo.report.markup import document, duration, folded, percent, picture, section, table
from flaxzoo.report.mistakes import LIMIT
from flaxzoo.report.review import Review
from flaxzoo.report.tables import COLUMNS

MAX_ROWS = 200  # of a table; the .csv files have all
FIRST_PICTURES = ("loss", "accuracy", "learning_rate")
LAST_PICTURES = ("confusion", "mistakes")  # each in a section of its own


def page(
    *,
    name: str,
    config: Mapping[str, Any],
    metrics: Metrics,
    pictures: Path,
    summary: Mapping[str, Any] | None = None,
    review: Review | None = None,
) -> str:
    """Returns the page of a run. Nothing in it is fetched from anywhere; it has no script.

    Args:
        name: of the run.
        config: every setting by its dotted name.
        pictures: the folder of the plots; those that exist are put into the page.
        summary: what summary.json holds; None while the run goes on.
        review: of the evaluated images; None while the run goes on.
    """
    found = {path.stem: path for path in sorted(pictures.glob("[!.]*.png"))}
    if summary is not None:
        found.pop("schedule", None)  # the learning rates were those planned
    curves = [n for n in FIRST_PICTURES if n in found]
    curves += [n for n in found if n not in FIRST_PICTURES + LAST_PICTURES]
    sections = [
        section("Curves", "".join(_drawing(found[n]) for n in curves), "curves"),
        section("Evaluations", _evaluations(metrics)),
    ]
    if review is not None:
        sections += [
            section("Confusion", _drawing(found["confusion"]) + _pairs(review)),
            section(f"Classes, on the {review.name} images", _classes(review)),
            section("Worst mistakes", _drawing(found["mistakes"], "photos") + _mistakes(review)),
        ]
    sections += [
        section("Settings", table(("name", "value"), config.items())),
        section("Going on", _GOING_ON),
    ]
    if summary is not None:
        versions = {**summary["versions"], "devices": ", ".join(summary["devices"])}
        sections.append(section("Versions", table(("package", "version"), versions.items())))
    about = f"{config['config.model.name']} on {config['config.data.source']}"
    return document(name, about, _tiles(metrics, summary), sections)


def _tiles(metrics: Metrics, summary: Mapping[str, Any] | None) -> Iterable[tuple[str, str, str]]:
    """Yields (value, what it is, remark): the figures that one looks for first."""
    if summary is None:
        if metrics:
            yield f"{metrics[-1]['step']:,}", "steps so far", "the run has not ended"
    else:
        if "test" in summary:
            test = summary["test"]
            yield f"{test['accuracy']:.2%}", "test accuracy", f"of {test['count']:,} images"
        if "test_of_best" in summary:
            yield (
                f"{summary['test_of_best']['accuracy']:.2%}",
                "test accuracy of the best checkpoint",
                "best by validation",
            )
    scored = [row for row in metrics if "val_accuracy" in row]
    if scored:
        best = max(scored, key=lambda row: row["val_accuracy"])
        yield f"{best['val_accuracy']:.2%}", "best validation", f"step {best['step']:,}"
    if metrics:
        last = metrics[-1]
        yield f"{last['train_loss']:.4f}", "training loss", f"at epoch {last['epoch']:.4g}"
        yield f"{last['images_per_second']:,.0f}", "images/s", "at the end"
        yield duration(last["seconds"]), "training", f"{last['step']:,} steps"
    if summary is not None:
        yield f"{summary['parameters'] / 1e6:.2f} M", "parameters", summary["model"]


def _evaluations(metrics: Metrics) -> str:
    rows = [row for row in metrics if "val_loss" in row] or list(metrics)
    columns = [c for c in COLUMNS if any(c in row for row in rows)]
    cells = [[_number(row.get(c, ""), c) for c in columns] for row in rows[-MAX_ROWS:]]
    note = f"<p>The last {MAX_ROWS} of {len(rows)}.</p>" if len(rows) > MAX_ROWS else ""
    names = [c.replace("_", " ").replace("val ", "validation ") for c in columns]
    return note + folded(table(names, cells), len(cells))


def _pairs(review: Review) -> str:
    cells = [(review.classes[i], review.classes[k], count)
             for i, k, count in review.confused_pairs()[:20]]  # fmt: skip
    return table(("is", "was taken for", "times"), cells) if cells else ""


def _classes(review: Review) -> str:
    results = sorted(review.class_results(), key=lambda r: (r.accuracy is None, r.accuracy))
    cells = [
        (r.name, r.images, percent(r.accuracy), percent(r.precision),
         f"{r.confused_with} ({r.confused})" if r.confused else "")
        for r in results[:MAX_ROWS]
    ]  # fmt: skip
    more = f" The first {MAX_ROWS}; classes.csv has all." if len(results) > MAX_ROWS else ""
    columns = ("class", "images", "accuracy", "precision", "most often taken for")
    return f"<p>The worst first.{more}</p>" + folded(table(columns, cells), len(cells))


def _mistakes(review: Review) -> str:
    p = review.predictions
    cells = [
        (review.split.name(int(p.index[i])), review.classes[p.label[i]],
         review.classes[p.predicted[i]], percent(float(p.confidence[i])), f"{p.loss[i]:.3f}")
        for i in review.worst_mistakes(LIMIT)
    ]  # fmt: skip
    if not cells:
        return ""
    return folded(table(("image", "is", "was taken for", "confidence", "loss"), cells), 100)


def _drawing(path: Path, css_class: str = "drawing") -> str:
    return picture(path.read_bytes(), path.stem, css_class)


def _number(value: Any, column: str) -> str:
    if value == "" or column == "step":
        return str(value)
    if column.endswith("accuracy"):
        return percent(value)
    return f"{value:.1f}" if column in ("epoch", "seconds") else f"{value:.4g}"


_GOING_ON = """<p>Started again with the same command and this <code>--workdir</code>, a run that
was interrupted goes on from its last checkpoint, to the same bits; one that has ended is evaluated
again. <code>checkpoints/</code> has the latest and the best by validation accuracy, named after
their steps; <code>metrics.jsonl</code> every logged figure; <code>summary.csv</code> the
evaluations; <code>classes.csv</code> the classes.</p>"""
