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
    """What the device does to training images, inside the step: see flaxzoo.augment.

    `python -m flaxzoo augmentations` draws what each does. Where torchvision or timm has an
    augmentation, it is theirs: RandomResizedCrop, ColorJitter, RandAugment, TrivialAugmentWide,
    AutoAugment and RandomErasing of torchvision, Mixup of timm.
    """

    flip: bool = False  # mirror half of the images, left to right
    vertical_flip: bool = False  # turn half of them upside down
    shift: int = 0  # pad by so many pixels and crop back at random (He et al. 2015, section 4.2)
    # A random box is enlarged to the size of the image: its share of the area, () for none, and its
    # width / height. Images from files have that on the host, before they lose pixels: data.crop.
    crop_scale: tuple[float, ...] = ()
    crop_ratio: tuple[float, ...] = (3 / 4, 4 / 3)
    brightness: float = 0.0  # factors from 1 - brightness to 1 + brightness
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # turns from -hue to hue of the circle, at most 0.5
    policy: str = ""  # one of POLICIES, or none
    policy_ops: int = 2  # RandAugment's operations on an image
    policy_magnitude: int = 9  # and how strong they are, 0 to 30
    mixup: float = 0.0  # alpha of Beta(alpha, alpha), from which shares are drawn; 0 for none
    cutmix: float = 0.0  # likewise; 1 is the paper's
    mix_prob: float = 1.0  # of mixing at all
    mix_switch_prob: float = 0.5  # of CutMix, where mixup is on as well
    mix_mode: str = "batch"  # one draw for the batch, a "pair" or each image: "elem"
    erase: float = 0.0  # probability that a random box is erased
    erase_value: str = "mean"  # what is there then, or "random": normal noise
    erase_scale: tuple[float, ...] = (0.02, 0.33)  # the box's share of the area
    erase_ratio: tuple[float, ...] = (0.3, 3.3)  # its height / width
    # When colours, policies, mixing and erasing stop: "90%", "280 epochs", or "" for never. Flips,
    # shifts and crops go on.
    off: str = ""


POLICIES = (
    "randaugment",
    "trivialaugment",
    "autoaugment_imagenet",
    "autoaugment_cifar10",
    "autoaugment_svhn",
)


@dataclass(slots=True, kw_only=True)
class ModelConfig:
    """The arguments of flaxzoo.create_model."""

    name: str = "resnet18"
    stem: str = ""  # "imagenet" or "cifar"; "" for the variant's own
    num_classes: int = 0  # 0 takes it from the data
    pretrained: str = ""  # a file of weights with torch's names


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
    batch_size: int = 128  # over all devices
    duration: str = "30 epochs"
    label_smoothing: float = 0.0
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
    if config.augment.crop_scale and config.data.crop == "random_resized":
        raise UserError(
            "config.data.crop='random_resized' already cuts random boxes, on the host: "
            f"leave config.augment.crop_scale empty; got {config.augment.crop_scale}."
        )


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return names.__contains__, " or ".join(names)


def _from(low: int, below: int | None = None) -> tuple[Callable[[Any], bool], str]:
    if below is None:
        return (lambda value: value >= low), f"{low} or more"
    return (lambda value: low <= value < below), f"from {low} up to, not including, {below}"


def _within(low: float | int, high: float | int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: low <= value <= high), f"from {low} to {high}"


def _or_none(limit: tuple[Callable[[Any], bool], str]) -> tuple[Callable[[Any], bool], str]:
    """Allows () or "" as well."""
    valid, expected = limit
    return (lambda value: not value or valid(value)), f"{expected}, or empty"


def _range_within(low: int, high: int) -> tuple[Callable[[Any], bool], str]:
    """Two numbers in order, the first above `low`."""

    def valid(value: tuple[float, ...]) -> bool:
        return len(value) == 2 and low < value[0] <= value[1] <= high

    return valid, f"two numbers, the smaller first, above {low} and at most {high}"


_POSITIVE = (lambda value: value > 0), "positive"

# What a field may hold besides what its type says.
LIMITS: list[tuple[str, Callable[[Any], bool], str]] = [
    ("seed", *_from(0, 2**32)),
    ("batch_size", *_from(1)),
    ("label_smoothing", *_from(0, 1)),
    ("dtype", *_one_of("auto", "float32", "bfloat16")),
    ("parallel", *_one_of("jit", "pmap")),
    ("data.image_size", *_from(0)),
    ("data.resize", *_from(0)),
    ("data.crop", *_one_of("resize", "center", "random_resized")),
    ("data.validation", *_from(0, 1)),
    ("data.std", lambda std: all(s > 0 for s in std), "positive"),
    ("data.workers", *_from(0)),
    ("data.on_error", *_one_of("raise", "skip")),
    ("augment.shift", *_from(0)),
    ("augment.crop_scale", *_or_none(_range_within(0, 1))),
    ("augment.crop_ratio", *_range_within(0, 100)),
    ("augment.brightness", *_from(0)),
    ("augment.contrast", *_from(0)),
    ("augment.saturation", *_from(0)),
    ("augment.hue", *_within(0, 0.5)),
    ("augment.policy", *_or_none(_one_of(*POLICIES))),
    ("augment.policy_ops", *_from(1)),
    ("augment.policy_magnitude", *_within(0, 30)),
    ("augment.mixup", *_from(0)),
    ("augment.cutmix", *_from(0)),
    ("augment.mix_prob", *_within(0, 1)),
    ("augment.mix_switch_prob", *_within(0, 1)),
    ("augment.mix_mode", *_one_of("batch", "pair", "elem")),
    ("augment.erase", *_within(0, 1)),
    ("augment.erase_value", *_one_of("mean", "random")),
    ("augment.erase_scale", *_range_within(0, 1)),
    ("augment.erase_ratio", *_range_within(0, 100)),
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
