"""The PyTorch twin of one model, its values included: what files for other programs are made of."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flaxzoo.convert import to_torch
from flaxzoo.models.base import Classifier
from flaxzoo.parity.twins import give_eps

if TYPE_CHECKING:
    import torch


def make_twin(name: str, model: Classifier, options: Mapping[str, Any]) -> "torch.nn.Module":
    """Returns the twin of `model`, with its values, in evaluation mode.

    Args:
        name: its variant.
        options: that it was created with, beside `num_classes` and `in_channels`.
    """
    import torch

    state_dict = to_torch(model)
    state_dict.update({key: torch.from_numpy(np.copy(v)) for key, v in state_dict.items()})
    return _filled(name, model, options, state_dict)


def twin_of_file(
    name: str, model: Classifier, options: Mapping[str, Any], path: Path
) -> "torch.nn.Module":
    """Returns the twin of `model` with the values in a file, as torch or safetensors reads it."""
    import torch

    if path.suffix == ".safetensors":
        import safetensors.torch

        return _filled(name, model, options, safetensors.torch.load_file(path))
    return _filled(name, model, options, torch.load(path, weights_only=True))


def run_twin(twin: "torch.nn.Module", images: np.ndarray) -> np.ndarray:
    """Returns the logits (n, classes) of images (n, c, h, w)."""
    import torch

    with torch.no_grad():
        return twin(torch.from_numpy(images)).numpy()


def write_onnx(
    twin: "torch.nn.Module", path: Path, shape: tuple[int, int, int], batch: int | None
) -> None:
    """Writes a twin as ONNX, from `images` (n, c, h, w) to `logits`.

    Weights of more than 1.5 GB are written to a file beside it, PATH.data, since a file of ONNX
    cannot be larger than 2 GB.

    Args:
        shape: height, width and channels of the images.
        batch: n; None for any.
    """
    import torch

    height, width, channels = shape
    # torch takes a size of 1 for a constant.
    images = torch.zeros(2 if batch is None else batch, channels, height, width)
    any_batch = ({0: torch.export.Dim("batch")},) if batch is None else None
    with warnings.catch_warnings():
        # torch 2.13 warns about itself.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        program = torch.onnx.export(
            twin,
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=any_batch,
            verbose=False,
        )
    assert program is not None  # it is where no file is named
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # the lines of Python behind it, with paths of this machine
    program.save(os.fspath(path))


def _filled(
    name: str, model: Classifier, options: Mapping[str, Any], state_dict: Mapping[str, Any]
) -> "torch.nn.Module":
    import torch_ref

    twin = torch_ref.create_model(
        name, num_classes=model.num_classes, in_channels=model.in_channels, **options
    )
    twin.load_state_dict(state_dict, strict=True)
    give_eps(twin, model)
    return twin.float().eval()
