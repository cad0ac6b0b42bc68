"""The table of faults names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_of_the_table_exists():
    sources = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    existing = set(re.findall(r"^def (test_\w+)", "\n".join(sources), re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reliability.md").read_text("utf-8")))
    assert len(named) > 50
    assert named <= existing
