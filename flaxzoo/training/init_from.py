"""The model a run starts with: fresh, or with the weights that `config.init_from` names.

That is a file of weights, a run of ours, one of its checkpoints, or the name of published weights.
All go the way of `flaxzoo.load_torch`: by torch's names, strictly, with a new head for other
classes and an adapted first convolution for other channels.
"""

import ast
import dataclasses
import difflib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flaxzoo import pretrained
from flaxzoo.adaptation import set_eps
from flaxzoo.checkpoint import read_weights, saved_steps
from flaxzoo.config import Config, ModelConfig
from flaxzoo.convert import load_torch, to_torch_layout, torch_name
from flaxzoo.errors import UserError
from flaxzoo.layers import set_momentum
from flaxzoo.models import create_model, options_of, takes
from flaxzoo.models.base import Classifier
from flaxzoo.models.info import PREPARATION
from flaxzoo.training.run import class_difference, read_metrics, score
from flaxzoo.weight_files import read_state_dict

ORIGIN_FILE = "init.json"
WEIGHT_SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".tar", ".ckpt", ".th", ".npz")


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


def initial_model(
    config: Config, channels: int, dtype: str, origin: Origin | None = None
) -> tuple[Classifier, Origin | None]:
    """Returns the model of a run before its first step, and where its weights came from.

    Args:
        config: a resolved one: with the number of classes and the image size.
        origin: of a run that goes on from its checkpoint: nothing is loaded.

    Raises:
        UserError: there is no such model, or no such weights for it.
    """
    options = model_options(config)
    source = None
    if origin is None and config.init_from:
        source = _source(config.init_from, config.model)
        origin = Origin(config.init_from, source.path, source.options(config, channels))
    model = create_model(
        config.model.name,
        num_classes=config.model.num_classes,
        in_channels=channels,
        seed=config.seed,
        dtype=dtype,
        **((origin.options if origin else {}) | options),
    )
    if config.model.norm_momentum is not None:
        set_momentum(model, config.model.norm_momentum)
    if source is not None and origin is not None:
        origin = _load(model, source, origin)
    if origin is not None:
        set_eps(model, origin.naming)
    return model, origin


def model_options(config: Config) -> dict[str, Any]:
    """Returns what `create_model` gets besides classes and channels; it knows which there are.

    Raises:
        UserError: one of `config.model.options` is written otherwise, stands twice, or is set
            elsewhere.
    """
    options = {}
    for text in config.model.options:
        name, _, value = (part.strip() for part in text.partition("="))
        if name in _ELSEWHERE:
            raise UserError(f"config.model.options: {name} is {_ELSEWHERE[name]}; got {text!r}.")
        if name in options:
            raise UserError(f"config.model.options has {name} twice; got {config.model.options}.")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise UserError(
                "config.model.options are written NAME=VALUE, like 'dropout=0.1', with values of "
                f"Python, texts in quotes; got {text!r}."
            ) from None
    if config.model.stem:
        options["stem"] = config.model.stem
    if takes(config.model.name, "image_size"):
        options["image_size"] = config.data.image_size
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


def preparation_of(init_from: str, model: str) -> dict[str, Any]:
    """Returns the fields of DataConfig that say how images were prepared for certain weights.

    They are published, or those of the run that the weights are of; for a file of a name that is
    not published, those of the model's own weights. {} where nothing is known.

    Raises:
        UserError: `init_from` names no weights of that model.
    """
    path = Path(init_from).expanduser()
    if pretrained.is_name(init_from):
        weights = pretrained.choose(init_from, model)
    elif path.is_dir():
        file = workdir_of(path) / "config.json"
        saved = read_json(file) if file.exists() else {}
        before = preparation_of(saved["init_from"], model) if saved.get("init_from") else {}
        values = {name: saved.get("data", {}).get(name) for name in PREPARATION}
        return before | {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items() if value
        }  # fmt: skip
    else:
        weights = pretrained.of_file(path.name, model)
    return weights.preparation if weights else {}


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


@dataclass(frozen=True)
class _Source:
    """Weights by torch's names.

    Attributes:
        metadata: what torch keeps beside them in a file; None for those of a run.
        run: where the run that they are of had its own first weights from.
        hint: ends the message of weights that do not fit.
    """

    path: str
    weights: Mapping[str, np.ndarray]
    metadata: Mapping[str, Any] | None = None
    run: Origin | None = None
    hint: str = ""

    def options(self, config: Config, channels: int) -> dict[str, Any]:
        """Returns the options of the model that these weights decide."""
        if self.metadata is None:
            options = dict(self.run.options) if self.run else {}
            if channels != 3:
                options.pop("transform_input", None)
            return options
        return options_of(config.model.name, self.weights, self.metadata, channels)


def _load(model: Classifier, source: _Source, origin: Origin) -> Origin:
    """Fills `model`; returns `origin` with what came of it."""
    ours = source.metadata is None
    try:
        loaded = load_torch(
            model,
            source.weights,
            adapt=True,
            naming="own" if ours else "auto",
            source_name=source.path,
        )
    except UserError as error:
        raise UserError(f"{error}{source.hint}") from None
    naming = (source.run.naming if source.run else "own") if ours else loaded.naming
    return dataclasses.replace(origin, naming=naming, loaded=str(loaded))


def _source(init_from: str, model: ModelConfig) -> _Source:
    path = Path(init_from).expanduser()
    if pretrained.is_name(init_from):  # whatever lies here under that name: ./resnet50 is a path
        path = pretrained.find(init_from, model.name)
    elif path.is_dir():
        return _run_source(path, model)
    elif not path.exists():
        if "/" in init_from or path.suffix.lower() in WEIGHT_SUFFIXES:
            raise _no_such(path)
        pretrained.choose(init_from, model.name)  # raises, with the nearest names
    weights = read_state_dict(path)
    return _Source(str(path), weights, weights.metadata)


def _no_such(path: Path) -> UserError:
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = [repr(str(path.parent / n)) for n in difflib.get_close_matches(path.name, siblings, 3)]
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return UserError(f"config.init_from: there is no file or folder {str(path)!r}{hint}")


def _run_source(path: Path, model: ModelConfig) -> _Source:
    """Reads the best checkpoint of a run, or the one that `path` is."""
    workdir = workdir_of(path)
    one = workdir == path.absolute().parent.parent
    checkpoint = path if one else best_checkpoint(path, workdir)
    config = read_json(workdir / "config.json") if (workdir / "config.json").exists() else {}
    saved = config.get("model") or {}
    name = saved.get("name", model.name)
    if name != model.name:
        raise UserError(
            f"{workdir} is a run of {name}, but the model is {model.name}: "
            f"set config.model.name={name}, or start from other weights."
        )
    now = {"stem": model.stem, "options": list(model.options)}
    differing = [
        f"config.model.{field}={saved[field]!r}, this one {value!r}"
        for field, value in now.items()
        if saved.get(field, value) != value
    ]
    arrays = read_weights(checkpoint)
    return _Source(
        path=str(checkpoint),
        weights={torch_name(key): to_torch_layout(key, value) for key, value in arrays.items()},
        run=origin_of(workdir, config.get("init_from", "")),
        hint=f"; that run has {'; '.join(differing)}" if differing else "",
    )


def warn_of_other_classes(init_from: str, classes: Sequence[str], source: str) -> None:
    """Says in the log where a run starts from one of as many, but other classes.

    Its head fits, and is taken as it is: that may be meant, and may be a mistake.
    """
    path = Path(init_from).expanduser()
    if pretrained.is_name(init_from) or not path.is_dir():
        return
    difference = class_difference(workdir_of(path), classes, source)
    if difference and difference.same_number:
        logging.getLogger("flaxzoo").warning("config.init_from: %s Its head is kept.", difference)


def workdir_of(path: Path) -> Path:
    """Returns the folder of the run that `path` is, or is the checkpoints or a checkpoint of."""
    whole = path.absolute()
    if whole.name.isdigit() and whole.parent.name == "checkpoints":
        return whole.parent.parent
    return whole.parent if whole.name == "checkpoints" else path


def best_checkpoint(path: Path, workdir: Path) -> Path:
    """Returns the run's checkpoint of the best validation accuracy, or the latest without any.

    Args:
        path: what was asked for, the run's folder or that of its checkpoints.

    Raises:
        UserError: it has none.
    """
    steps = saved_steps(workdir / "checkpoints")
    if not steps:
        held = sorted(p.name for p in path.iterdir())
        raise UserError(
            f"{path} has no checkpoint; expected the folder of a run, one of its "
            f"checkpoints/STEP, or a file of weights; it holds {', '.join(held[:8]) or 'nothing'}."
        )
    metrics = workdir / "metrics.jsonl"
    rows = read_metrics(metrics) if metrics.exists() else ()
    scores = {row["step"]: reached for row in rows if (reached := score(row)) is not None}
    best = max(steps, key=lambda step: (scores.get(step, -1.0), step))
    return workdir / "checkpoints" / str(best)


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a file of a run.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no object.")
    return content
