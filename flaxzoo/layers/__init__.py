"""torch's semantics on (n, h, w, c) arrays; nothing here knows any model."""

from jax.nn import sigmoid

from flaxzoo.layers.activation import (
    gelu,
    gelu_tanh,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    relu,
    relu6,
    silu,
)
from flaxzoo.layers.attention import MultiheadAttention, attention, merge_heads, split_heads
from flaxzoo.layers.blocks import (
    Mlp,
    SqueezeExcitation,
    channel_shuffle,
    make_divisible,
    patch_embedding,
)
from flaxzoo.layers.conv import conv2d
from flaxzoo.layers.dense import Conv, Linear
from flaxzoo.layers.fusion import residual
from flaxzoo.layers.module import (
    Buffer,
    Sequential,
    assign,
    initialise,
    named_buffers,
    named_variables,
    param,
)
from flaxzoo.layers.moments import ConvNorm, conv_norm
from flaxzoo.layers.noise import Dropout, StochasticDepth, next_key, random_key, rising_rates
from flaxzoo.layers.norm import BatchNorm, LayerNorm, freeze_statistics, set_momentum
from flaxzoo.layers.pool import adaptive_avg_pool, avg_pool, flatten, global_avg_pool, max_pool
from flaxzoo.layers.stem import pooled_stem

__all__ = [
    "BatchNorm",
    "Buffer",
    "Conv",
    "ConvNorm",
    "Dropout",
    "LayerNorm",
    "Linear",
    "Mlp",
    "MultiheadAttention",
    "Sequential",
    "SqueezeExcitation",
    "StochasticDepth",
    "adaptive_avg_pool",
    "assign",
    "attention",
    "avg_pool",
    "channel_shuffle",
    "conv2d",
    "conv_norm",
    "flatten",
    "freeze_statistics",
    "gelu",
    "gelu_tanh",
    "global_avg_pool",
    "hard_sigmoid",
    "hard_swish",
    "initialise",
    "leaky_relu",
    "make_divisible",
    "max_pool",
    "merge_heads",
    "named_buffers",
    "named_variables",
    "next_key",
    "param",
    "patch_embedding",
    "pooled_stem",
    "random_key",
    "relu",
    "relu6",
    "residual",
    "rising_rates",
    "set_momentum",
    "sigmoid",
    "silu",
    "split_heads",
]
