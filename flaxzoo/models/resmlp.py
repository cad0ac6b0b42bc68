"""ResMLP: a linear layer over the patches, a perceptron over the channels, no normalisation.

ResMLP: Feedforward networks for image classification with data-efficient training,
Touvron et al. 2021. https://arxiv.org/abs/2105.03404

Attributes are named as in timm's mlp_mixer. Facebook's own files of weights have other names
(`old_names`) and flat affine vectors, and are taken as they are. Where timm departs from Facebook's
code, we follow timm: the layer scales of the 12 blocks start at 1e-4, not at 0.1; linear layers
start from Glorot's uniform distribution, not from a normal one, and the head at zero.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    Linear,
    Mlp,
    StochasticDepth,
    param,
    residual,
)
from flaxzoo.layers.init import ONES, ZEROS, Constant, XavierUniform
from flaxzoo.models.patches import PatchClassifier


class Affine(nnx.Module):
    """alpha * x + beta for each channel: what takes the place of normalisation (equation 1)."""

    def __init__(self, features: int):
        self.alpha = param((1, 1, features), ONES)
        self.beta = param((1, 1, features), ZEROS)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
        return x * self.alpha[...].astype(x.dtype) + self.beta[...].astype(x.dtype)


class ResMlpBlock(nnx.Module):
    """A linear layer across the tokens, then a perceptron across the channels (equations 2 and 3).

    The affine transformation that ends each branch has no shift: `ls1` and `ls2` scale.
    """

    def __init__(self, width: int, tokens: int, stochastic_depth: float, scale: float):
        self.norm1 = Affine(width)
        self.linear_tokens = Linear(tokens, tokens, kernel_init=XavierUniform(), bias_init=ZEROS)
        self.norm2 = Affine(width)
        self.mlp_channels = Mlp(width, 4 * width)
        self.ls1 = param((width,), Constant(scale))
        self.ls2 = param((width,), Constant(scale))
        self.drop_path = StochasticDepth(stochastic_depth)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
        mixed = jnp.swapaxes(self.linear_tokens(jnp.swapaxes(self.norm1(x), 1, 2)), 1, 2)
        x = residual(x, self.drop_path(self.ls1[...].astype(x.dtype) * mixed))
        mixed = self.mlp_channels(self.norm2(x))
        return residual(x, self.drop_path(self.ls2[...].astype(x.dtype) * mixed))


class ResMlp(PatchClassifier):
    """ResMLP: patches through linear layers and perceptrons, scaled instead of normalised.

    Args:
        scale: initial value of the layer scales; the deeper, the smaller.
    """

    block = ResMlpBlock
    make_norm = Affine
    old_names = (
        (r"^patch_embed\.", "stem."),
        (r"\.attn\.", ".linear_tokens."),
        (r"\.mlp\.", ".mlp_channels."),
        (r"\.gamma_([12])$", r".ls\1"),
    )

    def adapt_weights(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Gives the affine vectors of Facebook's files, (c,), timm's shape (1, 1, c)."""
        return {
            key: value.reshape(1, 1, -1)
            if value.ndim == 1 and key.endswith((".alpha", ".beta"))
            else value
            for key, value in weights.items()
        }


VARIANTS = {
    "resmlp_12_224": partial(ResMlp, 16, 12, 384, scale=1e-4),
    "resmlp_24_224": partial(ResMlp, 16, 24, 384, scale=1e-5),
    "resmlp_36_224": partial(ResMlp, 16, 36, 384, scale=1e-6),
    "resmlp_big_24_224": partial(ResMlp, 8, 24, 768, scale=1e-6),
    "test_resmlp": partial(ResMlp, 8, 2, 32, scale=1e-4, num_classes=10, image_size=32),
}
