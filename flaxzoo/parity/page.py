"""A page about comparisons with PyTorch: one file, without a script."""

import html
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from flaxzoo.parity import Report
from flaxzoo.parity.blocks import TITLES, Block, blocks, explain
from flaxzoo.parity.curves import plot_losses
from flaxzoo.report.figure import new_figure, png
from flaxzoo.report.markup import document, folded, picture, section, table

COLOURS = {"forward": "tab:blue", "gradient": "tab:orange", "training": "tab:green"}
EXACT = 1e-17  # where errors of 0 are drawn: they have no place on a logarithmic axis


def parity_page(reports: Sequence[Report]) -> str:
    """Returns the page of comparisons, with their figures block by block as table and picture."""
    models = list(dict.fromkeys(report.model for report in reports))
    return document(
        models[0] if len(models) == 1 else f"{len(models)} models",
        "flaxzoo and PyTorch: " + ", ".join(dict.fromkeys(r.against for r in reports)),
        _tiles(reports),
        (part for report in reports for part in _sections(report, len(models) > 1)),
    )


def _tiles(reports: Sequence[Report]) -> Iterator[tuple[str, str, str]]:
    if len(reports) > 4:
        different = sum(not report.equal for report in reports)
        yield str(len(reports)), "comparisons", f"{different} different"
        return
    for report in reports:
        worst = {d.kind: report.worst(d.kind) for d in report.differences}
        figures = ", ".join(f"{TITLES.get(kind, kind)} {e:.0e}" for kind, e in worst.items())
        result = "equal" if report.equal else "different"
        yield result, f"{report.model}, {report.dtype}", f"at most {figures}"


def _sections(report: Report, named: bool) -> Iterator[str]:
    rows = blocks(report)
    height, width = report.image_size
    about = f"{report.dtype}, {height}x{width} pixels, {report.weights or 'calibrated weights'}"
    content = f"<p>{html.escape(explain(report))}.</p>"
    content += picture(_drawn(rows), f"errors of {report.model} in {report.dtype}")
    content += folded(_table(rows), len(rows))
    yield section(f"{report.model}: {about}" if named else about, content)
    if report.losses:
        data = io.BytesIO()
        plot_losses({report.model: report.losses}, data)
        drawing = picture(data.getvalue(), f"losses of {report.model}")
        yield section("Losses of both", f"<p>{html.escape(str(report.losses))}</p>{drawing}")


def _table(rows: Iterable[Block]) -> str:
    def figure(value: float | None) -> str:
        return "" if value is None else f"{value:.1e}"

    return table(
        ("block", "shape", *TITLES.values(), "result"),
        (
            (
                block.name,
                "x".join(map(str, block.shape)),
                *(figure(block.error(kind)) for kind in TITLES),
                block.result,
            )
            for block in rows
        ),
    )


def _drawn(rows: Sequence[Block]) -> bytes:
    """Returns a PNG: the error of each block on a logarithmic axis, what differs in a circle."""
    figure = new_figure(9.0, 3.6)
    axes: Any = figure.subplots()
    for kind, title in TITLES.items():
        found = [(i, block.worst[kind]) for i, block in enumerate(rows) if kind in block.worst]
        if not found:
            continue
        where = [i for i, _ in found]
        errors = np.maximum([d.error for _, d in found], EXACT)
        axes.semilogy(where, errors, ".", color=COLOURS[kind], label=title)
        wrong = [(i, d.error) for i, d in found if not d.equal and np.isfinite(d.error)]
        if wrong:
            axes.semilogy(
                *zip(*wrong, strict=True), "o", color="tab:red", fillstyle="none", markersize=9
            )
        allowed = max(d.allowed for _, d in found)
        axes.axhline(allowed, color=COLOURS[kind], linewidth=0.8, linestyle="--")
    axes.plot([], [], "--", color="grey", linewidth=0.8, label="allowed")
    step = -(-len(rows) // 40)
    axes.set_xticks(range(0, len(rows), step), [block.name for block in rows[::step]])
    axes.tick_params("x", labelrotation=90, labelsize=7)
    axes.set_ylabel("relative error")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    figure.set_layout_engine("constrained")
    return png(figure)
