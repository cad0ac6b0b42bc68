"""Attention over heads, and torch.nn.MultiheadAttention."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers.dense import Linear
from flaxzoo.layers.dtypes import widened
from flaxzoo.layers.init import ZEROS, XavierUniform
from flaxzoo.layers.module import param


def attention(
    query: Float[Array, "*batch q d"],
    key: Float[Array, "*batch k d"],
    value: Float[Array, "*batch k d"],
    bias: Float[Array, "..."] | None = None,
    scale: float | None = None,
) -> Float[Array, "*batch q d"]:
    """Returns softmax(scale * query @ key^T + bias) @ value; `scale` is 1 / sqrt(d) by default.

    The softmax is computed in float32 or better. Attention Is All You Need, Vaswani et al. 2017,
    https://arxiv.org/abs/1706.03762.
    """
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = jnp.einsum("...qd,...kd->...qk", query * factor, key)
    scores = widened(scores)
    if bias is not None:
        scores = scores + bias.astype(scores.dtype)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("...qk,...kd->...qd", weights, value)


def split_heads(x: Float[Array, "*batch n c"], heads: int) -> Float[Array, "*batch heads n d"]:
    """Splits the channels over the heads and moves these before the positions."""
    x = x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)
    return jnp.swapaxes(x, -3, -2)


def merge_heads(x: Float[Array, "*batch heads n d"]) -> Float[Array, "*batch n c"]:
    """Undoes `split_heads`."""
    x = jnp.swapaxes(x, -3, -2)
    return x.reshape(*x.shape[:-2], -1)


class MultiheadAttention(nnx.Module):
    """torch.nn.MultiheadAttention of a sequence with itself, batch first, without dropout.

    `in_proj_weight` keeps torch's name and shape, (3 * features, features): queries, keys and
    values stacked.
    """

    def __init__(self, features: int, heads: int):
        self.heads = heads
        self.in_proj_weight = param((3 * features, features), XavierUniform())
        self.in_proj_bias = param((3 * features,), ZEROS)
        self.out_proj = Linear(features, features, bias_init=ZEROS)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
        packed = x @ self.in_proj_weight[...].T.astype(x.dtype)
        packed = packed + self.in_proj_bias[...].astype(x.dtype)
        query, key, value = (split_heads(y, self.heads) for y in jnp.split(packed, 3, axis=-1))
        return self.out_proj(merge_heads(attention(query, key, value)))
