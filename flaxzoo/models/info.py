"""What is published about the models: weights, accuracies, transforms, sizes; and how to count.

All of it is data, in published.csv beside this file: one row for each published file of weights,
and one for each model of another library that has none. parity.csv is written by
benchmarks/parity_table.py: one row for each model that was compared, and what with.
"""

import csv
import functools
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from flaxzoo.arguments import one_of
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
class Parity:
    """A comparison with a PyTorch model that was made: benchmarks/parity_table.py.

    Attributes:
        against: whose model: "torchvision", "timm" or "torch_ref".
        dtypes: those compared.
        equal: in all of them.
        gradients: compared as well, and three steps of training; else the outputs alone.
    """

    against: str
    dtypes: tuple[str, ...]
    equal: bool
    gradients: bool


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
        papers: titles, authors, years and addresses.
        parity: what it was compared with; more in docs/parity.md.
    """

    name: str
    family: str
    library: str
    library_name: str
    gmacs: float | None
    gmacs_size: int | None
    weights: tuple[Weights, ...]
    papers: tuple[str, ...]
    parity: tuple["Parity", ...]

    @property
    def parameters(self) -> int:
        """The number of trainable values, with the published number of classes."""
        return count_parameters(create_model(self.name, abstract=True))


def model_info(name: str | object) -> ModelInfo:
    """Returns what is known about variant `name`.

    Raises:
        UserError: there is no such variant.

    >>> info = model_info("resnet50")
    >>> info.family, info.library, info.parameters, [w.name for w in info.weights]
    ('resnet', 'torchvision', 25557032, ['IMAGENET1K_V1', 'IMAGENET1K_V2'])
    """
    name = one_of("model", name, VARIANTS)
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
        papers=_papers(VARIANTS[name].func.__module__),
        parity=tuple(
            Parity(
                against=row["against"],
                dtypes=tuple(row["dtypes"].split()),
                equal=row["equal"] == "yes",
                gradients=row["gradients"] == "yes",
            )
            for row in _table("parity.csv").get(name, [])
        ),
    )


def published() -> dict[str, list[dict[str, str]]]:
    """Returns the rows of published.csv by model."""
    return _table("published.csv")


def _papers(module: str) -> tuple[str, ...]:
    """Returns the papers of a family: they are the second paragraph of its docstring."""
    paragraphs = (sys.modules[module].__doc__ or "").split("\n\n")
    text = " ".join(paragraphs[1].split()) if len(paragraphs) > 1 else ""
    return tuple(match.strip() for match in re.findall(r".+?https?://\S+", text))


@functools.cache
def _table(file: str) -> dict[str, list[dict[str, str]]]:
    rows: dict[str, list[dict[str, str]]] = {}
    text = resources.files("flaxzoo.models").joinpath(file).read_text("utf-8")
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
    return sum(
        multiply_adds
        for equation in program.jaxpr.eqns
        for multiply_adds, _ in products_of(equation)
    )


def products_of(equation: Any) -> Iterator[tuple[int, int]]:
    """Yields the multiply-adds and the values put out by each product in an equation of a program.

    Those of its inner programs are included.
    """
    out: Any = equation.outvars[0].aval if equation.outvars else None
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        spec = equation.params["dimension_numbers"].rhs_spec
        yield out.size * kernel.size // kernel.shape[spec[0]], out.size
    elif equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        sums = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        yield out.size * sums, out.size
    else:
        inner = [getattr(value, "jaxpr", value) for value in equation.params.values()]
        if equation.primitive.name == "cond":  # of the ways to do it on a platform, the last
            inner = [equation.params["branches"][-1].jaxpr]
        for jaxpr in inner:
            for each in getattr(jaxpr, "eqns", ()):
                yield from products_of(each)
