"""Looks into any classifier, by shapes alone, and puts new heads on it."""

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
from flax import nnx

from flaxzoo.layers import assign, named_variables
from flaxzoo.layers.module import initial_value

Shape = tuple[int, ...]


@dataclass(frozen=True)
class FeatureInfo:
    """What a stage returns for images of any size.

    Attributes:
        name: of the stage, which is that of the torch module whose output it is.
        channels: length of the last axis.
        stride: pixels of the image from one place of the map to the next, along each side; of
            tokens, the sides of the patch that each stands for, a class token aside.
        layout: "nhwc" of maps, "nlc" of tokens.
    """

    name: str
    channels: int
    stride: int
    layout: Literal["nhwc", "nlc"]


class Removed(nnx.Module):
    """Stands where a head was: passes its input on, and keeps the layer, without values."""

    def __init__(self, layer: nnx.Module):
        self.kept = lambda: layer  # a function, which hides the layer's parameters

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


def feature_info(model: Any) -> tuple[FeatureInfo, ...]:
    """See `flaxzoo.models.base.Classifier.feature_info`."""
    height, width = model.image_size or (max(model.min_size, 224),) * 2
    step = 192  # a multiple of every stride
    shapes = stage_shapes(model, height, width)
    try:
        larger = stage_shapes(model, height + step, width)
    except (TypeError, ValueError):  # it has layers for one size; its patches tile the image
        larger = {}
    found = []
    for name, shape in shapes.items():
        if len(shape) == 3:
            stride, layout = round(math.sqrt(height * width / shape[1])), "nlc"
        elif larger:  # exact where maps lose their borders: 299 pixels become 35 at stride 8
            stride, layout = step // (larger[name][1] - shape[1]), "nhwc"
        else:
            stride, layout = height // shape[1], "nhwc"
        found.append(FeatureInfo(name, shape[-1], stride, layout))
    return tuple(found)


def stage_shapes(model: Any, height: int, width: int) -> dict[str, Shape]:
    """Returns the shape of each stage's output for one image, by name, shallow to deep.

    Raises:
        TypeError, ValueError: a layer was made for another size.
    """
    names: list[str] = []
    graph, state = nnx.split(model)

    def run(state: Any, image: jax.Array) -> list[jax.Array]:
        merged = nnx.merge(graph, state)
        merged.eval()
        stages = dict(merged.run_stages(image))
        names.extend(stages)  # a dict that comes back would be sorted
        return list(stages.values())

    image = jax.ShapeDtypeStruct((1, height, width, model.in_channels), model.dtype)
    maps = jax.eval_shape(run, state, image)
    return {name: x.shape for name, x in zip(names, maps, strict=True)}


def replace_heads(model: Any, num_classes: int, *, seed: int) -> None:
    """See `flaxzoo.models.base.Classifier.reset_classifier`."""
    abstract = model.abstract
    for head in model.head_names:
        *path, name = head.split(".")
        parent = model
        for part in path:
            parent = getattr(parent, part)
        layer = getattr(parent, name, None)  # none where the parent is an auxiliary head left out
        if layer is None:
            continue
        if isinstance(layer, Removed):  # a copy, since copies of a model share what was kept
            layer = copy.deepcopy(layer.kept())
        for leaf, variable in named_variables(layer).items():
            shape = (*variable.shape[:-1], num_classes or variable.shape[-1])
            assign(variable, jax.ShapeDtypeStruct(shape, variable.dtype))
            if num_classes and not abstract:
                value = initial_value(variable, f"{head}.{leaf}", seed)
                assign(variable, jax.device_put(value.astype(variable.dtype)))
        setattr(parent, name, layer if num_classes else Removed(layer))
