"""What a prediction rests on: Grad-CAM, as a picture of where the evidence for a class is.

Grad-CAM, Selvaraju et al. 2016 (https://arxiv.org/abs/1610.02391, equations 1 and 2): the channels
of a feature map, each weighted with the mean over all positions of the gradient of the class's
logit, added up, and what is negative left out.

Transformers and MLPs have patches in place of positions: their vectors are laid out as the patches
lie in the image. A class token is left out. Behind the last block of a ViT it alone reaches the
logits, and so the map is one that comes earlier.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import Array, Float, UInt8
from PIL import Image

from flaxzoo.augment import normalize
from flaxzoo.data.transforms import crop_box, decode
from flaxzoo.errors import UserError, unknown
from flaxzoo.models.base import Classifier
from flaxzoo.trained import Trained
from flaxzoo.training.state import split_model


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where in an image the evidence for a class is.

    Attributes:
        index: of the class.
        probability: that the model gives it.
        stage: whose feature map it is.
        heat: at each position of that map, from 0 to 1, the most in this image; zeros where nothing
            speaks for the class.
    """

    index: int
    probability: float
    stage: str
    heat: Float[np.ndarray, "rows columns"]


def explain(
    model: Classifier,
    images: Float[Array, "1 h w c"],
    *,
    index: int | None = None,
    stage: str = "",
) -> Explanation:
    """Returns Grad-CAM of one normalised image.

    Args:
        model: in evaluation mode.
        index: of the class to be explained; None for the predicted one.
        stage: a name in `model.feature_maps(images)`; "" for the deepest whose positions reach the
            logit.

    Raises:
        UserError: there is no such stage, or none with a gradient.
    """
    names, maps, gradients, logits, index = _gradients(model, images, index)
    grids = {
        name: grid for name, values in zip(names, maps, strict=True)
        if (grid := _grid(values.shape, images.shape)) is not None
    }  # fmt: skip
    if stage and stage not in grids:
        raise unknown(f"stage of {type(model).__name__} with positions", stage, grids)
    of = dict(zip(names, zip(maps, gradients, strict=True), strict=True))
    for name in [stage] if stage else reversed(grids):
        values, gradient = (_laid_out(x, grids[name]) for x in of[name])
        if gradient.any():
            break
    else:
        where = stage or "any stage"
        raise UserError(
            f"no position of {where} reaches the logit of class {index}; stages with positions "
            f"are {', '.join(grids) or 'none'}."
        )
    heat = np.maximum(values @ gradient.mean((0, 1)), 0)
    probability = float(jax.nn.softmax(logits.astype(np.float32))[index])
    return Explanation(index, probability, name, heat / max(heat.max(), np.finfo(heat.dtype).tiny))


def explain_file(
    trained: Trained, path: Path, *, index: int | None = None, stage: str = ""
) -> Explanation:
    """Returns Grad-CAM of an image file, prepared as the model was evaluated: see `explain`.

    Raises:
        UserError: the file cannot be read, or there is no such stage.
    """
    pixels = trained.preparation(decode(path, trained.model.in_channels))
    source = trained.config.data
    return explain(
        trained.model, normalize(jnp.asarray(pixels[None]), source.mean, source.std),
        index=index, stage=stage,
    )  # fmt: skip


def draw(trained: Trained, path: Path, explanation: Explanation) -> Image.Image:
    """Returns the image in grey, as large as it is, with the heat over it in colour.

    What the model did not see, beyond the centre crop, is paler.
    """
    image = decode(path, channels=1)
    height, width, _ = image.shape
    box = crop_box(height, width, trained.preparation.image_size, trained.preparation.resize)
    seen, heat = _over(explanation.heat, box, height, width)
    colours = _colours(heat)
    strength = (0.7 * heat**0.5)[..., None]
    picture = (1 - strength) * image + strength * colours
    picture = np.where(seen[..., None], picture, 0.4 * image + 0.6 * 255)
    return Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8))


def _colours(heat: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    from matplotlib import colormaps  # 0.5 s, so only where something is drawn

    return colormaps["inferno"](heat, bytes=True)[..., :3]


def _over(
    heat: np.ndarray, box: tuple[float, float, float, float], height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns which pixels of an image are in `box`, and the heat of all, interpolated in it."""
    top, left, bottom, right = box
    rows = (np.arange(height) + 0.5 - top) / (bottom - top)  # 0 to 1 inside
    columns = (np.arange(width) + 0.5 - left) / (right - left)
    inside = [(at >= 0) & (at <= 1) for at in (rows, columns)]
    across = _interpolation(rows, heat.shape[0]) @ heat @ _interpolation(columns, heat.shape[1]).T
    seen = inside[0][:, None] & inside[1]
    return seen, np.where(seen, np.clip(across, 0, 1), 0)


def _interpolation(at: np.ndarray, length: int) -> np.ndarray:
    """Returns the (n, length) matrix that interpolates linearly between the centres of cells.

    Args:
        at: where, from 0, the outer edge of the first cell, to 1, that of the last.
    """
    position = np.clip(at * length - 0.5, 0, length - 1)
    return np.maximum(1 - np.abs(position[:, None] - np.arange(length)), 0)


Grid = tuple[int, int, int]  # rows, columns, tokens before the first position


def _grid(shape: Sequence[int], image_shape: Sequence[int]) -> Grid | None:
    """Returns how the positions of a map lie in the image; None for vectors without positions."""
    if len(shape) == 4:
        return (shape[1], shape[2], 0) if shape[1] * shape[2] > 1 else None
    if len(shape) != 3:
        return None
    height, width = image_shape[1:3]
    for tokens in (0, 1):  # before the patches: a class token
        count = shape[1] - tokens
        side = math.isqrt(height * width // count) if count > 1 else 0
        if side and height % side == 0 and width % side == 0:
            rows, columns = height // side, width // side
            if rows * columns == count:
                return rows, columns, tokens
    return None


def _laid_out(x: Any, grid: Grid) -> Float[np.ndarray, "rows columns c"]:
    """Returns the map of the only image as an array of its positions."""
    rows, columns, skipped = grid
    values = np.asarray(x[0], np.float32)
    return values if values.ndim == 3 else values[skipped:].reshape(rows, columns, -1)


def _gradients(
    model: Classifier, images: Array, index: int | None
) -> tuple[list[str], list[Array], list[Array], np.ndarray, int]:
    """Returns the stages, their maps, the gradients of a class's logit by these, logits and class.

    A gradient by what is in the middle of a model is that by a zero added there. The models do not
    offer a place to add it: their traced program does, which knows what each stage gave.
    """
    model_def, params, batch_stats = split_model(model)
    names: list[str] = []

    def forward(params: Any, batch_stats: Any, images: Array) -> tuple[list[Array], Array]:
        bound = model_def.bind(params, batch_stats)
        bound.eval()
        maps = bound.feature_maps(images)
        names[:] = maps
        return list(maps.values()), bound.forward_head(list(maps.values())[-1])

    inputs = (params, batch_stats, images)
    program = jax.make_jaxpr(forward)(*inputs)
    stages = program.jaxpr.outvars[:-1]

    def logit(zeros: list[Array], inputs: Any, index: Array) -> tuple[Array, Any]:
        added = dict(zip(stages, zeros, strict=True))
        *maps, logits = _run(program, jax.tree.leaves(inputs), added)
        index = jnp.where(index < 0, jnp.argmax(logits[0]), index)
        return logits[0, index], (maps, logits[0], index)

    zeros = [jnp.zeros(v.aval.shape, v.aval.dtype) for v in stages]
    wanted = jnp.asarray(-1 if index is None else index)
    gradients, (maps, logits, explained) = jax.jit(jax.grad(logit, has_aux=True))(
        zeros, inputs, wanted
    )
    return names, maps, gradients, np.asarray(logits), int(explained)


def _run(program: ClosedJaxpr, inputs: Sequence[Array], added: dict[Any, Array]) -> list[Array]:
    """Runs a traced program, adding to the values of some of its variables."""
    jaxpr, values = program.jaxpr, {}

    def write(variables: Sequence[Any], results: Sequence[Any]) -> None:
        for variable, result in zip(variables, results, strict=True):
            values[variable] = result + added[variable] if variable in added else result

    def read(variables: Sequence[Any]) -> list[Any]:
        return [v.val if isinstance(v, Literal) else values[v] for v in variables]

    write(jaxpr.constvars, program.consts)
    write(jaxpr.invars, inputs)
    for equation in jaxpr.eqns:
        bound = equation.primitive.get_bind_params(equation.params)
        # Before jax 0.10, what a primitive calls was not among its parameters.
        functions, parameters = bound if isinstance(bound, tuple) else ((), bound)
        results = equation.primitive.bind(*functions, *read(equation.invars), **parameters)
        several = equation.primitive.multiple_results
        write(equation.outvars, results if several else [results])
    return read(jaxpr.outvars)
