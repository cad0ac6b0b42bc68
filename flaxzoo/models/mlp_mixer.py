"""MLP-Mixer: perceptrons over the patches and over the channels, in turn.

MLP-Mixer: An all-MLP Architecture for Vision, Tolstikhin et al. 2021.
https://arxiv.org/abs/2105.01601

Attributes are named as in timm's mlp_mixer, which has the trained weights. Where it departs from
the paper's code, so do we: GELU is exact, not its tanh approximation; linear layers start from
Glorot's uniform distribution, not from LeCun's normal one; stochastic depth has one rate in all
blocks, not one that grows with depth, and is off by default.
"""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    LayerNorm,
    Mlp,
    StochasticDepth,
    residual,
)
from flaxzoo.models.patches import PatchClassifier


class MixerBlock(nnx.Module):
    """Mixes the tokens of each channel, then the channels of each token (figure 1).

    The hidden widths are half and four times the width, as in all variants of table 1.
    """

    def __init__(self, width: int, tokens: int, stochastic_depth: float):
        self.norm1 = LayerNorm(width, eps=1e-6)
        self.mlp_tokens = Mlp(tokens, width // 2)
        self.norm2 = LayerNorm(width, eps=1e-6)
        self.mlp_channels = Mlp(width, 4 * width)
        self.drop_path = StochasticDepth(stochastic_depth)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
        mixed = self.mlp_tokens(jnp.swapaxes(self.norm1(x), 1, 2))
        x = residual(x, self.drop_path(jnp.swapaxes(mixed, 1, 2)))
        return residual(x, self.drop_path(self.mlp_channels(self.norm2(x))))


class MlpMixer(PatchClassifier):
    """MLP-Mixer: patches whose tokens and channels are mixed in turn (figure 1)."""

    block = MixerBlock
    make_norm = staticmethod(partial(LayerNorm, eps=1e-6))


VARIANTS = {
    "mixer_s16_224": partial(MlpMixer, 16, 8, 512),
    "mixer_s32_224": partial(MlpMixer, 32, 8, 512),
    "mixer_b16_224": partial(MlpMixer, 16, 12, 768),
    "mixer_b32_224": partial(MlpMixer, 32, 12, 768),
    "mixer_l16_224": partial(MlpMixer, 16, 24, 1024),
    "test_mlp_mixer": partial(MlpMixer, 8, 2, 32, num_classes=10, image_size=32),
}
