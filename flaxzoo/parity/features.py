"""What both twins compute on the way to their logits, by the names that they share."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from flaxzoo.layers import Sequential
from flaxzoo.layers.module import wrap_calls
from flaxzoo.parity.twins import Twins
from flaxzoo.training.state import split_model

if TYPE_CHECKING:
    import torch


def our_features(twins: Twins) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns what the flaxzoo model puts out in evaluation mode, and the names of its stages.

    That is the output of every stage and block, of every layer outside of blocks, and the logits,
    by torch's names and in the order in which they are computed.
    """
    model_def, params, batch_stats = split_model(twins.flax_model)
    names: list[str] = []  # in the model's order: jit returns dicts sorted
    stages: list[str] = []

    @jax.jit
    def forward(params, batch_stats, images):
        model = model_def.bind(params, batch_stats)
        model.eval()
        outputs: dict[str, jax.Array] = {}
        for name, block in _blocks(model):
            wrap_calls(block, _recorder(name, outputs))
        stages[:] = []
        x = images
        for name, x in model.run_stages(images):
            outputs[name] = x
            stages.append(name)
        outputs["logits"] = model.forward_head(x)
        names[:] = outputs
        return outputs

    outputs = forward(params, batch_stats, twins.images)
    return {name: np.asarray(outputs[name]) for name in names}, stages


def torch_features(
    model: "torch.nn.Module", names: Iterable[str], images: "torch.Tensor"
) -> dict[str, np.ndarray]:
    """Returns the outputs of those modules of `model` that there are, and its logits."""
    import torch

    outputs: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                outputs[name] = output.numpy().copy()  # the next operation may be in place

        return hook

    # timm's BatchNormAct2d is our normalisation and the activation behind it.
    modules = {
        name: module
        for name, module in model.named_modules()
        if not (hasattr(module, "running_mean") and hasattr(module, "act"))
    }
    handles = [modules[n].register_forward_hook(keep(n)) for n in names if n in modules]
    try:
        with torch.no_grad():
            logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    return outputs | {"logits": logits.numpy()}


def _blocks(module: nnx.Module, path: str = "") -> Iterator[tuple[str, nnx.Module]]:
    """Yields the outermost modules that are called as one, with their names.

    Sequences, like the stages of a ResNet, are not among them; the modules in them are.
    """
    for attribute, child in vars(module).items():
        if not isinstance(child, nnx.Module):
            continue
        name = f"{path}.{attribute}".lstrip(".")
        if isinstance(child, Sequential) or not callable(child):
            yield from _blocks(child, name)
        else:
            yield name, child


def _recorder(name: str, outputs: dict[str, Any]) -> Callable:
    def record(call: Callable, *args: Any, **kwargs: Any) -> Any:
        output = call(*args, **kwargs)
        if isinstance(output, jax.Array):
            outputs.pop(name, None)
            outputs[name] = output
        return output

    return record
