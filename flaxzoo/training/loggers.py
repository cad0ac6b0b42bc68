"""Where metrics go besides metrics.jsonl: TensorBoard and Weights & Biases, both optional."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from flaxzoo.config import LogConfig
from flaxzoo.errors import UserError


@runtime_checkable
class Logger(Protocol):
    """Gets what metrics.jsonl gets."""

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Takes the metrics after `step` updates."""
        ...

    def close(self) -> None:
        """Writes out what is left."""
        ...


class TensorBoard:
    """Event files in `folder`/tensorboard, written by tensorboardX, without TensorFlow."""

    def __init__(self, folder: Path, start_step: int):
        writer = _library("tensorboardX", "config.log.tensorboard").SummaryWriter
        # What an interrupted run logged after its last checkpoint is logged again: TensorBoard
        # shows nothing of the older files from the purged step on.
        purge = start_step + 1 if start_step else None
        self._writer = writer(str(folder / "tensorboard"), purge_step=purge)

    def log(self, step: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            part, _, rest = name.partition("_")
            tag = f"{rest}/{part}" if part in ("train", "val") else name  # one chart for both
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        self._writer.close()


class WandB:
    """A run of Weights & Biases, named after the folder and resumed under the same id.

    wandb ignores rows of steps it has already seen, and those are the same to the bit.
    """

    def __init__(self, folder: Path, project: str, config: Mapping[str, Any]):
        wandb = _library("wandb", "config.log.wandb")
        id_file = folder / "wandb_id"
        known = id_file.read_text().strip() if id_file.exists() else None
        self._run = wandb.init(
            project=project, name=folder.name, dir=str(folder), config=dict(config), id=known,
            resume="allow",
        )  # fmt: skip
        id_file.write_text(f"{self._run.id}\n")

    def log(self, step: int, row: Mapping[str, float]) -> None:
        self._run.log(dict(row), step=step)

    def close(self) -> None:
        self._run.finish()


def check_installed(config: LogConfig) -> None:
    """Raises UserError unless everything that `config` asks for can be imported."""
    if config.tensorboard:
        _library("tensorboardX", "config.log.tensorboard")
    if config.wandb:
        _library("wandb", "config.log.wandb")


def open_loggers(
    config: LogConfig, folder: Path, start_step: int, run_config: Mapping[str, Any]
) -> list[Logger]:
    """Returns the loggers that `config` asks for.

    Args:
        start_step: the step that the run goes on from, 0 for a new one.
        run_config: what wandb shows as the run's config.
    """
    loggers: list[Logger] = []
    if config.tensorboard:
        loggers.append(TensorBoard(folder, start_step))
    if config.wandb:
        loggers.append(WandB(folder, config.wandb, run_config))
    return loggers


def _library(name: str, field: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{field} needs {name}: pip install {name} ({error}).") from None
