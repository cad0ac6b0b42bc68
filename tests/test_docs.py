"""Code in docs/*.md runs: the blocks below a line `<!-- run -->`, file by file.

All such blocks of a file run in order as one program, in an empty folder, without network.
"""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^<!-- run -->\n+```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def program(text: str) -> str:
    """Returns the marked blocks of a page, each on its lines of the page, and blank lines."""
    lines = [""] * (text.count("\n") + 1)
    for match in BLOCK.finditer(text):
        first = text[: match.start(1)].count("\n")
        block = match[1].splitlines()
        lines[first : first + len(block)] = block
    return "\n".join(lines)


def marked() -> list[str]:
    return sorted(path.name for path in DOCS.glob("*.md") if "<!-- run -->" in path.read_text())


@pytest.mark.parametrize("page", marked())
def test_code_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = program((DOCS / page).read_text())
    assert source.strip(), f"{page} has a mark that no block of python follows"
    exec(compile(source, str(DOCS / page), "exec"), {"__name__": "__main__"})


def test_pages_with_marks_are_found():
    assert "features.md" in marked()


def test_blocks_keep_their_lines():
    block, mark = "```python\nx = 1\n```\n", "<!-- run -->\n"
    lines = program("text\n" + mark + block + block + mark + "\n" + block).split("\n")
    assert {i: line for i, line in enumerate(lines, 1) if line} == {4: "x = 1", 12: "x = 1"}
