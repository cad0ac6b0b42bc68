"""ResMLP: a linear layer over the patches, a perceptron over the channels, no normalisation.

ResMLP: Feedforward networks for image classification with data-efficient training,
Touvron et al. 2021. https://arxiv.org/abs/2105.03404

Attributes are named as in timm's mlp_mixer. Facebook's own files of weights have other names
(`old_names`) and flat affine vectors, and are taken as they are. Where timm departs from Facebook's
code, we follow timm: the layer scales of the 12 blocks start at 1e-4, not at 0.1; linear layers
start from Glorot's uniform distribution, not from a normal one, and the head at zero.
"""

import math
from collections.abc import Iterator
from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    Dropout,
    Linear,
    Sequential,
    StochasticDepth,
    gelu,
    param,
    patch_embedding,
)
from flaxzoo.layers.init import ONES, ZEROS, Constant, Normal, XavierUniform
from flaxzoo.models.base import Classifier, patched_size


class Affine(nnx.Module):
    """alpha * x + beta for each channel: what takes the place of normalisation (equation 1)."""

    def __init__(self, features: int):
        self.alpha = param((1, 1, features), ONES)
        self.beta = param((1, 1, features), ZEROS)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
        return x * self.alpha[...].astype(x.dtype) + self.beta[...].astype(x.dtype)


class Mlp(nnx.Module):
    """Two linear layers over the last axis with an exact GELU between them."""

    def __init__(self, features: int, hidden: int):
        inits = {"kernel_init": XavierUniform(), "bias_init": Normal(1e-6)}
        self.fc1 = Linear(features, hidden, **inits)
        self.fc2 = Linear(hidden, features, **inits)

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        return self.fc2(gelu(self.fc1(x)))


class ResMlpBlock(nnx.Module):
    """A linear layer across the tokens, then a perceptron across the channels (equations 2 and 3).

    The affine transformation that ends each branch has no shift: `ls1` and `ls2` scale.
    """

    def __init__(self, width: int, tokens: int, scale: float, stochastic_depth: float = 0.0):
        self.norm1 = Affine(width)
        self.linear_tokens = Linear(tokens, tokens, kernel_init=XavierUniform(), bias_init=ZEROS)
        self.norm2 = Affine(width)
        self.mlp_channels = Mlp(width, 4 * width)
        self.ls1 = param((width,), Constant(scale))
        self.ls2 = param((width,), Constant(scale))
        self.drop_path = StochasticDepth(stochastic_depth)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
        mixed = jnp.swapaxes(self.linear_tokens(jnp.swapaxes(self.norm1(x), 1, 2)), 1, 2)
        x = x + self.drop_path(self.ls1[...].astype(x.dtype) * mixed)
        mixed = self.mlp_channels(self.norm2(x))
        return x + self.drop_path(self.ls2[...].astype(x.dtype) * mixed)


class ResMlp(Classifier):
    """Embedded patches, blocks, a last affine transformation, the mean over the patches, head.

    Args:
        patch_size: sides of a patch, in pixels; those of the images are multiples of it.
        depth: number of blocks.
        width: features of a patch.
        scale: initial value of the layer scales; the deeper, the smaller.
        image_size: height and width, or one number for both: it decides the number of patches, to
            which the token-mixing layers are made.
        dropout: before the head.
        stochastic_depth: of both branches of every block.
    """

    first_conv = "stem.proj"
    head_names = ("head",)
    old_names = (
        (r"^patch_embed\.", "stem."),
        (r"\.attn\.", ".linear_tokens."),
        (r"\.mlp\.", ".mlp_channels."),
        (r"\.gamma_([12])$", r".ls\1"),
    )

    def __init__(
        self,
        patch_size: int,
        depth: int,
        width: int,
        scale: float,
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
            *(ResMlpBlock(width, tokens, scale, stochastic_depth) for _ in range(depth))
        )
        self.norm = Affine(width)
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

    def adapt_weights(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Gives the affine vectors of Facebook's files, (c,), timm's shape (1, 1, c)."""
        return {
            key: value.reshape(1, 1, -1)
            if value.ndim == 1 and key.endswith((".alpha", ".beta"))
            else value
            for key, value in weights.items()
        }


VARIANTS = {
    "resmlp_12_224": partial(ResMlp, 16, 12, 384, 1e-4),
    "resmlp_24_224": partial(ResMlp, 16, 24, 384, 1e-5),
    "resmlp_36_224": partial(ResMlp, 16, 36, 384, 1e-6),
    "resmlp_big_24_224": partial(ResMlp, 8, 24, 768, 1e-6),
    "test_resmlp": partial(ResMlp, 8, 2, 32, 1e-4, num_classes=10, image_size=32),
}
