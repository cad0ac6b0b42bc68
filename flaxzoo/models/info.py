"""What is published about the models: weights, accuracies, transforms, sizes; and how to count.

All of it is data, in published.csv beside this file: one row for each published file of weights,
and one for each model of another library that has none.
"""

import csv
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flaxzoo.errors import unknown
from flaxzoo.layers import named_variables
from flaxzoo.models import VARIANTS, create_model, takes

# Fields of Weights, and of DataConfig: how images are prepared.
PREPARATION = ("image_size", "resize", "interpolation", "mean", "std")


@dataclass(frozen=True)
class Weights:
    """One published file of weights, and the images that it expects.

    Attributes:
        name: the publisher's.
        top1, top5: accuracy on ImageNet's 50,000 validation images in percent, as published; None
            for weights of other classes.
        classes: length of the logits; 0 for a file without a head.
        image_size, resize: pixels: the short side is resized to the latter and the centre cropped.
        interpolation: "bilinear" or "bicubic", antialiased.
        mean, std: of the channels of images in [0, 1].
        url: of the file, or of its page at the Hugging Face hub.
    """

    name: str
    top1: float | None
    top5: float | None
    classes: int
    image_size: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    url: str

    @property
    def preparation(self) -> dict[str, Any]:
        """The fields that say how images are prepared, by their names."""
        return {name: getattr(self, name) for name in PREPARATION}


@dataclass(frozen=True)
class ModelInfo:
    """What is known about a variant.

    Attributes:
        family: the module of flaxzoo.models that it is in.
        library: whose function and names it has: "torchvision", "timm", or "" where neither has it.
        library_name: its name there.
        gmacs: published multiply-adds in 10^9 for one image of `gmacs_size` pixels, or None. See
            `count_multiply_adds` for what counts.
        weights: published files, by name.
    """

    name: str
    family: str
    library: str
    library_name: str
    gmacs: float | None
    gmacs_size: int | None
    weights: tuple[Weights, ...]

    @property
    def parameters(self) -> int:
        """The number of trainable values, with the published number of classes."""
        return count_parameters(create_model(self.name, abstract=True))


def model_info(name: str) -> ModelInfo:
    """Returns what is known about variant `name`.

    Raises:
        UserError: there is no such variant.

    >>> info = model_info("resnet50")
    >>> info.family, info.library, info.parameters, [w.name for w in info.weights]
    ('resnet', 'torchvision', 25557032, ['IMAGENET1K_V1', 'IMAGENET1K_V2'])
    """
    if name not in VARIANTS:
        raise unknown("model", str(name), VARIANTS)
    rows = published().get(name, [])
    first = rows[0] if rows else {}
    # A model may have files for several sizes of image; the smallest is its own.
    measured = min((r for r in rows if r["gmacs"]), key=lambda r: int(r["gmacs_size"]), default={})
    return ModelInfo(
        name=name,
        family=VARIANTS[name].func.__module__.rpartition(".")[2],
        library=first.get("library", ""),
        library_name=first.get("library_name", ""),
        gmacs=float(measured["gmacs"]) if measured else None,
        gmacs_size=int(measured["gmacs_size"]) if measured else None,
        weights=tuple(_weights(row) for row in rows if row["weights"]),
    )


@functools.cache
def published() -> dict[str, list[dict[str, str]]]:
    """Returns the rows of published.csv by model."""
    rows: dict[str, list[dict[str, str]]] = {}
    text = resources.files("flaxzoo.models").joinpath("published.csv").read_text("utf-8")
    for row in csv.DictReader(text.splitlines()):
        rows.setdefault(row["model"], []).append(row)
    return rows


def _weights(row: dict[str, str]) -> Weights:
    red, green, blue = map(float, row["mean"].split())
    return Weights(
        name=row["weights"],
        top1=float(row["top1"]) if row["top1"] else None,
        top5=float(row["top5"]) if row["top5"] else None,
        classes=int(row["classes"]),
        image_size=int(row["image_size"]),
        resize=int(row["resize"]),
        interpolation=row["interpolation"],
        mean=(red, green, blue),
        std=tuple(map(float, row["std"].split())),  # pyright: ignore[reportArgumentType]
        url=row["url"],
    )


def count_parameters(model: nnx.Module) -> int:
    """Returns the number of trainable values of a model, abstract or not."""
    return sum(parameter.size for parameter in named_variables(model, nnx.Param).values())


def count_multiply_adds(name: str, image_size: int, **options: Any) -> int:
    """Returns the multiply-adds of one evaluation of one square image, by tracing it.

    What counts is each product of a convolution, a linear layer or a matrix product of attention;
    normalisation, activation, pooling and biases count for nothing. One multiply-add is one, not
    two. Auxiliary heads are not evaluated.
    """
    if takes(name, "image_size"):
        options = {"image_size": image_size} | options
    model = create_model(name, abstract=True, **options)
    model.eval()
    graph, state = nnx.split(model)
    image = jax.ShapeDtypeStruct((1, image_size, image_size, model.in_channels), jnp.float32)
    program = jax.make_jaxpr(lambda state, image: nnx.merge(graph, state)(image))(state, image)
    return sum(_products(program.jaxpr))


def _products(jaxpr: Any) -> Iterator[int]:
    """Yields the products of each equation, those of inner programs included."""
    for equation in jaxpr.eqns:
        out = equation.outvars[0].aval
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            spec = equation.params["dimension_numbers"].rhs_spec
            yield out.size * kernel.size // kernel.shape[spec[0]]
        elif equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            yield out.size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        elif equation.primitive.name == "cond":  # of the ways to do it on a platform, the last
            yield from _products(equation.params["branches"][-1].jaxpr)
        else:
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    yield from _products(inner)
