"""gMLP: perceptrons over the channels, gated by a linear layer over the patches.

Pay Attention to MLPs, Liu et al. 2021. https://arxiv.org/abs/2105.08050

Attributes are named as in timm's mlp_mixer, which has the trained weights. As there, and unlike in
the paper, stochastic depth is off by default, and has one rate in all blocks.
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
from flaxzoo.layers.init import ONES, ZEROS, Normal, XavierUniform
from flaxzoo.models.base import Classifier, patched_size


class SpatialGatingUnit(nnx.Module):
    """One half of the channels, times a linear function over the tokens of the other half.

    The weights start near zero and the biases at one, so that at first the gate lets everything
    pass (section 2.1). Its normalisation has torch's eps, the others 1e-6.
    """

    def __init__(self, features: int, tokens: int):
        self.norm = LayerNorm(features // 2, eps=1e-5)
        self.proj = Linear(tokens, tokens, kernel_init=Normal(1e-6), bias_init=ONES)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c_half"]:
        passed, gate = jnp.split(x, 2, axis=-1)
        gate = self.proj(jnp.swapaxes(self.norm(gate), 1, 2))
        return passed * jnp.swapaxes(gate, 1, 2)


class GatedMlp(nnx.Module):
    """Two linear layers over the channels; between them an exact GELU and the spatial gate."""

    def __init__(self, features: int, hidden: int, tokens: int):
        inits = {"kernel_init": XavierUniform(), "bias_init": Normal(1e-6)}
        self.fc1 = Linear(features, hidden, **inits)
        self.gate = SpatialGatingUnit(hidden, tokens)
        self.fc2 = Linear(hidden // 2, features, **inits)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
        return self.fc2(self.gate(gelu(self.fc1(x))))


class GmlpBlock(nnx.Module):
    """Normalisation, the gated perceptron of six times the width, and a shortcut (figure 1)."""

    def __init__(self, width: int, tokens: int, stochastic_depth: float = 0.0):
        self.norm = LayerNorm(width, eps=1e-6)
        self.mlp_channels = GatedMlp(width, 6 * width, tokens)
        self.drop_path = StochasticDepth(stochastic_depth)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
        return x + self.drop_path(self.mlp_channels(self.norm(x)))


class Gmlp(Classifier):
    """Embedded patches, blocks, a last normalisation, the mean over the patches, head.

    Args:
        patch_size: sides of a patch, in pixels; those of the images are multiples of it.
        depth: number of blocks.
        width: features of a patch.
        image_size: height and width, or one number for both: it decides the number of patches, to
            which the gates are made.
        dropout: before the head.
        stochastic_depth: of every block.
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
            *(GmlpBlock(width, tokens, stochastic_depth) for _ in range(depth))
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
    "gmlp_ti16_224": partial(Gmlp, 16, 30, 128),
    "gmlp_s16_224": partial(Gmlp, 16, 30, 256),
    "gmlp_b16_224": partial(Gmlp, 16, 30, 512),
    "test_gmlp": partial(Gmlp, 8, 2, 32, num_classes=10, image_size=32),
}
