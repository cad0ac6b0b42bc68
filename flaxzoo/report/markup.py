"""What the pages of runs are made of: HTML with everything in it, without a script."""

import base64
import html
from collections.abc import Iterable, Sequence
from string import Template
from typing import Any


def document(
    name: str, about: str, tiles: Iterable[tuple[str, str, str]], sections: Iterable[str]
) -> str:
    """Returns a page: a heading, the figures that one looks for first, and sections.

    Args:
        tiles: (value, what it is, remark).
        sections: HTML, from `section`.
    """
    return _PAGE.substitute(
        name=html.escape(name),
        about=html.escape(about),
        tiles="".join(_tile(*figures) for figures in tiles),
        sections="\n".join(sections),
    )


def section(title: str, content: str, css_class: str = "") -> str:
    """Returns a part of the page under a heading; `content` is HTML."""
    return f'<section class="{css_class}"><h2>{html.escape(title)}</h2>{content}</section>'


def _tile(value: str, what: str, remark: str) -> str:
    value, what, remark = map(html.escape, (value, what, remark))
    return f"<div><b>{value}</b><span>{what}</span><small>{remark}</small></div>"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table of texts and numbers."""
    head = "".join(f"<th>{html.escape(str(c))}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    content = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table>{content}</table></div>'


def folded(table: str, rows: int) -> str:
    """Returns a long table closed, to be opened with a click."""
    state = "" if rows > 30 else " open"
    return f"<details{state}><summary>table</summary>{table}</details>"


def picture(png: bytes, name: str, css_class: str = "drawing") -> str:
    """Returns an image that lies in the page itself."""
    data = base64.b64encode(png).decode()
    alt = html.escape(name.replace("_", " "))
    return f'<img class="{css_class}" alt="{alt}" src="data:image/png;base64,{data}">'


def percent(share: float | None) -> str:
    """Returns a share with two digits behind the point; nothing for None."""
    return "" if share is None else f"{share:.2%}"


def duration(seconds: float) -> str:
    """Returns hours and minutes, or minutes and seconds."""
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {int(seconds) % 60} s" if minutes else f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min"


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
  font-variant-numeric: tabular-nums; max-width: 26rem; overflow-wrap: break-word; }
.wide { overflow-x: auto; }
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
