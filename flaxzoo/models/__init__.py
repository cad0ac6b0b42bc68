"""The registry: every variant of every family in one table, made by one function."""

import fnmatch
import inspect
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from flaxzoo import convert
from flaxzoo.errors import UserError, unknown
from flaxzoo.layers.module import assign, initialise, named_variables, storage_dtype
from flaxzoo.models import resnet
from flaxzoo.models.base import Classifier

VARIANTS: dict[str, partial[Classifier]] = {**resnet.VARIANTS}


def list_models(pattern: str = "*") -> list[str]:
    """Returns the names of all variants that match a shell pattern, sorted.

    >>> list_models("resnext101*")
    ['resnext101_32x8d', 'resnext101_64x4d']
    """
    return sorted(fnmatch.filter(VARIANTS, pattern))


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    seed: int = 0,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    abstract: bool = False,
    pretrained: str | Path | None = None,
    **options,
) -> Classifier:
    """Returns the model `name`, in training mode, initialised as its torch twin is.

    Args:
        name: a variant; see `list_models`.
        num_classes: length of the logits; None for that of the published model.
        in_channels: channels of the images.
        seed: chooses the initial values; equal on every platform.
        dtype: the type it computes in; bfloat16 suits TPUs and GPUs.
        param_dtype: the type in which parameters are stored.
        abstract: shapes without values, in milliseconds; `to_torch` works on it.
        pretrained: a file of weights with torch's names (see `load_torch`).
        **options: what the variant's class takes, for example `stem="cifar"`.

    Raises:
        UserError: a name, option or value that does not exist, with the nearest ones that do.
    """
    build = _variant(name)
    _check_options(name, build, options)
    _check_dtypes(dtype, param_dtype)
    if num_classes is not None:
        options["num_classes"] = num_classes
    model = build(in_channels=in_channels, **options)
    model.dtype = jnp.dtype(dtype)
    if abstract:
        for variable in named_variables(model).values():
            spec = jax.ShapeDtypeStruct(variable.shape, storage_dtype(variable, param_dtype))
            assign(variable, spec)
    else:
        initialise(model, seed=seed, param_dtype=param_dtype)
    if pretrained is not None:
        if isinstance(pretrained, bool):
            raise UserError(f"pretrained takes the path of a file of weights; got {pretrained}.")
        convert.load_torch(model, pretrained)
    return model


def _variant(name: str) -> partial[Classifier]:
    if name not in VARIANTS:
        raise unknown("model", name, VARIANTS)
    return VARIANTS[name]


def _check_options(name: str, build: partial, options: dict) -> None:
    """Refuses options that the class does not have or that the variant itself decides."""
    parameters = list(inspect.signature(build.func.__init__).parameters.values())[1:]  # not self
    decided = {p.name for p in parameters[: len(build.args)]} | {"in_channels"}
    known = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - decided
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)


def _check_dtypes(*dtypes: DTypeLike) -> None:
    for dtype in dtypes:
        try:
            floating = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
        except TypeError:
            raise UserError(f"not a dtype: {dtype!r}; use 'float32' or 'bfloat16'.") from None
        if not floating:
            raise UserError(f"a model computes in floating point; got dtype {jnp.dtype(dtype)}.")
        if jnp.dtype(dtype).itemsize == 8 and not jax.config.read("jax_enable_x64"):
            raise UserError("float64 needs jax.config.update('jax_enable_x64', True) first.")
