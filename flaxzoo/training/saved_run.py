"""What a run's folder says about its weights: which they are, of which model, where they came from.

Weights of a run are used by another run (`config.init_from`) and by `flaxzoo.create_model`.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flaxzoo.checkpoint import read_weights, saved_steps
from flaxzoo.convert import to_torch_layout, torch_name
from flaxzoo.errors import UserError
from flaxzoo.sources import Source, read_json
from flaxzoo.training.run import read_classes, read_metrics, score

ORIGIN_FILE = "init.json"


@dataclass(frozen=True)
class Origin:
    """Where a run's first weights came from, as its init.json keeps it.

    A file decides more than values: GoogLeNet's `transform_input`, or the eps of timm's batch
    normalisation. Whoever builds the model of the run again needs that, and not the file.

    Attributes:
        init_from: the config's.
        path: the file or checkpoint that it stood for.
        options: those of the model that the weights decided.
        naming: whose names and whose eps they have, "own" or "timm".
        loaded: what was not simply loaded, in words.
    """

    init_from: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    naming: str = "own"
    loaded: str = ""

    def __str__(self) -> str:
        return f"weights from {self.path}: {self.loaded}"


def origin_of(workdir: Path, init_from: str) -> Origin | None:
    """Returns the origin of the run in `workdir`, if it has a checkpoint to go on from.

    None where it has none, or began from other weights than `init_from`.

    Raises:
        UserError: its init.json is damaged.
    """
    path = workdir / ORIGIN_FILE
    if not path.exists() or not saved_steps(workdir / "checkpoints"):
        return None
    saved = read_json(path)
    if saved.get("init_from") != init_from:
        return None
    try:
        return Origin(**saved)
    except TypeError:
        raise UserError(f"{path} is damaged: it holds {', '.join(saved)}.") from None


def read_run(path: Path, what: str, kind: str = "") -> Source:
    """Reads the best checkpoint of a run, or the one that `path` is.

    Args:
        what: the option that names `path`, for messages.
        kind: of the weights: see `flaxzoo.checkpoint.read_weights`.

    Raises:
        UserError: there is no checkpoint, or one of the run's files is damaged.
    """
    workdir, checkpoint = workdir_of(path), checkpoint_of(path, what)
    config = read_json(workdir / "config.json") if (workdir / "config.json").exists() else {}
    saved = config.get("model") or {}
    origin = origin_of(workdir, config.get("init_from", ""))
    names = read_classes(workdir) or ()
    return Source(
        path=str(checkpoint),
        weights=torch_weights(checkpoint, kind),
        naming=origin.naming if origin else "own",
        model=saved.get("name", ""),
        options=dict(origin.options) if origin else {},
        written={key: saved[key] for key in ("stem", "options") if key in saved},
        image_size=(config.get("data") or {}).get("image_size") or None,
        classes=names,
        num_classes=saved.get("num_classes") or len(names) or None,
    )


def workdir_of(path: Path) -> Path:
    """Returns the folder of the run that `path` is, or is the checkpoints or a checkpoint of."""
    whole = path.absolute()
    if whole.name.isdigit() and whole.parent.name == "checkpoints":
        return whole.parent.parent
    return whole.parent if whole.name == "checkpoints" else path


def written_options(texts: Sequence[str]) -> dict[str, Any]:
    """Returns the options that `config.model.options` writes: "planes=8".

    Raises:
        UserError: one is written otherwise, stands twice, or is set elsewhere.
    """
    options = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        if name in _ELSEWHERE:
            raise UserError(f"config.model.options: {name} is {_ELSEWHERE[name]}; got {text!r}.")
        if name in options:
            raise UserError(f"config.model.options has {name} twice; got {tuple(texts)}.")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise UserError(
                "config.model.options are written NAME=VALUE, like 'dropout=0.1', with values of "
                f"Python, texts in quotes; got {text!r}."
            ) from None
    return options


# What the config says elsewhere, or takes from the data.
_ELSEWHERE = {
    "stem": "config.model.stem",
    "num_classes": "config.model.num_classes",
    "image_size": "config.data.image_size",
    "in_channels": "taken from the data",
    "seed": "config.seed",
    "dtype": "config.dtype",
    "param_dtype": "always float32 in training",
    "pretrained": "config.init_from",
    "abstract": "for looking at models only",
}


def checkpoint_of(path: Path, what: str) -> Path:
    """Returns the checkpoint that `path` is, or of a run the best by validation accuracy.

    Without any accuracy that is the latest.

    Args:
        path: a checkpoint, a run's folder or that of its checkpoints.
        what: the option that names `path`, for messages.

    Raises:
        UserError: the run has none.
    """
    workdir = workdir_of(path)
    if workdir == path.absolute().parent.parent:
        return path
    steps = saved_steps(workdir / "checkpoints")
    if not steps:
        held = sorted(p.name for p in path.iterdir())
        raise UserError(
            f"{what}: {path} has no checkpoint; expected the folder of a run, one of its "
            "checkpoints/STEP, a folder of save_pretrained, or a file of weights; it holds "
            f"{', '.join(held[:8]) or 'nothing'}."
        )
    metrics = workdir / "metrics.jsonl"
    rows = read_metrics(metrics) if metrics.exists() else ()
    scores = {row["step"]: reached for row in rows if (reached := score(row)) is not None}
    best = max(steps, key=lambda step: (scores.get(step, -1.0), step))
    return workdir / "checkpoints" / str(best)


def torch_weights(checkpoint: Path, kind: str = "") -> dict[str, np.ndarray]:
    """Returns the weights in a checkpoint, by torch's names and in torch's layout.

    Args:
        kind: see `flaxzoo.checkpoint.read_weights`.
    """
    arrays = read_weights(checkpoint, kind)
    return {torch_name(key): to_torch_layout(key, value) for key, value in arrays.items()}
