"""What a run is: typed dataclasses that a config file fills and the command line overrides.

Every field can be set as `--config.field=value` or `--config.group.field=value`. The classes have
slots, so a misspelt name is an error wherever it is written.
"""

import dataclasses
import difflib
import math
import operator
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flaxzoo.errors import UserError


@dataclass(slots=True, kw_only=True)
class DataConfig:
    """What is read, and what the host does to it before the device gets it as uint8."""

    source: str = "digits"  # digits, cifar10, ..., folder=PATH, npz=PATH, tfds=NAME (flaxzoo.data)
    image_size: int = (
        0  # height and width that the model sees; 0 for the larger side of stored arrays
    )
    crop: str = "resize"  # training crops of streamed images: resize, center or random_resized
    sampling: str = "shuffle"  # each image once an epoch; or "balanced": each class equally often
    resize: int = 0  # evaluation: short side before the centre crop; 0 for image_size / 0.875
    validation: float = 0.1  # fraction of the training split held out to validate on
    mean: tuple[float, ...] = (0.5,)  # of pixels in 0..1, one number or one a channel
    std: tuple[float, ...] = (0.5,)
    data_dir: str = ""  # where archives and prepared sets lie; "" for the user's cache folder
    workers: int = 0  # processes that decode streamed images; 0 decodes in threads
    on_error: str = "raise"  # an unreadable image stops the run, or "skip"


# Mean and standard deviation of the training pixels in 0..1, by channel.
PIXEL_STATISTICS = {
    "digits": ((0.305,), (0.376,)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet2012": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def data_config(source: str, **fields: Any) -> DataConfig:
    """Returns the DataConfig of a source; pixels are normalised with its own statistics, if known.

    Images from folders and TFDS get ImageNet's, as photographs do everywhere; arrays get 0.5.
    """
    kind = source.partition("=")[0]
    kind = "imagenet2012" if kind in ("folder", "tfds") else kind
    mean, std = PIXEL_STATISTICS.get(kind, ((0.5,), (0.5,)))
    return DataConfig(source=source, **{"mean": mean, "std": std} | fields)


@dataclass(slots=True, kw_only=True)
class AugmentConfig:
    """What the device does to training images, inside the step."""

    flip: bool = False  # mirror half of the images
    shift: int = 0  # pad by so many pixels and crop back at random (He et al. 2015, section 4.2)


@dataclass(slots=True, kw_only=True)
class ModelConfig:
    """The arguments of flaxzoo.create_model."""

    name: str = "resnet18"
    stem: str = ""  # "imagenet" or "cifar"; "" for the variant's own
    num_classes: int = 0  # 0 takes it from the data
    freeze_norm: bool = False  # batch normalisation keeps and uses the statistics of `init_from`


@dataclass(slots=True, kw_only=True)
class OptimizerConfig:
    """One of flaxzoo.training.optimizer.OPTIMIZERS, in torch's terms."""

    name: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4  # on every parameter, as torch does


@dataclass(slots=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the run: see flaxzoo.training.schedule.make_schedule."""

    name: str = "cosine"  # constant, cosine or multistep
    warmup: str = "0 steps"
    milestones: tuple[str, ...] = ()
    gamma: float = 0.1


@dataclass(slots=True, kw_only=True)
class CheckpointConfig:
    """How often checkpoints are written, and how many stay."""

    every: str = "1 epochs"
    keep: int = 2  # the latest so many, besides the best by validation accuracy


@dataclass(slots=True, kw_only=True)
class Config:
    """One run. Durations are written with their unit: "30 epochs", "500 steps", "5%"."""

    seed: int = 0
    init_from: str = ""  # weights to start from: a file, a run's folder, or a published name
    batch_size: int = 128  # over all devices
    duration: str = "30 epochs"
    label_smoothing: float = 0.0
    class_weights: str = "none"  # of the loss: see flaxzoo.class_weights
    dtype: str = "auto"  # float32, bfloat16, or auto: bfloat16 on TPU and GPU
    parallel: str = "jit"  # one program over a mesh of all devices, or "pmap"
    eval_every: str = "1 epochs"
    log_every: str = "10 steps"
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)


def check(config: Any) -> None:
    """Refuses values of the wrong type and values that no run can have.

    Raises:
        UserError: names the field as the command line does, what it holds and what it takes.
    """
    if not isinstance(config, Config):
        raise UserError(
            f"get_config must return a flaxzoo.config.Config; got {type(config).__name__}."
        )
    _check_types(config, "config")
    for name, valid, expected in LIMITS:
        value = operator.attrgetter(name)(config)
        if not valid(value):
            raise UserError(f"config.{name} must be {expected}; got {value!r}.")
    if config.optimizer.nesterov and not config.optimizer.momentum:
        raise UserError("config.optimizer.nesterov needs config.optimizer.momentum above 0.")
    if config.model.freeze_norm and not config.init_from:
        raise UserError(
            "config.model.freeze_norm keeps the statistics of loaded weights: set config.init_from."
        )
    if config.data.sampling == "balanced" and config.class_weights != "none":
        raise UserError(
            "config.data.sampling='balanced' and config.class_weights="
            f"{config.class_weights!r} both make up for uneven classes: use one of them."
        )


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return names.__contains__, " or ".join(names)


def _from(low: int, below: int | None = None) -> tuple[Callable[[Any], bool], str]:
    if below is None:
        return (lambda value: value >= low), f"{low} or more"
    return (lambda value: low <= value < below), f"from {low} up to, not including, {below}"


_POSITIVE = (lambda value: value > 0), "positive"

# What a field may hold besides what its type says.
LIMITS: list[tuple[str, Callable[[Any], bool], str]] = [
    ("seed", *_from(0, 2**32)),
    ("batch_size", *_from(1)),
    ("label_smoothing", *_from(0, 1)),
    ("class_weights", *_one_of("none", "balanced", "effective")),
    ("dtype", *_one_of("auto", "float32", "bfloat16")),
    ("parallel", *_one_of("jit", "pmap")),
    ("data.image_size", *_from(0)),
    ("data.resize", *_from(0)),
    ("data.crop", *_one_of("resize", "center", "random_resized")),
    ("data.validation", *_from(0, 1)),
    ("data.sampling", *_one_of("shuffle", "balanced")),
    ("data.std", lambda std: all(s > 0 for s in std), "positive"),
    ("data.workers", *_from(0)),
    ("data.on_error", *_one_of("raise", "skip")),
    ("augment.shift", *_from(0)),
    ("model.num_classes", *_from(0)),
    ("optimizer.learning_rate", *_from(0)),
    ("optimizer.momentum", *_from(0, 1)),
    ("optimizer.weight_decay", *_from(0)),
    ("schedule.gamma", *_POSITIVE),
    ("checkpoint.keep", *_from(1)),
]


def _check_types(config: Any, prefix: str) -> None:
    hints = typing.get_type_hints(type(config))
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), f"{prefix}.{f.name}"
        if dataclasses.is_dataclass(hints[f.name]):
            if not isinstance(value, hints[f.name]):
                raise UserError(f"{name} must be a {hints[f.name].__name__}; got {value!r}.")
            _check_types(value, name)
        else:
            setattr(config, f.name, _as_type(value, hints[f.name], name))


def _as_type(value: Any, hint: Any, name: str) -> Any:
    """Returns `value` if it is of the type; an int may stand for a float, a list for a tuple."""
    if typing.get_origin(hint) is tuple and isinstance(value, tuple | list):
        return tuple(_as_type(v, typing.get_args(hint)[0], f"{name}[{i}]")
                     for i, v in enumerate(value))  # fmt: skip
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        expected = str(hint) if isinstance(hint, types.GenericAlias) else hint.__name__
        raise UserError(f"{name} must be of type {expected}; got {value!r}.")
    if hint is float and not math.isfinite(value):
        raise UserError(f"{name} must be a finite number; got {value!r}.")
    return value


def field_names(config_type: type = Config, prefix: str = "") -> list[str]:
    """Returns every settable name, dotted: ["seed", "batch_size", ..., "data.source", ...]."""
    names = []
    hints = typing.get_type_hints(config_type)
    for f in dataclasses.fields(config_type):
        if dataclasses.is_dataclass(hints[f.name]):
            names += field_names(hints[f.name], f"{prefix}{f.name}.")
        else:
            names.append(prefix + f.name)
    return names


def nearest_fields(name: str) -> list[str]:
    """Returns the settable names nearest to a misspelt one, dotted or not."""
    names = field_names()
    leaf = name.rpartition(".")[2]
    near = difflib.get_close_matches(name, names, 3) or [
        n for n in names
        if n.rpartition(".")[2] in difflib.get_close_matches(
            leaf, {n.rpartition(".")[2] for n in names}, 3)
    ]  # fmt: skip
    return near[:3]
