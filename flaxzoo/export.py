"""Models as files for other programs, each proved before it is called done.

A file is written under another name, opened again by the library that will use it, and run on the
same images as the model. Only if the logits are equal does it appear, with a description beside it
(`FILE.json`): the classes, and how images are prepared.

* onnx: torch's own exporter writes the PyTorch twin, which is the same function. (What converts JAX
  programs directly, jax2onnx 0.17.1, wrote max-pools with explicit padding as unpadded ones without
  a word, and ResNets that ONNX Runtime refused to load.) It takes images as torch does.
* stablehlo: `jax.export` for CPU, CUDA and TPU in one file, with the weights in it. It takes images
  as flaxzoo does, and needs jax alone to run.
* safetensors, torch: the weights, by torch's names and in its layout.

Everything is float32.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from flaxzoo.arguments import integer
from flaxzoo.errors import UserError, unknown
from flaxzoo.export_formats import FORMATS, OF_WEIGHTS, WRITERS, Images, Logits, Source
from flaxzoo.layers import BatchNorm
from flaxzoo.models.base import Classifier, two_sides
from flaxzoo.parity import TOLERANCES
from flaxzoo.trained import Trained
from flaxzoo.training.state import split_model
from flaxzoo.version import __version__

ALLOWED = TOLERANCES["float32"]["forward"]
DYNAMIC_BATCHES = (1, 3)  # tried where the batch may be of any size; torch traces one of 2


@dataclass(frozen=True)
class Exported:
    """A file that was written and proved.

    Attributes:
        description: the file that describes it.
        size: in bytes, with files of weights beside it.
        checked_by: what ran it.
        error: the largest difference of a logit from the model's, relative to the largest logit.
    """

    path: Path
    description: Path
    size: int
    checked_by: str
    error: float


def export(
    source: Source,
    path: str | os.PathLike,
    format: str,
    *,
    batch: int | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> Exported:
    """Writes `source` to `path`, and `path`.json beside it, both whole and proved, or neither.

    Args:
        format: one of FORMATS, which says how `path` must end.
        batch: the only number of images that the file takes; None for any number. Files of weights
            take any.
        image_size: height and width, or one number for both; None for those of the preparation, or
            that the model was made for.

    Raises:
        UserError: the format needs what is not installed, the model does not take such images, the
            file cannot be written, or its logits are not those of the model: then nothing is left
            of it.
    """
    path, model = Path(path).expanduser(), source.model
    _check_format(format, path, batch)
    shape = (*_height_and_width(source, image_size), model.in_channels)
    model.check_shape((1, *shape))
    model.eval()
    model.dtype = np.dtype("float32")
    batches = _random_batches(shape, DYNAMIC_BATCHES if batch is None else (batch, batch))
    expected = logits_of(model, batches)
    with _staged(path) as staged:
        checked_by, got = WRITERS[format](source, staged, shape, batch, batches)
        error = 0.0 if got is None else _compare(path, checked_by, expected, got)
        written = [file for file in staged.parent.iterdir() if file.is_file()]
        size = sum(file.stat().st_size for file in written)
        text = describe(source, format, shape, batch, {"by": checked_by, "error": error})
        staged.with_name(f"{path.name}.json").write_text(text, encoding="utf-8")
    return Exported(path, path.with_name(f"{path.name}.json"), size, checked_by, error)


def describe(
    source: Source,
    format: str,
    shape: tuple[int, int, int],
    batch: int | None,
    check: Mapping[str, Any],
) -> str:
    """Returns the JSON that lies beside a file.

    Args:
        shape: height, width and channels of the images.
        check: what was compared, and how far it was apart.
    """
    height, width, channels = shape
    count = "batch" if batch is None else batch
    last = format == "stablehlo"
    prepared = source.preparation
    description = {
        "model": source.name,
        "options": dict(source.options),
        "format": format,
        "input": {
            "name": "images",
            "dtype": "float32",
            "layout": "NHWC" if last else "NCHW",
            "shape": [count, *(shape if last else (channels, height, width))],
        },
        "output": {"name": "logits", "shape": [count, source.model.num_classes]},
        "classes": None if source.classes is None else list(source.classes),
        "image_size": height if height == width else [height, width],
        "resize": prepared and prepared.resize,
        "interpolation": prepared and prepared.interpolation,
        "mean": prepared and list(prepared.mean),
        "std": prepared and list(prepared.std),
        "batch_norm_eps": sorted(norm_eps(source.model)),
        "check": dict(check),
        "flaxzoo": __version__,
    }
    return json.dumps(description, indent=1) + "\n"


def norm_eps(model: Classifier) -> set[float]:
    """Returns what the batch normalisation of `model` adds to variances: weights of timm's may have
    been trained with another value than the model's own, which no file of weights tells."""
    layers = (layer for _, layer in nnx.iter_graph(model))
    return {layer.eps for layer in layers if isinstance(layer, BatchNorm)}


def logits_of(model: Classifier, batches: Sequence[Images]) -> list[Logits]:
    """Returns the logits of each batch, computed at full float32 precision."""
    model_def, params, batch_stats = split_model(model)
    forward = jax.jit(lambda params, stats, images: model_def.bind(params, stats)(images))
    with jax.default_matmul_precision("highest"):
        return [np.asarray(forward(params, batch_stats, images)) for images in batches]


def relative_error(expected: Sequence[Logits], got: Sequence[Logits]) -> float:
    """Returns the largest difference over the largest expected value; NaN where there is one."""
    scale = max(float(np.abs(logits).max()) for logits in expected)
    apart = [float(np.abs(a - b).max()) for a, b in zip(expected, got, strict=True)]
    return float(np.max(apart)) / (scale if scale > 0 else 1.0)


def source_of(trained: Trained) -> Source:
    """Returns what `flaxzoo.trained.load_trained` has found, to be exported."""
    return Source(
        trained.config.model.name, trained.model, trained.options, trained.preparation,
        trained.classes,
    )  # fmt: skip


def _check_format(format: str, path: Path, batch: int | None) -> None:
    if format not in FORMATS:
        raise unknown("format", str(format), FORMATS)
    if path.suffix not in FORMATS[format]:
        named = " or ".join(FORMATS[format])
        raise UserError(f"the name of a file of {format} ends in {named}; got {path}.")
    if batch is not None:
        integer("batch", batch, 1)
        if format in OF_WEIGHTS:
            raise UserError(f"weights take batches of any size: leave batch out for {format}.")


def _height_and_width(source: Source, image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    if image_size is None:
        image_size = source.model.image_size
    if image_size is None and source.preparation is not None:
        image_size = source.preparation.image_size
    if image_size is None:
        raise UserError(
            f"nothing says which size of image {source.name} is to take: set image_size."
        )
    return two_sides(image_size)


def _random_batches(shape: tuple[int, int, int], sizes: Sequence[int]) -> list[Images]:
    """Returns normalised images of coloured squares under noise: what noise alone is, a model may
    take for much the same."""
    rng = np.random.default_rng(0)
    height, width, channels = shape
    batches = []
    for n in sizes:
        squares = rng.normal(size=(n, 8, 8, channels))
        for axis, side in ((1, height), (2, width)):
            squares = squares.repeat(-(-side // 8), axis)
        noise = rng.normal(size=(n, *shape))
        batches.append((squares[:, :height, :width] + 0.5 * noise).astype(np.float32))
    return batches


def _compare(
    path: Path, checked_by: str, expected: Sequence[Logits], got: Sequence[Logits]
) -> float:
    """Returns how far a file's logits are from the model's.

    Raises:
        UserError: too far, or the model's hardly depend on the image, so that they prove nothing.
    """
    logits = np.concatenate(expected)
    if not np.ptp(logits, axis=0).max() > 1e-3 * np.abs(logits).max():
        raise UserError(
            f"{path} was not written: the logits of this model hardly depend on the image, so that "
            "no check of the file could fail. Is it trained?"
        )
    for a, b in zip(expected, got, strict=True):
        if a.shape != b.shape:
            raise UserError(
                f"{path} was not written: its logits have the shape {b.shape} in {checked_by}, and "
                f"{a.shape} in flaxzoo."
            )
    error = relative_error(expected, got)
    if not error <= ALLOWED:
        raise UserError(
            f"{path} was not written: its logits in {checked_by} differ from flaxzoo's by "
            f"{error:.1e} of the largest; allowed is {ALLOWED:.0e}."
        )
    return error


@contextlib.contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """Yields where to write the file that is to be `path`, and what belongs beside it.

    What is there in the end is moved to the folder of `path`, `path` last; after an error nothing
    is, and what was there before stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from error
    try:
        yield folder / path.name
        for file in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
            os.replace(file, path.with_name(file.name))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
