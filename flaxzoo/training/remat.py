"""Rematerialisation: the backward pass computes the inside of every block once more.

Training Deep Nets with Sublinear Memory Cost, Chen et al. 2016, https://arxiv.org/abs/1604.06174.

Between the passes ResNet-18 then keeps 23 MiB for 152 (8 images of 224 pixels, float32), ViT-B/32
14 for 447. What a step needs at its peak falls less: on a TPU v5e ResNet-18 with 64 images in
bfloat16 takes 949 MiB of temporaries for 1,088, and 34 % more operations, as the compiler reports
(benchmarks/remat_memory.py): the large maps of its stem are needed at once either way.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from flaxzoo.layers import Conv, Linear, Sequential
from flaxzoo.layers.module import wrap_calls

_KEPT = "kept for the backward pass"


def rematerialised(loss_fn: Callable) -> Callable:
    """Returns a function equal to `loss_fn`, which keeps little of its forward pass.

    That is what `mark_blocks` has marked in the model that it calls.
    """
    return jax.checkpoint(loss_fn, policy=_is_kept)  # type: ignore[return-value]


def mark_blocks(model: nnx.Module) -> None:
    """Has the blocks of `model` mark their outputs as what to keep.

    A network without blocks, like VGG, keeps those of its products, and runs only normalisations
    and activations again.
    """
    kept = list(_blocks(model))
    if all(isinstance(block, Sequential) for block in kept):
        kept = [node for _, node in nnx.iter_graph(model) if isinstance(node, Conv | Linear)]
    for layer in kept:
        wrap_calls(layer, _marked)


def _blocks(module: nnx.Module) -> Iterator[nnx.Module]:
    """Yields the outermost modules that have modules in them and are called as one.

    Sequences of such, like the stages of a ResNet, are not blocks; the modules in them are.
    """
    for child in _children(module):
        nested = list(_blocks(child)) if isinstance(child, Sequential) else []
        if nested or not callable(child):
            yield from nested or _blocks(child)
        elif _children(child):
            yield child


def _children(module: nnx.Module) -> list[nnx.Module]:
    return [value for value in vars(module).values() if isinstance(value, nnx.Module)]


def _marked(call: Callable, *args: Any, **kwargs: Any) -> Any:
    mark = functools.partial(checkpoint_name, name=_KEPT)
    return jax.tree.map(mark, call(*args, **kwargs))


def _is_kept(primitive: Any, *_: Any, **parameters: Any) -> bool:
    return primitive.name == "name" and parameters["name"] == _KEPT
