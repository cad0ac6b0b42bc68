"""A model in a folder: config.json says which it is, model.safetensors has its weights.

In the manner of the Hugging Face hub. The weights have torch's names and layouts, so that the torch
twin loads them as they are; the config has what they cannot say, down to how images are prepared.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flaxzoo.adaptation import set_eps
from flaxzoo.arguments import integer, nearby, path
from flaxzoo.convert import load_torch, to_torch
from flaxzoo.errors import UserError, shown, unknown
from flaxzoo.json_text import parse_json
from flaxzoo.layers import BatchNorm
from flaxzoo.models import VARIANTS, create_model
from flaxzoo.models.base import Classifier
from flaxzoo.models.info import PREPARATION
from flaxzoo.version import __version__
from flaxzoo.weight_files import read_state_dict
from flaxzoo.weight_writing import staged_state_dict, written

if TYPE_CHECKING:
    from flaxzoo.data.transforms import Preparation
    from flaxzoo.models.info import Weights
    from flaxzoo.sources import Source

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_MARK = "flaxzoo_version"  # the key by which config.json is known as ours
_TYPES = {
    "model": str, "num_classes": int, "in_channels": int, "options": dict, "eps": str,
    "classes": list, "preparation": dict,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SavedConfig:
    """What config.json holds.

    Attributes:
        model: the variant.
        num_classes, in_channels: as `create_model` takes them.
        options: the others that it took.
        eps: of batch normalisation: "own", or "timm" where the weights were trained with timm's.
        classes: their names in the order of the logits, or none.
        preparation: how images are prepared, by the names of `flaxzoo.models.info.PREPARATION`; {}
            where that is not known. `flaxzoo.data.transforms.Preparation(**...)` takes it.
    """

    model: str
    num_classes: int
    in_channels: int
    options: dict[str, Any] = field(default_factory=dict)
    eps: str = "own"
    classes: tuple[str, ...] = ()
    preparation: dict[str, Any] = field(default_factory=dict)


def save_pretrained(
    model: Classifier | object,  # "| object" where a slip is answered with a UserError
    folder: str | Path | object,
    *,
    classes: Iterable[str] | object = (),
    preparation: "Mapping[str, Any] | Weights | Preparation | object | None" = None,
) -> Path:
    """Writes a model of `create_model` to a folder, and returns the folder.

    Both files are written beside their places first; a save that is cut short leaves either what
    was there before, or a folder that is told to be incomplete. Other files there stay.

    Args:
        classes: their names, in the order of the logits.
        preparation: of images: what `model_info(...).weights` or `transforms.evaluation` give, or a
            dict of image_size, resize, interpolation, mean and std.

    Raises:
        UserError: the model was not made by `create_model` or has no values, the classes are of
            another number, the preparation lacks something, or the folder cannot be written or
            holds another program's config.json.
    """
    target = path("folder", folder)
    config = config_of(model, classes=classes, preparation=preparation)
    weights = to_torch(cast(Classifier, model))
    if any(isinstance(value, jax.ShapeDtypeStruct) for value in weights.values()):
        raise UserError("this model has no values to save: create it without abstract=True.")
    return write_saved(target, config, weights)


def write_saved(folder: Path, config: SavedConfig, weights: Mapping[str, np.ndarray]) -> Path:
    """Writes a folder as `save_pretrained` does, of weights by torch's names.

    Raises:
        UserError: see `save_pretrained`.
    """
    folder = folder.expanduser()
    file = folder / CONFIG_FILE
    if file.exists() and not is_saved(folder):
        raise UserError(
            f"{file} is not of a saved model; it stays, so take another folder to save to."
        )
    values = {_MARK: __version__} | {f.name: getattr(config, f.name) for f in fields(config)}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}.") from error
    metadata = getattr(weights, "_metadata", None)
    with written(file) as part:
        part.write_text(text, "utf-8")
        with staged_state_dict(folder / WEIGHTS_FILE, weights, metadata):
            # Until the new one takes its place there is no config: none ever stands beside the
            # weights of another model.
            file.unlink(missing_ok=True)
    return folder


def from_pretrained(
    folder: str | Path | object,
    *,
    dtype: DTypeLike | object = jnp.float32,
    param_dtype: DTypeLike | object = jnp.float32,
) -> Classifier:
    """Returns the model in a folder of `save_pretrained`, in evaluation mode.

    `read_config` tells its classes and how images are prepared. For other classes or channels, take
    `create_model(name, pretrained=folder, num_classes=...)`.

    Args:
        dtype, param_dtype: see `create_model`.

    Raises:
        UserError: the folder is none of save_pretrained, incomplete or damaged.
    """
    folder = path("folder", folder)
    config, weights = read_config(folder), _read_weights(folder)
    model = create_model(
        config.model, num_classes=config.num_classes, in_channels=config.in_channels,
        dtype=dtype, param_dtype=param_dtype, abstract=True, **config.options,
    )  # fmt: skip
    load_torch(model, weights, naming="own", source_name=str(folder / WEIGHTS_FILE))
    set_eps(model, config.eps)
    model.eval()
    return model


def is_saved(folder: Path) -> bool:
    """Returns whether `folder` is one of save_pretrained, by its config.json."""
    try:
        content = parse_json((folder / CONFIG_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and _MARK in content


def read_config(folder: str | Path) -> SavedConfig:
    """Returns what the config.json of a folder of `save_pretrained` says.

    Raises:
        UserError: there is none, it is not ours, or it is damaged.
    """
    from flaxzoo.sources import read_json

    folder = Path(folder).expanduser()
    file = folder / CONFIG_FILE
    if not folder.is_dir():
        what = ", but a file." if folder.exists() else nearby(folder)
        raise UserError(f"{folder} is no folder of a saved model{what}")
    if not file.is_file():
        held = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise UserError(
            f"{folder} is no saved model, or an incomplete one: it has no {CONFIG_FILE}; "
            f"it holds {held}."
        )
    saved = read_json(file)
    if saved.pop(_MARK, None) is None:
        held = ", ".join(sorted(saved)[:8]) or "nothing"
        raise UserError(
            f"{file} was not written by flaxzoo.save_pretrained: it holds {held}; load weights of "
            "others with create_model(NAME, pretrained=FILE)."
        )
    odd = [f"no {key}" for key in _TYPES if key not in saved]
    odd += [f"{key}={v!r}" for key, v in saved.items() if type(v) is not _TYPES.get(key)]
    if odd:
        raise UserError(f"{file} is damaged: it has {', '.join(odd[:8])}.")
    values: dict[str, Any] = saved | {"classes": tuple(map(str, saved["classes"]))}
    try:
        return _checked(SavedConfig(**values))
    except UserError as error:
        raise UserError(f"{file} is damaged: {error}") from None


def read_saved(folder: Path) -> "Source":
    """Returns the weights in a folder of `save_pretrained`, and what is known of their model.

    Raises:
        UserError: see `from_pretrained`.
    """
    from flaxzoo.sources import Source

    config = read_config(folder)
    return Source(
        path=str(folder / WEIGHTS_FILE),
        weights=_read_weights(folder),
        naming=config.eps,
        model=config.model,
        options=config.options,
        classes=config.classes,
        num_classes=config.num_classes,
    )


def eps_of(model: nnx.Module) -> str:
    """Returns whose eps the batch normalisation of `model` has, "own" or "timm": see `set_eps`."""
    timm_eps = getattr(model, "timm_eps", None)
    layers = (node for _, node in nnx.iter_graph(model) if isinstance(node, BatchNorm))
    return "timm" if any(layer.eps == timm_eps != layer.own_eps for layer in layers) else "own"


def config_of(
    model: object,
    *,
    classes: Iterable[str] | object = (),
    preparation: "Mapping[str, Any] | Weights | Preparation | object | None" = None,
) -> SavedConfig:
    """Returns the config of a model, with or without values; see `save_pretrained`.

    Raises:
        UserError: the same, except for what is about the folder.
    """
    if not isinstance(model, Classifier) or model.variant not in VARIANTS:
        raise UserError(
            "save_pretrained takes a model that flaxzoo.create_model made; "
            f"got a {type(model).__name__}."
        )
    config = SavedConfig(
        model=model.variant,
        num_classes=model.num_classes,
        in_channels=model.in_channels,
        options=dict(model.variant_options),
        eps=eps_of(model),
        classes=_names(classes),
        preparation=_preparation(preparation),
    )
    return _checked(config)


def _names(classes: object) -> tuple[str, ...]:
    """Returns the names of classes, which may be numbers; one string is no list of them."""
    if isinstance(classes, Iterable) and not isinstance(classes, str | bytes | Mapping):
        return tuple(map(str, classes))
    raise UserError(f"classes must be a list of names; got {shown(classes)}.")


def _preparation(given: Any) -> dict[str, Any]:
    """Returns the fields that say how images are prepared, from whatever has them; {} from None."""
    if given is None or (isinstance(given, Mapping) and not given):
        return {}
    values = given if isinstance(given, Mapping) else getattr(given, "__dict__", None)
    if values is None:
        raise UserError(
            f"a preparation of images is a dict of {', '.join(PREPARATION)}, or what "
            f"model_info(NAME).weights holds; got {shown(given)}."
        )
    found = {name: values[name] for name in PREPARATION if name in values}
    if len(found) < len(PREPARATION):
        raise UserError(
            f"a preparation of images says {', '.join(PREPARATION)}; got "
            f"{', '.join(map(str, values)) or 'a ' + type(given).__name__}."
        )
    found = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    for name in ("image_size", "resize"):
        integer(name, found[name], 1)
    for name in ("mean", "std"):
        numbers = found[name] if isinstance(found[name], tuple) else ()
        if not numbers or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise UserError(f"{name} is a number for each channel; got {shown(found[name])}.")
    if not isinstance(found["interpolation"], str):
        raise UserError(f"interpolation is a name; got {found['interpolation']!r}.")
    return found


def _checked(config: SavedConfig) -> SavedConfig:
    """Returns `config` with tuples for lists, if everything in it can be.

    Raises:
        UserError: there is no such variant, or a value cannot be.
    """
    if config.model not in VARIANTS:
        raise unknown("model", str(config.model), VARIANTS)
    classes = integer("num_classes", config.num_classes, 1)
    integer("in_channels", config.in_channels, 1)
    if config.eps not in ("own", "timm"):
        raise unknown("eps", str(config.eps), ("own", "timm"))
    if config.classes and len(config.classes) != classes:
        raise UserError(
            f"the model tells {classes} classes apart; got the names of {len(config.classes)}."
        )
    return replace(config, preparation=_preparation(config.preparation))


def _read_weights(folder: Path) -> Mapping[str, np.ndarray]:
    if not (folder / WEIGHTS_FILE).is_file():
        raise UserError(f"{folder} is incomplete: it has a {CONFIG_FILE} but no {WEIGHTS_FILE}.")
    return read_state_dict(folder / WEIGHTS_FILE)
