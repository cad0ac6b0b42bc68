"""report.html: one file with everything about a run in it, for a browser, a printer or a mail."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from flaxzoo.report.curves import Metrics
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
    curves = [n for n in FIRST_PICTURES if n in found]
    curves += [n for n in found if n not in FIRST_PICTURES + LAST_PICTURES]
    sections = [
        _section("Curves", "".join(_picture(found[n]) for n in curves), "curves"),
        _section("Evaluations", _evaluations(metrics)),
    ]
    if review is not None:
        sections += [
            _section("Confusion", _picture(found["confusion"]) + _pairs(review)),
            _section(f"Classes, on the {review.name} images", _classes(review)),
            _section("Worst mistakes", _picture(found["mistakes"], "photos") + _mistakes(review)),
        ]
    sections += [
        _section("Settings", _table(("name", "value"), config.items())),
        _section("Going on", _GOING_ON),
    ]
    if summary is not None:
        versions = {**summary["versions"], "devices": ", ".join(summary["devices"])}
        sections.append(_section("Versions", _table(("package", "version"), versions.items())))
    return _PAGE.substitute(
        name=html.escape(name),
        about=html.escape(f"{config['config.model.name']} on {config['config.data.source']}"),
        tiles="".join(_tile(*tile) for tile in _tiles(metrics, summary)),
        sections="\n".join(sections),
    )


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
        yield _duration(last["seconds"]), "training", f"{last['step']:,} steps"
    if summary is not None:
        yield f"{summary['parameters'] / 1e6:.2f} M", "parameters", summary["model"]


def _evaluations(metrics: Metrics) -> str:
    rows = [row for row in metrics if "val_loss" in row] or list(metrics)
    columns = [c for c in COLUMNS if any(c in row for row in rows)]
    cells = [[_number(row.get(c, ""), c) for c in columns] for row in rows[-MAX_ROWS:]]
    note = f"<p>The last {MAX_ROWS} of {len(rows)}.</p>" if len(rows) > MAX_ROWS else ""
    names = [c.replace("_", " ").replace("val ", "validation ") for c in columns]
    return note + _folded(_table(names, cells), len(cells))


def _pairs(review: Review) -> str:
    cells = [(review.classes[i], review.classes[k], count)
             for i, k, count in review.confused_pairs()[:20]]  # fmt: skip
    return _table(("is", "was taken for", "times"), cells) if cells else ""


def _classes(review: Review) -> str:
    results = sorted(review.class_results(), key=lambda r: (r.accuracy is None, r.accuracy))
    cells = [
        (r.name, r.images, _percent(r.accuracy), _percent(r.precision),
         f"{r.confused_with} ({r.confused})" if r.confused else "")
        for r in results[:MAX_ROWS]
    ]  # fmt: skip
    more = f" The first {MAX_ROWS}; classes.csv has all." if len(results) > MAX_ROWS else ""
    columns = ("class", "images", "accuracy", "precision", "most often taken for")
    return f"<p>The worst first.{more}</p>" + _folded(_table(columns, cells), len(cells))


def _mistakes(review: Review) -> str:
    p = review.predictions
    cells = [
        (review.split.name(int(p.index[i])), review.classes[p.label[i]],
         review.classes[p.predicted[i]], _percent(float(p.confidence[i])), f"{p.loss[i]:.3f}")
        for i in review.worst_mistakes(LIMIT)
    ]  # fmt: skip
    if not cells:
        return ""
    return _folded(_table(("image", "is", "was taken for", "confidence", "loss"), cells), 100)


def _section(title: str, content: str, css_class: str = "") -> str:
    return f'<section class="{css_class}"><h2>{html.escape(title)}</h2>{content}</section>'


def _tile(value: str, what: str, remark: str) -> str:
    value, what, remark = map(html.escape, (value, what, remark))
    return f"<div><b>{value}</b><span>{what}</span><small>{remark}</small></div>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{html.escape(str(c))}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _folded(table: str, rows: int) -> str:
    """Returns a long table closed, to be opened with a click."""
    state = "" if rows > 30 else " open"
    return f"<details{state}><summary>table</summary>{table}</details>"


def _picture(path: Path, css_class: str = "drawing") -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    alt = html.escape(path.stem.replace("_", " "))
    return f'<img class="{css_class}" alt="{alt}" src="data:image/png;base64,{data}">'


def _number(value: Any, column: str) -> str:
    if value == "" or column == "step":
        return str(value)
    if column.endswith("accuracy"):
        return _percent(value)
    return f"{value:.1f}" if column in ("epoch", "seconds") else f"{value:.4g}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _duration(seconds: float) -> str:
    """Returns hours and minutes, or minutes and seconds."""
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min"


_GOING_ON = """<p>Started again with the same command and this <code>--workdir</code>, a run that
was interrupted goes on from its last checkpoint, to the same bits; one that has ended is evaluated
again. <code>checkpoints/</code> has the latest and the best by validation accuracy, named after
their steps; <code>metrics.jsonl</code> every logged figure; <code>summary.csv</code> the
evaluations; <code>classes.csv</code> the classes.</p>"""

# Drawings are black on white; where the reader prefers dark, they are inverted, photographs not.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name</title>
<style>
:root { color-scheme: light dark; --paper: #fff; --ink: #1c1c1e; --soft: #6b6b70; --line: #e2e2e6; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #151517; --ink: #e8e8ea; --soft: #9a9aa0; --line: #333338; }
  img.drawing { filter: invert(0.92) hue-rotate(180deg); }
}
body { margin: 2rem auto; padding: 0 1.25rem; max-width: 68rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 0.75rem; font-size: 1.15rem; }
header p { margin: 0.25rem 0 1.5rem; color: var(--soft); }
.tiles, .curves { display: grid; gap: 0.75rem; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.tiles div { padding: 0.75rem 1rem; border: 1px solid var(--line); border-radius: 8px; }
.tiles b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.tiles span, .tiles small { display: block; }
small, summary { color: var(--soft); }
img { max-width: 100%; height: auto; }
.photos { background: #fff; border-radius: 8px; }
.curves { grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); }
.curves h2 { grid-column: 1 / -1; margin-bottom: 0; }
table { border-collapse: collapse; margin: 0.5rem 0; font-size: 0.9rem; }
th, td { padding: 0.2rem 1rem 0.2rem 0; text-align: left; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; }
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #555; --line: #ccc; }
  img.drawing { filter: none; }
  body { margin: 0; max-width: none; font-size: 11px; }
  img, tr, .tiles div { break-inside: avoid; }
}
</style>
</head>
<body>
<header><h1>$name</h1><p>$about</p><div class="tiles">$tiles</div></header>
$sections
</body>
</html>
""")
