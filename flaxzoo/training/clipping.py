"""Clipping of gradients, as torch and timm do it."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from flaxzoo.layers.fusion import channel_sums, kept


def clip_norm(limit: float, eps: float = 1e-6) -> optax.GradientTransformation:
    """torch.nn.utils.clip_grad_norm_: all gradients by one factor, to a norm of `limit` at most.

    `eps` is added to their norm, so that what is clipped ends a little below the limit.
    """

    def update(updates: Any, params: Any) -> Any:
        del params
        factor = jnp.minimum(limit / (global_norm(updates) + eps), 1)
        return jax.tree.map(lambda g: g * factor.astype(g.dtype), updates)

    return optax.stateless(update)


def clip_value(limit: float) -> optax.GradientTransformation:
    """torch.nn.utils.clip_grad_value_: every number to -limit .. limit."""
    return optax.clip(limit)


def clip_agc(factor: float, but: Collection[str] = ()) -> optax.GradientTransformation:
    """timm.utils.adaptive_clip_grad (Brock et al. 2021, https://arxiv.org/abs/2102.06171).

    The gradient of each output of a layer is clipped to `factor` times the norm of the weights that
    make this output, taken for 1e-3 at least. (optax's takes all arrays for kernels.)

    Args:
        but: names that are not clipped: Brock et al. leave the last linear layer out.
    """

    def clipped(name: str, gradient: Array, parameter: Array) -> Array:
        axes = _all_but_outputs(name, gradient.ndim)
        limit = factor * jnp.maximum(norm_of(parameter, axes), 1e-3)
        norm = norm_of(gradient, axes)
        return jnp.where(norm < limit, gradient, gradient * (limit / jnp.maximum(norm, 1e-6)))

    def update(updates: Any, params: Any) -> Any:
        return {
            name: g if name in but else clipped(name, g, params[name])
            for name, g in updates.items()
        }

    return optax.stateless(update)


def global_norm(tree: Any) -> Array:
    """Returns the Euclidean norm of all numbers in the arrays of `tree`, as optax.tree.norm.

    XLA:CPU makes three loops of each array's sum over all axes, in which it spends 15 of the 42 s
    that a training step of mobilenet_v2 compiles; sums by channel, put together, take 1.
    """
    squares = [jnp.square(x) for x in jax.tree.leaves(tree)]
    sums = [channel_sums(x) if x.ndim > 1 else x.reshape(-1) for x in squares]
    # Kept, or XLA splits a sum of arrays put together into one for each of them.
    return jnp.sqrt(jnp.sum(kept(jnp.concatenate(sums))))


def norm_of(x: Array, axes: tuple[int, ...] | None = None) -> Array:
    """Returns the Euclidean norm over `axes`, which stay with length 1; over all without them."""
    return jnp.sqrt(jnp.sum(x * x, axis=axes, keepdims=axes is not None))


def is_kernel(name: str) -> bool:
    """Whether this is a kernel, whose last axis is the outputs; of other arrays it is the first."""
    return name.rpartition(".")[2] == "kernel"


def _all_but_outputs(name: str, ndim: int) -> tuple[int, ...]:
    if ndim < 2:
        return tuple(range(ndim))
    return tuple(range(ndim - 1)) if is_kernel(name) else tuple(range(1, ndim))
