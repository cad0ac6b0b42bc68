"""Which values a config may have, and what its fields are called on the command line."""

import dataclasses
import difflib
import math
import operator
import types
import typing
from collections.abc import Callable
from typing import Any

from flaxzoo.config import POLICIES, Config
from flaxzoo.errors import UserError, shown


def check(config: Any) -> Config:
    """Returns the config; refuses values of the wrong type and values that no run can have.

    Raises:
        UserError: names the field as the command line does, what it holds and what it takes.
    """
    if not isinstance(config, Config):
        raise UserError(f"get_config must return a flaxzoo.config.Config; got {shown(config)}.")
    _check_types(config, "config")
    for name, valid, expected in LIMITS:
        value = operator.attrgetter(name)(config)
        if value is not None and not valid(value):
            raise UserError(f"config.{name} must be {expected}; got {shown(value)}.")
    if config.shard_params and config.parallel != "jit":
        raise UserError("config.shard_params needs config.parallel=jit.")
    if config.optimizer.nesterov and config.optimizer.momentum == 0:
        raise UserError("config.optimizer.nesterov needs config.optimizer.momentum above 0.")
    clippings = [c for c in ("norm", "value", "agc") if getattr(config.optimizer, f"clip_{c}")]
    if len(clippings) > 1:
        raise UserError(f"config.optimizer: one of clip_{' and clip_'.join(clippings)}, not both.")
    if config.model.freeze_norm and not config.init_from:
        raise UserError(
            "config.model.freeze_norm keeps the statistics of loaded weights: set config.init_from."
        )
    if config.data.sampling == "balanced" and config.class_weights != "none":
        raise UserError(
            "config.data.sampling='balanced' and config.class_weights="
            f"{config.class_weights!r} both make up for uneven classes: use one of them."
        )
    if config.augment.crop_scale and config.data.crop == "random_resized":
        raise UserError(
            "config.data.crop='random_resized' already cuts random boxes, on the host: "
            f"leave config.augment.crop_scale empty; got {config.augment.crop_scale}."
        )
    return config


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


_MOST_PIXELS = 2**16  # along a side: a JPEG has no more
_MOST = 2**31  # integers are counters of 32 bits
_SMALLEST, _GREATEST = 2.0**-126, 2.0**127  # normal numbers of float32
_POSITIVE = (lambda value: value > 0), "positive"

# What a field may hold besides what its type says, and besides None where that is allowed.
LIMITS: list[tuple[str, Callable[[Any], bool], str]] = [
    ("seed", *_from(0, 2**32)),
    ("batch_size", *_from(1)),
    ("accumulate", *_from(1)),
    ("loss", *_one_of("cross_entropy", "binary_cross_entropy")),
    ("label_smoothing", *_from(0, 1)),
    ("class_weights", *_one_of("none", "balanced", "effective")),
    ("dtype", *_one_of("auto", "float32", "bfloat16", "float16")),
    ("parallel", *_one_of("jit", "pmap")),
    ("batch_norm", *_one_of("global", "per_device")),
    ("data.image_size", *_from(0, _MOST_PIXELS)),
    ("data.train_sizes", lambda sizes: all(size > 0 for size in sizes), "positive"),
    ("data.crop", *_one_of("resize", "center", "random_resized")),
    ("data.sampling", *_one_of("shuffle", "balanced")),
    ("data.resize", *_from(0, _MOST_PIXELS)),
    ("data.interpolation", *_or_none(_one_of("bilinear", "bicubic"))),
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
    ("augment.policy_ops", *_within(1, 100)),
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
    ("model.norm_momentum", lambda m: 0 < m <= 1, "above 0 and at most 1"),
    ("optimizer.learning_rate", *_from(0)),
    ("optimizer.weight_decay", *_from(0)),
    ("optimizer.momentum", *_from(0, 1)),
    (
        "optimizer.betas",
        lambda b: len(b) == 2 and all(0 <= x < 1 for x in b),
        "two numbers of [0, 1)",
    ),
    ("optimizer.eps", *_POSITIVE),
    ("optimizer.alpha", *_from(0, 1)),
    ("optimizer.max_grad_norm", *_from(0)),
    ("optimizer.trust_coeff", *_POSITIVE),
    ("optimizer.decay_on", *_one_of("all", "weights")),
    ("optimizer.layer_decay", lambda decay: 0 < decay <= 1, "above 0 and at most 1"),
    ("optimizer.clip_norm", *_from(0)),
    ("optimizer.clip_value", *_from(0)),
    ("optimizer.clip_agc", *_from(0)),
    ("schedule.warmup_kind", *_one_of("linear", "constant")),
    ("schedule.warmup_factor", lambda value: 0 <= value <= 1, "from 0 to 1"),
    ("schedule.min_rate", *_from(0)),
    ("schedule.gamma", *_POSITIVE),
    ("schedule.growth", *_from(1)),
    ("schedule.power", *_POSITIVE),
    ("schedule.mode", *_one_of("triangular", "triangular2", "exp_range")),
    ("schedule.div_factor", *_from(1)),
    ("schedule.final_div_factor", *_POSITIVE),
    ("schedule.anneal", *_one_of("cos", "linear")),
    ("schedule.factor", *_from(0, 1)),
    ("schedule.patience", *_from(0)),
    ("schedule.threshold", *_from(0)),
    ("schedule.threshold_mode", *_one_of("rel", "abs")),
    ("schedule.cooldown", *_from(0)),
    ("schedule.eps", *_from(0)),
    ("ema.decay", *_from(0, 1)),
    ("sam.rho", *_from(0)),
    ("distill.weight", lambda weight: 0 < weight <= 1, "above 0 and at most 1"),
    ("distill.temperature", *_POSITIVE),
    ("checkpoint.minutes", *_from(0)),
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
    if isinstance(hint, types.UnionType):  # X | None
        if value is None:
            return None
        hint = next(h for h in typing.get_args(hint) if h is not types.NoneType)
    if typing.get_origin(hint) is tuple and isinstance(value, tuple | list):
        return tuple(_as_type(v, typing.get_args(hint)[0], f"{name}[{i}]")
                     for i, v in enumerate(value))  # fmt: skip
    if hint is float and type(value) is int:
        value = float(value) if abs(value) < _MOST**2 else math.inf
    if type(value) is not hint:
        expected = str(hint) if isinstance(hint, types.GenericAlias) else hint.__name__
        raise UserError(f"{name} must be of type {expected}; got {shown(value)}.")
    if hint is float and not math.isfinite(value):
        raise UserError(f"{name} must be a finite number; got {value!r}.")
    if hint is float and value and not _SMALLEST <= abs(value) <= _GREATEST:
        raise UserError(
            f"{name} must be 0 or from {_SMALLEST:.1g} to {_GREATEST:.1g}, as float32 has it; "
            f"got {value!r}."
        )
    if hint is int and abs(value) >= _MOST and name != "config.seed":
        raise UserError(f"{name} must be below {_MOST}; got {shown(value)}.")
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
