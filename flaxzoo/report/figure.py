"""Figures without a window or global state, saved whole or not at all."""

import io
import warnings
from pathlib import Path
from typing import Any

DPI = 120


def new_figure(width: float, height: float) -> Any:
    """Returns an empty matplotlib figure of so many inches."""
    from matplotlib.figure import Figure  # 0.5 s, so only where something is drawn

    return Figure(figsize=(width, height), dpi=DPI)


def png(figure: Any) -> bytes:
    """Returns a figure as PNG."""
    data = io.BytesIO()
    with warnings.catch_warnings():
        # Class names may be in any script: what the font lacks is drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(data, format="png")
    return data.getvalue()


def save(figure: Any, path: Path) -> None:
    """Writes a figure as PNG."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(png(figure))
    temporary.replace(path)
