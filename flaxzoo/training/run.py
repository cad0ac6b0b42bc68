"""The folder of a run: config.json, metrics.jsonl, summary.json, plots/ and checkpoints/."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flaxzoo import report
from flaxzoo.config import Config
from flaxzoo.errors import UserError
from flaxzoo.training.clock import Clock
from flaxzoo.training.schedule import Schedule


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
        with self._writing():
            self.workdir.mkdir(parents=True, exist_ok=True)
            if config_file.exists() and self._has_checkpoint():
                _check_same(config_file, values)
            else:
                self.write_json("config.json", values)
            self.plots.mkdir(exist_ok=True)

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
        self.metrics.clear()
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line that was being written
                continue
            if row["step"] <= step:
                self.metrics.append(row)
        with self._writing():
            _replace(path, "".join(json.dumps(row) + "\n" for row in self.metrics))

    def log(self, **row: Any) -> None:
        """Appends one line to metrics.jsonl."""
        self.metrics.append(row)
        with self._writing(), (self.workdir / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def plot(self) -> None:
        """Draws what was logged into plots/."""
        with self._writing():
            report.plot_curves(self.metrics, self.plots)

    def plot_schedule(self, learning_rate: Schedule, clock: Clock) -> None:
        """Draws the rates of all steps, those to come as well, into plots/."""
        with self._writing():
            report.plot_schedule(
                learning_rate, clock.total_steps, clock.steps_per_epoch, self.plots
            )

    def write_json(self, name: str, content: Any) -> None:
        """Writes `content` to a file of the run, whole or not at all."""
        with self._writing():
            _replace(self.workdir / name, json.dumps(content, indent=2) + "\n")

    def _has_checkpoint(self) -> bool:
        return self.checkpoints.is_dir() and any(
            path.name.isdigit() for path in self.checkpoints.iterdir()
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write to the workdir {self.workdir}: {error.strerror or error}."
            ) from error


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_same(config_file: Path, values: dict[str, Any]) -> None:
    try:
        saved = json.loads(config_file.read_text())
        if not isinstance(saved, dict):
            raise json.JSONDecodeError("not an object", "", 0)
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
