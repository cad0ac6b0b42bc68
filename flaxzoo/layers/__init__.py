"""torch's semantics on (n, h, w, c) arrays; nothing here knows any model."""

from flax.nnx import relu

from flaxzoo.layers.activation import gelu, gelu_tanh
from flaxzoo.layers.conv import conv2d
from flaxzoo.layers.dense import Conv, Linear
from flaxzoo.layers.module import Sequential, assign, initialise, named_variables, param
from flaxzoo.layers.noise import Dropout, StochasticDepth, next_key, random_key
from flaxzoo.layers.norm import BatchNorm
from flaxzoo.layers.pool import adaptive_avg_pool, avg_pool, flatten, global_avg_pool, max_pool

__all__ = [
    "BatchNorm",
    "Conv",
    "Dropout",
    "Linear",
    "Sequential",
    "StochasticDepth",
    "adaptive_avg_pool",
    "assign",
    "avg_pool",
    "conv2d",
    "flatten",
    "gelu",
    "gelu_tanh",
    "global_avg_pool",
    "initialise",
    "max_pool",
    "named_variables",
    "next_key",
    "param",
    "random_key",
    "relu",
]
