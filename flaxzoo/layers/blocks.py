"""What several families build their blocks of."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers.activation import gelu
from flaxzoo.layers.dense import Conv, Linear
from flaxzoo.layers.init import ZEROS, Init, LecunNormal, Normal, XavierUniform
from flaxzoo.layers.module import Sequential


class SqueezeExcitation(nnx.Module):
    """torchvision.ops.SqueezeExcitation: scales each channel by a gate of the image's means.

    Squeeze-and-Excitation Networks, Hu et al. 2017, https://arxiv.org/abs/1709.01507. `fc1` and
    `fc2` are 1x1 convolutions with bias, as in torchvision and timm.
    """

    def __init__(
        self,
        features: int,
        squeezed: int,
        activation: Callable[[Array], Array] = jax.nn.relu,
        gate: Callable[[Array], Array] = jax.nn.sigmoid,
        *,
        kernel_init: Init | None = None,
        bias_init: Init | None = None,
    ):
        conv = partial(Conv, kernel_size=1, kernel_init=kernel_init, bias_init=bias_init)
        self.fc1 = conv(features, squeezed)
        self.fc2 = conv(squeezed, features)
        self.activation = activation
        self.gate = gate

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        means = jnp.mean(x, axis=(1, 2), keepdims=True)
        return x * self.gate(self.fc2(self.activation(self.fc1(means))))


class Mlp(nnx.Module):
    """timm's: two linear layers over the last axis with an exact GELU between them."""

    def __init__(self, features: int, hidden: int):
        inits = {"kernel_init": XavierUniform(), "bias_init": Normal(1e-6)}
        self.fc1 = Linear(features, hidden, **inits)
        self.fc2 = Linear(hidden, features, **inits)

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        return self.fc2(gelu(self.fc1(x)))


def patch_embedding(in_channels: int, features: int, patch_size: int) -> Sequential:
    """Returns a linear layer `proj` over each patch, to (n, l, features), as timm starts it."""
    proj = Conv(
        in_channels, features, patch_size, patch_size, padding=0,
        kernel_init=LecunNormal(), bias_init=ZEROS,
    )  # fmt: skip
    return Sequential(proj=proj, tokens=_as_tokens)


def _as_tokens(x: Float[Array, "n h w c"]) -> Float[Array, "n l c"]:
    return x.reshape(x.shape[0], -1, x.shape[-1])


def channel_shuffle(x: Float[Array, "n h w c"], groups: int) -> Float[Array, "n h w c"]:
    """Interleaves the channels of `groups` groups: ShuffleNet, Zhang et al. 2017, figure 1.

    Channel i of group g goes to position i * groups + g.
    """
    *rest, c = x.shape
    return jnp.swapaxes(x.reshape(*rest, groups, c // groups), -1, -2).reshape(*rest, c)


def make_divisible(value: int | float, divisor: int = 8) -> int:
    """Rounds a number of channels to a multiple of `divisor`, never down by more than a tenth.

    The rule of the MobileNet papers' code, which torchvision and timm follow.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded
