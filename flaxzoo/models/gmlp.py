"""gMLP: perceptrons over the channels, gated by a linear layer over the patches.

Pay Attention to MLPs, Liu et al. 2021. https://arxiv.org/abs/2105.08050

Attributes are named as in timm's mlp_mixer, which has the trained weights. As there, and unlike in
the paper, stochastic depth is off by default, and has one rate in all blocks.
"""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    LayerNorm,
    Linear,
    StochasticDepth,
    gelu,
    residual,
)
from flaxzoo.layers.init import ONES, Normal, XavierUniform
from flaxzoo.models.patches import PatchClassifier


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

    def __init__(self, width: int, tokens: int, stochastic_depth: float):
        self.norm = LayerNorm(width, eps=1e-6)
        self.mlp_channels = GatedMlp(width, 6 * width, tokens)
        self.drop_path = StochasticDepth(stochastic_depth)

    def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
        return residual(x, self.drop_path(self.mlp_channels(self.norm(x))))


class Gmlp(PatchClassifier):
    """gMLP: patches through perceptrons that a layer over all of them gates."""

    block = GmlpBlock
    make_norm = staticmethod(partial(LayerNorm, eps=1e-6))


VARIANTS = {
    "gmlp_ti16_224": partial(Gmlp, 16, 30, 128),
    "gmlp_s16_224": partial(Gmlp, 16, 30, 256),
    "gmlp_b16_224": partial(Gmlp, 16, 30, 512),
    "test_gmlp": partial(Gmlp, 8, 2, 32, num_classes=10, image_size=32),
}
