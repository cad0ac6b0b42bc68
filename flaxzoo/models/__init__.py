"""The registry: every variant of every family in one table, made by one function."""

import fnmatch
import inspect
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from flaxzoo import convert
from flaxzoo.adaptation import Loaded, set_eps
from flaxzoo.arguments import flag, integer, number, text
from flaxzoo.errors import UserError, shown, unknown
from flaxzoo.layers.module import (
    assign,
    check_dtype,
    initialise,
    named_variables,
    storage_dtype,
)
from flaxzoo.models import (
    alexnet,
    convnext,
    darknet,
    densenet,
    efficientnet,
    gmlp,
    googlenet,
    inception,
    legacy_senet,
    lenet,
    maxvit,
    mlp_mixer,
    mnasnet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    nin,
    regnet,
    resmlp,
    resnet,
    resnet_v2,
    senet,
    shufflenet_v1,
    shufflenet_v2,
    squeezenet,
    swin,
    vgg,
    vit,
    xception,
    xception_aligned,
)
from flaxzoo.models.base import Classifier, two_sides

FAMILIES = (
    alexnet,
    convnext,
    darknet,
    densenet,
    efficientnet,
    gmlp,
    googlenet,
    inception,
    legacy_senet,
    lenet,
    maxvit,
    mlp_mixer,
    mnasnet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    nin,
    regnet,
    resmlp,
    resnet,
    resnet_v2,
    senet,
    shufflenet_v1,
    shufflenet_v2,
    squeezenet,
    swin,
    vgg,
    vit,
    xception,
    xception_aligned,
)
VARIANTS: dict[str, partial[Classifier]] = {
    name: build for family in FAMILIES for name, build in family.VARIANTS.items()
}


def list_models(pattern: str | object = "*") -> list[str]:
    """Returns the names of all variants that match a shell pattern, sorted; [] where none does.

    Those named `test_*`, one a family, small for tests and for the digits, only where the pattern
    asks.

    Raises:
        UserError: the pattern is no string.

    >>> list_models("resnext101*")
    ['resnext101_32x8d', 'resnext101_64x4d']
    """
    pattern = text("pattern", pattern, "a shell pattern, like 'resnet*'")
    names = sorted(fnmatch.filter(VARIANTS, pattern))
    return names if pattern.startswith("test_") else [n for n in names if n[:5] != "test_"]


def takes(name: str, option: str) -> bool:
    """Returns whether the class of variant `name` has an option of this name."""
    return option in default_options(name)


def default_options(name: str) -> dict[str, Any]:
    """Returns the options that variant `name` leaves open, with their defaults.

    >>> default_options("resnet18")
    {'num_classes': 1000, 'stem': 'imagenet', 'planes': 64}
    """
    build = _variant(name)
    parameters = list(inspect.signature(build.func.__init__).parameters.values())[1:]  # not self
    decided = {p.name for p in parameters[: len(build.args)]} | {"in_channels"}
    return {
        p.name: build.keywords.get(p.name, p.default)
        for p in parameters
        if p.kind is not p.VAR_KEYWORD and p.name not in decided
    }


def create_model(
    name: str | object,  # "| object" where a slip is answered with a UserError
    *,
    num_classes: int | object | None = None,
    in_channels: int | object = 3,
    seed: int | object = 0,
    dtype: DTypeLike | object = jnp.float32,
    param_dtype: DTypeLike | object = jnp.float32,
    abstract: bool | object = False,
    pretrained: bool | str | Path | object | None = None,
    **options,
) -> Classifier:
    """Returns the model `name`, in training mode, initialised as its torch twin is.

    Args:
        name: a variant; see `list_models`.
        num_classes: length of the logits; None for that of the published model; 0 for a model that
            returns the embedding (see `Classifier.reset_classifier`).
        in_channels: channels of the images.
        seed: chooses the initial values; equal on every platform.
        dtype: the type it computes in: float16, bfloat16, float32 or float64; bfloat16 suits TPUs
            and GPUs.
        param_dtype: the type in which parameters are stored, one of the same.
        abstract: shapes without values, in milliseconds; `to_torch` works on it.
        pretrained: weights to load: True for the default of those published, or the publisher's
            name of others, "IMAGENET1K_V2"; "timm/resnet50.a1_in1k" at the Hugging Face hub; or the
            path of a file with torch's or timm's names (see `load_torch`), of a run or its
            checkpoint, or of a folder of `save_pretrained`. With `num_classes` or `in_channels`
            given, all but the head is loaded and the first convolution adapted; what was not simply
            loaded is logged. What the weights decide (GoogLeNet's `transform_input`, MNASNet's
            `version`, the classes and options of a run) is set unless given.
        **options: what the variant's class takes, for example `stem="cifar"`.

    Raises:
        UserError: a name, option or value that does not exist, with the nearest ones that do.
    """
    build = _variant(name)
    _check_options(str(name), options)
    dtype, param_dtype = _checked_dtype(dtype), _checked_dtype(param_dtype)
    abstract = flag("abstract", abstract)
    source = _source(str(name), pretrained)
    adapt = num_classes is not None or in_channels != 3
    if source is not None:
        options = source.all_options(str(name), in_channels) | options
        num_classes = source.num_classes if num_classes is None else num_classes
    chosen = _frozen(options)
    if num_classes is not None and integer("num_classes", num_classes, 0):
        options["num_classes"] = num_classes
    seed = integer("seed", seed, 0)
    model = build(in_channels=integer("in_channels", in_channels, 1), **options)
    model.variant, model.variant_options = str(name), chosen
    model.dtype = jnp.dtype(dtype)
    if num_classes == 0:
        model.reset_classifier(0)
    if abstract:
        for variable in named_variables(model).values():
            spec = jax.ShapeDtypeStruct(variable.shape, storage_dtype(variable, param_dtype))
            assign(variable, spec)
    else:
        initialise(model, seed=seed, param_dtype=param_dtype)
    if source is not None:
        loaded = convert.load_torch(
            model, source.weights, adapt=adapt, naming=source.load_as, source_name=source.path
        )
        if source.load_as == "own":
            set_eps(model, source.naming)
        if loaded != Loaded(naming=loaded.naming):
            logging.getLogger("flaxzoo").warning("%s in %s: %s", name, source.path, loaded)
    return model


def _source(name: str, pretrained: object) -> Any:
    """Returns the flaxzoo.sources.Source of `create_model(pretrained=...)`, None without any."""
    if pretrained is None or pretrained is False:
        return None
    from flaxzoo.sources import open_source  # it knows what is published, of the models here

    return open_source(pretrained, name)


def _frozen(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Returns options as a static attribute of a model: hashable, in the order of their names."""
    return tuple(
        (key, tuple(value) if isinstance(value, list) else value)
        for key, value in sorted(options.items())
    )


def options_of(
    name: str, weights: Mapping[str, Any], metadata: Mapping[str, Any], in_channels: object
) -> dict[str, Any]:
    """Returns the options of variant `name` that a file of weights decides.

    Args:
        weights, metadata: see `flaxzoo.models.base.Classifier.options_of`.
    """
    decided = _variant(name).func.options_of(weights, metadata)
    if in_channels != 3:  # what it changes are the means of three channels
        decided.pop("transform_input", None)
    return decided


def _variant(name: object) -> partial[Classifier]:
    if not isinstance(name, str):
        raise UserError(f"a model is named by a string, one of list_models(); got {shown(name)}.")
    if name not in VARIANTS:
        raise unknown("model", name, VARIANTS)
    return VARIANTS[name]


# By the type of the default.
_CHECKS = {bool: flag, int: partial(integer, least=1), float: number, str: text}


def _check_options(name: str, options: dict) -> None:
    """Refuses options that the class does not have or that the variant itself decides."""
    known = default_options(name)
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    for option, value in options.items():
        if option == "image_size":
            two_sides(value)
        elif (check := _CHECKS.get(type(known[option]))) is not None:
            check(option, value)


def _checked_dtype(dtype: object) -> str:
    name = check_dtype(dtype)
    if name == "float64" and not jax.config.read("jax_enable_x64"):
        raise UserError("float64 needs jax.config.update('jax_enable_x64', True) first.")
    return name
