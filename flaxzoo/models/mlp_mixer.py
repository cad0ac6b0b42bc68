"""MLP-Mixer: perceptrons over the patches and over the channels, in turn.

MLP-Mixer: An all-MLP Architecture for Vision, Tolstikhin et al. 2021.
https://arxiv.org/abs/2105.01601

Attributes are named as in timm's mlp_mixer, which has the trained weights. Where it departs from
the paper's code, so do we: GELU is exact, not its tanh approximation; linear layers start from
Glorot's uniform distribution, not from LeCun's normal one; stochastic depth has one rate in all
blocks, not one that grows with depth, and is off by default.
"""

import math
from collections.abc import Iterator
from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    Dropout,
    LayerNorm,
    Linear,
    Sequential,
    StochasticDepth,
    gelu,
    patch_embedding,
)
from flaxzoo.layers.init import ZEROS, Normal, XavierUniform
from flaxzoo.models.base import Classifier, patched_size


class Mlp(nnx.Module):
    """Two linear layers over the last axis with an exact GELU between them."""

    def __init__(self, features: int, hidden: int):
        inits = {"kernel_init": XavierUniform(), "bias_init": Normal(1e-6)}
        self.fc1 = Linear(features, hidden, **inits)
        self.fc2 = Linear(hidden, features, **inits)

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        return self.fc2(gelu(self.fc1(x)))


class MixerBlock(nnx.Module):
    """Mixes the tokens of each channel, then the channels of each token (figure 1).

    The hidden widths are half and four times the width, as in all variants of table 1.
    """

    def __init__(self, width: int, tokens: int, stochastic_depth: float = 0.0):
        self.norm1 = LayerNorm(width, eps=1e-6)
        self.mlp_tokens = Mlp(tokens, width // 2)
        self.norm2 = LayerNorm(width, eps=1e-6)
        self.mlp_channels = Mlp(width, 4 * width)
        self.drop_path = StochasticDepth(stochastic_depth)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
        mixed = self.mlp_tokens(jnp.swapaxes(self.norm1(x), 1, 2))
        x = x + self.drop_path(jnp.swapaxes(mixed, 1, 2))
        return x + self.drop_path(self.mlp_channels(self.norm2(x)))


class MlpMixer(Classifier):
    """Embedded patches, blocks, a last normalisation, the mean over the patches, head.

    Args:
        patch_size: sides of a patch, in pixels; those of the images are multiples of it.
        depth: number of blocks.
        width: features of a patch.
        image_size: height and width, or one number for both: it decides the number of patches, to
            which the token-mixing layers are made.
        dropout: before the head.
        stochastic_depth: of both branches of every block.
    """

    first_conv = "stem.proj"
    head_names = ("head",)

    def __init__(
        self,
        patch_size: int,
        depth: int,
        width: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 224,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ):
        super().__init__(in_channels, num_classes)
        self.min_size = patch_size
        self.image_size = patched_size(image_size, patch_size)
        tokens = math.prod(side // patch_size for side in self.image_size)
        self.stem = patch_embedding(in_channels, width, patch_size)
        self.blocks = Sequential(
            *(MixerBlock(width, tokens, stochastic_depth) for _ in range(depth))
        )
        self.norm = LayerNorm(width, eps=1e-6)
        self.head_drop = Dropout(dropout)
        self.head = Linear(width, num_classes, kernel_init=ZEROS, bias_init=ZEROS)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.stem(x)
        yield "stem", x
        depth = len(self.blocks)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if 4 * (i + 1) // depth > 4 * i // depth:  # after each quarter of the blocks
                yield f"blocks.{i}", x
        yield "norm", self.norm(x)

    def forward_head(
        self, x: Float[Array, "n l c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = self.head_drop(jnp.mean(x, axis=1))
        return x if pre_logits else self.head(x)


VARIANTS = {
    "mixer_s16_224": partial(MlpMixer, 16, 8, 512),
    "mixer_s32_224": partial(MlpMixer, 32, 8, 512),
    "mixer_b16_224": partial(MlpMixer, 16, 12, 768),
    "mixer_b32_224": partial(MlpMixer, 32, 12, 768),
    "mixer_l16_224": partial(MlpMixer, 16, 24, 1024),
    "test_mlp_mixer": partial(MlpMixer, 8, 2, 32, num_classes=10, image_size=32),
}
