"""The folder of a run: config.json, metrics.jsonl, summary.json, plots/ and checkpoints/."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from flaxzoo.config import Config
from flaxzoo.errors import UserError


class Run:
    """A run's folder, created or opened again.

    Raises:
        UserError: the folder cannot be written, or it holds a run with another config.
    """

    def __init__(self, workdir: str | os.PathLike, config: Config):
        self.workdir = Path(workdir).expanduser().absolute()
        self.metrics: list[dict[str, Any]] = []
        values = json.loads(json.dumps(dataclasses.asdict(config)))  # tuples become lists
        config_file = self.workdir / "config.json"
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            if config_file.exists():
                _check_same(config_file, values)
            else:
                self.write_json("config.json", values)
            self.plots.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write to the workdir {self.workdir}: {error.strerror or error}."
            ) from error

    @property
    def plots(self) -> Path:
        return self.workdir / "plots"

    @property
    def checkpoints(self) -> Path:
        return self.workdir / "checkpoints"

    def resume_metrics(self, step: int) -> None:
        """Reads what was logged up to `step` and drops what an interrupted run logged after it."""
        path = self.workdir / "metrics.jsonl"
        if not path.exists():
            return
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written
                continue
            if row["step"] <= step:
                self.metrics.append(row)
        _replace(path, "".join(json.dumps(row) + "\n" for row in self.metrics))

    def log(self, **row: Any) -> None:
        """Appends one line to metrics.jsonl."""
        self.metrics.append(row)
        try:
            with (self.workdir / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(f"cannot write metrics.jsonl: {error.strerror or error}.") from error

    def write_json(self, name: str, content: Any) -> None:
        """Writes `content` to a file of the run, whole or not at all."""
        _replace(self.workdir / name, json.dumps(content, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        """Returns the content of a file of the run, None where it is not there."""
        path = self.workdir / name
        return json.loads(path.read_text()) if path.exists() else None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _check_same(config_file: Path, values: dict[str, Any]) -> None:
    try:
        saved = json.loads(config_file.read_text())
    except json.JSONDecodeError:
        raise UserError(f"{config_file} is damaged; use another --workdir.") from None
    before, now = _flat(saved), _flat(values)
    changed = [
        f"{name} was {before.get(name, 'absent')!r} and is {now.get(name, 'absent')!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, "absent") != now.get(name, "absent")
    ]
    if changed:
        raise UserError(
            f"{config_file.parent} holds a run with another config: {'; '.join(changed)}. "
            "Start it as before to go on, or use another --workdir."
        )


def _flat(tree: dict[str, Any], prefix: str = "config") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        name = f"{prefix}.{key}"
        flat.update(_flat(value, name) if isinstance(value, dict) else {name: value})
    return flat
