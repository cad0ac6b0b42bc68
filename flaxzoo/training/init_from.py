"""The model a run starts with: fresh, or with the weights that `config.init_from` names.

Those go the way of `flaxzoo.load_torch`, wherever they are (flaxzoo.sources): by torch's names,
strictly, with a new head for other classes and an adapted first convolution for other channels.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaxzoo import pretrained
from flaxzoo.adaptation import set_eps
from flaxzoo.config import Config, ModelConfig
from flaxzoo.convert import load_torch
from flaxzoo.errors import UserError
from flaxzoo.layers import set_momentum
from flaxzoo.models import create_model, takes
from flaxzoo.models.base import Classifier
from flaxzoo.sources import Source, open_source
from flaxzoo.training.run import class_difference
from flaxzoo.training.saved_run import Origin, workdir_of, written_options


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
        source = open_source(config.init_from, config.model.name, "config.init_from")
        decided = source.decided(config.model.name, channels)
        origin = Origin(config.init_from, source.path, decided)
    model = _create(config, channels, dtype, (origin.options if origin else {}) | options)
    if source is not None and origin is not None:
        origin = _load(model, source, origin, config.model)
    if origin is not None:
        set_eps(model, origin.naming)
    return model, origin


def abstract_model(config: Config, channels: int, dtype: str) -> Classifier:
    """Returns the model of a run with shapes for values, whatever `config.init_from` names."""
    return _create(config, channels, dtype, model_options(config), abstract=True)


def _create(
    config: Config, channels: int, dtype: str, options: dict[str, Any], abstract: bool = False
) -> Classifier:
    model = create_model(
        config.model.name,
        num_classes=config.model.num_classes,
        in_channels=channels,
        seed=config.seed,
        dtype=dtype,
        abstract=abstract,
        **options,
    )
    if config.model.norm_momentum is not None:
        set_momentum(model, config.model.norm_momentum)
    return model


def model_options(config: Config) -> dict[str, Any]:
    """Returns what `create_model` gets besides classes and channels; it knows which there are.

    Raises:
        UserError: one of `config.model.options` is written otherwise, stands twice, or is set
            elsewhere.
    """
    options = written_options(config.model.options)
    if config.model.stem:
        options["stem"] = config.model.stem
    if takes(config.model.name, "image_size"):
        options["image_size"] = config.data.image_size
    return options


def _load(model: Classifier, source: Source, origin: Origin, wanted: ModelConfig) -> Origin:
    """Fills `model`; returns `origin` with what came of it."""
    try:
        loaded = load_torch(
            model, source.weights, adapt=True, naming=source.load_as, source_name=source.path
        )
    except UserError as error:
        raise UserError(f"{error}{_hint(source, wanted)}") from None
    naming = loaded.naming if source.naming == "auto" else source.naming
    return dataclasses.replace(origin, naming=naming, loaded=str(loaded))


def _hint(source: Source, wanted: ModelConfig) -> str:
    """Returns what may be why the weights of a run do not fit."""
    now = {"stem": wanted.stem, "options": list(wanted.options)}
    differing = [
        f"config.model.{field}={source.written[field]!r}, this one {value!r}"
        for field, value in now.items()
        if field in source.written and source.written[field] != value
    ]
    return f"; that run has {'; '.join(differing)}" if differing else ""


def warn_of_other_classes(config: Config, classes: Sequence[str], source: str) -> None:
    """Says in the log where a run starts from one of as many, but other classes.

    Its head fits, and is taken as it is: that may be meant, and may be a mistake.

    Args:
        source: what a message calls the data set.
    """
    path = Path(config.init_from).expanduser()
    if pretrained.is_name(config.init_from, config.model.name) or not path.is_dir():
        return
    difference = class_difference(workdir_of(path), classes, source)
    if difference and difference.same_number:
        logging.getLogger("flaxzoo").warning("config.init_from: %s Its head is kept.", difference)
