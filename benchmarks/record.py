"""Results of benchmarks: JSON files in benchmarks/results/, sorted, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks" / "results"


def load(path: Path) -> dict[str, Any]:
    """Returns the results so far, none where there is no file."""
    return json.loads(path.read_text()) if path.exists() else {}


def save(path: Path, results: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    temporary.replace(path)
