"""Fits weights to a model before they are loaded: names, classes, channels, positions.

What a file needs stands beside the model, as facts (see `flaxzoo.models.base.Classifier`): old
names, timm's names, which convolution comes first, which layers are heads. Nothing here is done
silently: `Loaded` says what was.
"""

import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from flaxzoo.errors import UserError
from flaxzoo.json_text import parse_json
from flaxzoo.layers import BatchNorm

NAMINGS = ("auto", "own", "timm")

Weights = dict[str, np.ndarray]  # by torch's names, in torch's layout
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Loaded:
    """What `load_torch` did beside taking each weight as it is; names are torch's.

    Attributes:
        kept: heads that the model keeps, since the file's have another number of classes.
        adapted: what was changed to fit: the first convolution, to other channels.
        ignored: what the file has and this model does without: heads.
        naming: whose names the file had, "own" or "timm".
    """

    kept: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    naming: str = "own"

    def __str__(self) -> str:
        parts = (
            listed("not loaded, of another number of classes", self.kept),
            listed("adapted to the channels", self.adapted),
            listed("ignored, which this model does without", self.ignored),
        )
        return "; ".join(filter(None, parts)) or "everything loaded"


def listed(what: str, items: list[str] | tuple[str, ...], most: int = 8) -> str:
    """Returns "2 missing: a, b", or nothing where there are none."""
    if not items:
        return ""
    more = f", ... and {len(items) - most} more" if len(items) > most else ""
    return f"{len(items)} {what}: {', '.join(items[:most])}{more}"


def fit(
    model: nnx.Module, weights: Weights, shapes: Shapes, *, adapt: bool, naming: str
) -> tuple[Weights, Loaded]:
    """Returns the weights under the model's names, and what was done to them.

    Args:
        shapes: what the model takes, by torch's names.
        adapt, naming: see `flaxzoo.load_torch`.
    """
    names, naming = renaming(model, weights, shapes, naming)
    weights = {names[key]: value for key, value in weights.items()}
    if naming == "timm":
        # timm has convolutions where torchvision has linear layers, with the same values.
        weights = {
            key: value.reshape(len(value), -1)
            if value.ndim == 4 and len(shapes.get(key, ())) == 2
            else value
            for key, value in weights.items()
        }
    if adapt_weights := getattr(model, "adapt_weights", None):
        weights = adapt_weights(weights)
    optional = getattr(model, "optional", ())
    if getattr(model, "num_classes", None) == 0:
        optional = (*optional, *getattr(model, "head_names", ()))
    unneeded = tuple(f"{part}." for part in optional)
    ignored = sorted(k for k in weights if k not in shapes and unneeded and k.startswith(unneeded))
    weights = {key: value for key, value in weights.items() if key not in ignored}
    adapted, kept = [], []
    if adapt:
        adapted = _adapt_channels(model, weights, shapes)
        kept = _pop_other_classes(model, weights, shapes)
    return weights, Loaded(tuple(kept), tuple(adapted), tuple(ignored), naming)


def set_eps(model: nnx.Module, naming: str) -> None:
    """Gives the batch normalisation of `model` the eps of those who trained the weights.

    That is timm's where the weights are timm's, and the model's own where they follow such.
    """
    timm_eps = getattr(model, "timm_eps", None)
    if timm_eps is None:
        return
    for _, layer in nnx.iter_graph(model):
        if isinstance(layer, BatchNorm):
            if naming == "timm":
                layer.eps = timm_eps
            elif layer.eps == timm_eps:
                layer.eps = layer.own_eps


def check_padding(source: str, naming: str) -> None:
    """Refuses weights of timm's `tf_*` models, which have the same names and shapes as others.

    Only where they come from tells: the name of the file, of a folder of the hub's cache
    (`models--timm--tf_efficientnet_b0.in1k`), or the architecture in `config.json` beside it.

    Raises:
        UserError: they are such.
    """
    if naming != "timm":
        return
    path = Path(source)
    if any(re.match(r"(models--timm--)?tf_(efficient|mobile)net", part) for part in path.parts):
        found = "its name says"
    elif _architecture(path.with_name("config.json")).startswith("tf_"):
        found = "config.json beside it says"
    else:
        return
    raise UserError(
        f"{source} is of one of timm's tf_* models, {found}: they pad as TensorFlow does, and with "
        "their weights this model would be another function; use those of the model without tf_."
    )


def _architecture(config: Path) -> str:
    """Returns what timm's config file says, or nothing where there is no such file."""
    try:
        content = parse_json(config.read_text())
    except (OSError, ValueError):
        return ""
    return str(content.get("architecture", "")) if isinstance(content, dict) else ""


def renaming(
    model: nnx.Module, keys: Iterable[str], wanted: Container[str], naming: str
) -> tuple[dict[str, str], str]:
    """Returns today's names of the keys of a file, and whose names they are, "own" or "timm".

    Args:
        wanted: torch's names of what the model takes.
        naming: see `flaxzoo.load_torch`.
    """
    keys = list(keys)
    own = {key: _substituted(key, getattr(model, "old_names", ())) for key in keys}
    modules = getattr(model, "timm_keys", dict)()
    patterns = getattr(model, "timm_names", ())
    if naming == "own" or not (modules or patterns):
        return own, "own"
    timm = {}
    for key in keys:
        module, _, leaf = key.rpartition(".")
        timm[key] = _substituted(f"{modules.get(module, module)}.{leaf}".lstrip("."), patterns)
    known = [len({name for name in names.values() if name in wanted}) for names in (own, timm)]
    return (timm, "timm") if naming == "timm" or known[1] > known[0] else (own, "own")


def _substituted(key: str, patterns: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in patterns:
        key = re.sub(pattern, replacement, key)
    return key


def _adapt_channels(model: nnx.Module, weights: Weights, shapes: Shapes) -> list[str]:
    """Fits the first convolution of three channels, in place, as timm does.

    One channel gets the sum of the three; other numbers get them in turn, times 3 / channels. Where
    that is a multiple of three, an image of equal channels gives the response that it gave.
    """
    key = f"{getattr(model, 'first_conv', '')}.weight"
    kernel = weights.get(key)
    if kernel is None or key not in shapes or kernel.ndim != 4 or kernel.shape[1] != 3:
        return []
    channels = shapes[key][1]
    if channels == 3:
        return []
    kernel = kernel.astype(np.promote_types(kernel.dtype, np.float32))
    if channels == 1:
        weights[key] = kernel.sum(1, keepdims=True)
    else:
        repeated = np.tile(kernel, (1, math.ceil(channels / 3), 1, 1))[:, :channels]
        weights[key] = repeated * (3 / channels)
    return [key]


def _pop_other_classes(model: nnx.Module, weights: Weights, shapes: Shapes) -> list[str]:
    """Takes out, in place, the heads that differ from the model's in their outputs alone."""
    heads = getattr(model, "head_names", ())
    keys = [f"{head}.{leaf}" for head in heads for leaf in ("weight", "bias")]
    kept = [
        key
        for key in keys
        if key in weights
        and key in shapes
        and weights[key].shape != shapes[key]
        and weights[key].shape[1:] == shapes[key][1:]
    ]
    for key in kept:
        del weights[key]
    return kept


def numbers_of(model: Any, weights: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Returns the length of the logits and the channels of the images that weights are made for.

    Where they lack a head or the first convolution, those of `model`.

    Args:
        weights: by the names of `model`, in torch's layout.
    """
    heads = (weights.get(f"{head}.weight") for head in model.head_names)
    head = next((value for value in heads if value is not None and value.ndim >= 2), None)
    stem = weights.get(f"{model.first_conv}.weight")
    classes = model.num_classes if head is None or not len(head) else len(head)
    channels = stem.shape[1] if stem is not None and stem.ndim == 4 else model.in_channels
    return classes, channels or model.in_channels
