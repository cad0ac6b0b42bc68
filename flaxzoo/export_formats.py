"""The formats of `flaxzoo.export`: each is written, opened again, and run on images."""

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from flaxzoo.convert import to_torch
from flaxzoo.data.transforms import Preparation
from flaxzoo.errors import UserError
from flaxzoo.models.base import Classifier
from flaxzoo.parity import deployed
from flaxzoo.training.state import split_model
from flaxzoo.version import __version__
from flaxzoo.weight_files import read_state_dict
from flaxzoo.weight_writing import write_state_dict

FORMATS = {  # and how their files are named
    "onnx": (".onnx",),
    "stablehlo": (".stablehlo",),
    "safetensors": (".safetensors",),
    "torch": (".pth", ".pt"),
}
OF_WEIGHTS = ("safetensors", "torch")
PLATFORMS = ("cpu", "cuda", "tpu")  # that a stablehlo file runs on

Images = Float32[np.ndarray, "_n h w c"]  # batches may differ in n
Logits = Float32[np.ndarray, "_n classes"]
Shape = tuple[int, int, int]
# What ran the file, and the logits of each batch; None where each value of it was compared instead.
Checked = tuple[str, list[Logits] | None]


@dataclass(frozen=True, eq=False)
class Source:
    """What is exported.

    Attributes:
        name: the variant.
        model: with values; it is put into evaluation mode, computing in float32.
        options: that it was created with, beside `num_classes` and `in_channels`.
        preparation: what is done to an image before, where that is known.
        classes: their names in the order of the logits, where they are known.
    """

    name: str
    model: Classifier
    options: Mapping[str, Any] = field(default_factory=dict)
    preparation: Preparation | None = None
    classes: Sequence[str] | None = None


def run_onnx(path: str | os.PathLike, batches: Sequence[Images]) -> list[Logits]:
    """Returns the logits of each batch in ONNX Runtime, on the CPU."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are of shapes that it cannot infer by itself
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    return [session.run(["logits"], {"images": _nchw(images)})[0] for images in batches]


def _onnx(
    source: Source, path: Path, shape: Shape, batch: int | None, batches: Sequence[Images]
) -> Checked:
    for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
        _need(package, "onnx")
    twin = deployed.make_twin(source.name, source.model, source.options)
    deployed.write_onnx(twin, path, shape, batch)
    checked_by = f"onnxruntime {importlib.import_module('onnxruntime').__version__}"
    try:
        return checked_by, run_onnx(path, batches)
    except Exception as error:  # it has a class of exception for each of its codes
        told = " ".join(str(error).split())
        raise UserError(f"{path.name} was not written: {checked_by} refuses it: {told}") from error


def _stablehlo(
    source: Source, path: Path, shape: Shape, batch: int | None, batches: Sequence[Images]
) -> Checked:
    _need("flatbuffers", "stablehlo")  # jax asks for it while it serialises
    from jax import export

    model_def, params, batch_stats = split_model(source.model)
    count = export.symbolic_shape("batch")[0] if batch is None else batch
    forward = jax.jit(lambda images: model_def.bind(params, batch_stats)(images))
    program = export.export(forward, platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((count, *shape), jnp.float32)
    )
    path.write_bytes(program.serialize())
    loaded = export.deserialize(bytearray(path.read_bytes()))
    with jax.default_matmul_precision("highest"):
        got = [np.asarray(jax.jit(loaded.call)(images)) for images in batches]
    return f"jax {jax.__version__}", got


def _safetensors(
    source: Source, path: Path, shape: Shape, batch: int | None, batches: Sequence[Images]
) -> Checked:
    arrays = _write_weights(source, path)
    saved = read_state_dict(path)
    if differing := [k for k in arrays.keys() | saved.keys() if not _same(arrays, saved, k)]:
        raise UserError(f"{path.name} was not written: {min(differing)} is another in the file.")
    if importlib.util.find_spec("torch"):
        return _in_torch(source, path, batches)
    return f"flaxzoo {__version__}, bit for bit", None


def _torch(
    source: Source, path: Path, shape: Shape, batch: int | None, batches: Sequence[Images]
) -> Checked:
    _need("torch", "parity")
    _write_weights(source, path)
    return _in_torch(source, path, batches)


WRITERS: Mapping[str, Callable[..., Checked]] = {
    "onnx": _onnx,
    "stablehlo": _stablehlo,
    "safetensors": _safetensors,
    "torch": _torch,
}


def _write_weights(source: Source, path: Path) -> Mapping[str, np.ndarray]:
    state_dict: Any = to_torch(source.model)
    write_state_dict(path, state_dict, state_dict._metadata)
    return state_dict


def _in_torch(source: Source, path: Path, batches: Sequence[Images]) -> Checked:
    twin = deployed.twin_of_file(source.name, source.model, source.options, path)
    got = [deployed.run_twin(twin, _nchw(images)) for images in batches]
    return f"torch {importlib.metadata.version('torch')}", got


def _nchw(images: Images) -> Float32[np.ndarray, "_n c h w"]:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _same(ours: Mapping[str, np.ndarray], saved: Mapping[str, np.ndarray], key: str) -> bool:
    """Whether both have an array `key` of the same type, shape and bits."""
    if key not in ours or key not in saved:
        return False
    a, b = np.asarray(ours[key]), saved[key]
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def _need(package: str, extra: str) -> None:
    """Raises UserError where `package`, which only some formats need, is not installed."""
    if importlib.util.find_spec(package) is None:
        raise UserError(f"this format needs {package}: pip install 'flaxzoo[{extra}]'")
