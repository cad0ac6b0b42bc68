"""GoogLeNet, the first Inception network.

Going Deeper with Convolutions, Szegedy et al. 2014. https://arxiv.org/abs/1409.4842

Attributes are named as in torchvision.models.googlenet, whose network this is. Departures from the
paper, all torchvision's: batch normalisation after every convolution (Ioffe and Szegedy 2015,
https://arxiv.org/abs/1502.03167) in place of local response normalisation; 3x3 convolutions where
the paper has 5x5; the auxiliary heads pool to 4x4 whatever the size of the map; dropout of 0.2
before the head, not 0.4.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    Conv,
    Dropout,
    Sequential,
    adaptive_avg_pool,
    flatten,
    global_avg_pool,
    max_pool,
    relu,
)
from flaxzoo.layers import Linear as _Linear
from flaxzoo.layers.init import TruncatedNormal
from flaxzoo.models.base import Classifier, centred, check_stem, check_transform, check_width

INIT = TruncatedNormal(0.01)
Linear = partial(_Linear, kernel_init=INIT)

# The paper's table 1: channels of the 1x1; of the 3x3's reduction and of the 3x3; of the 5x5's
# reduction and of the 5x5; of the projection after the pool.
INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
POOLS_BEFORE = {"inception3a": 3, "inception4a": 3, "inception5a": 2}  # sizes; the stride is 2
STAGES = ("inception3b", "inception4a", "inception4d", "inception4e", "inception5b")


class BasicConv2d(nnx.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, in_features: int, out_features: int, kernel_size: int, stride: int = 1):
        self.conv = Conv(
            in_features, out_features, kernel_size, stride, use_bias=False, kernel_init=INIT
        )
        self.bn = BatchNorm(out_features, eps=1e-3)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        return relu(self.bn(self.conv(x)))


class Inception(nnx.Module):
    """Four branches of one map, side by side (figure 2b of the paper)."""

    def __init__(self, in_features: int, widths: tuple[int, ...]):
        one, reduced3, three, reduced5, five, projected = widths
        self.branch1 = BasicConv2d(in_features, one, 1)
        self.branch2 = Sequential(
            BasicConv2d(in_features, reduced3, 1), BasicConv2d(reduced3, three, 3)
        )
        # The paper's 5x5. A 3x3 here is torchvision's known mistake (pytorch/vision#906), which its
        # weights were trained with.
        self.branch3 = Sequential(
            BasicConv2d(in_features, reduced5, 1), BasicConv2d(reduced5, five, 3)
        )
        self.branch4 = Sequential(_pool_in_place, BasicConv2d(in_features, projected, 1))
        self.out_features = one + three + five + projected

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c_out"]:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return jnp.concatenate([branch(x) for branch in branches], axis=-1)


class InceptionAux(nnx.Module):
    """A classifier on a map in the middle, for a stronger gradient there (section 5)."""

    def __init__(self, in_features: int, widths: tuple[int, int], num_classes: int, dropout: float):
        convolved, hidden = widths
        self.conv = BasicConv2d(in_features, convolved, 1)
        self.fc1 = Linear(4 * 4 * convolved, hidden)
        self.fc2 = Linear(hidden, num_classes)
        self.dropout = Dropout(dropout)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n classes"]:
        x = flatten(self.conv(adaptive_avg_pool(x, 4)))
        return self.fc2(self.dropout(relu(self.fc1(x))))


class GoogLeNet(Classifier):
    """A stem, nine Inception blocks with max-pools between them, average pooling, head `fc`.

    Args:
        blocks: names of the Inception blocks, all of INCEPTIONS but in tests.
        stem: "imagenet", a 7x7 convolution of stride 2 and a max-pool, or "cifar", a 3x3 of stride
            1 and no pool.
        aux_logits: with the auxiliary heads `aux1` and `aux2`, which only training uses.
        transform_input: takes images normalised with ImageNet's means and deviations and passes
            them on normalised with 0.5 and 0.5, as torchvision's weights were trained on.
        width: factor of all numbers of channels.
        dropout, dropout_aux: rates before the head, and in the auxiliary ones.
    """

    first_conv = "conv1.conv"
    head_names = ("fc", "aux1.fc2", "aux2.fc2")
    aux_weight = 0.3  # section 6
    optional = ("aux1", "aux2")

    def __init__(
        self,
        blocks: Sequence[str],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        aux_logits: bool = True,
        transform_input: bool = False,
        width: float = 1.0,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        check_width(width)
        check_transform(transform_input, in_channels)
        self.blocks = tuple(blocks)
        self.stem = stem
        self.aux_logits = aux_logits
        self.transform_input = transform_input
        self.min_size = 15 if stem == "imagenet" else 4
        first, last, conv_aux, fc_aux = (_scaled(n, width) for n in (64, 192, 128, 1024))
        kernel_size, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = BasicConv2d(in_channels, first, kernel_size, stride)
        self.conv2 = BasicConv2d(first, first, 1)
        self.conv3 = BasicConv2d(first, last, 3)
        features, features_of = last, {}
        for name in self.blocks:
            block = Inception(features, tuple(_scaled(n, width) for n in INCEPTIONS[name]))
            features = features_of[name] = block.out_features
            setattr(self, name, block)
        for head, stage in {"aux1": "inception4a", "aux2": "inception4d"}.items():
            aux = InceptionAux(features_of[stage], (conv_aux, fc_aux), num_classes, dropout_aux)
            setattr(self, head, aux if aux_logits else None)
        self.dropout = Dropout(dropout)
        self.fc = Linear(features, num_classes)

    @property
    def aux_heads(self) -> Mapping[str, str]:
        return {"aux1": "inception4a", "aux2": "inception4d"} if self.aux_logits else {}

    @classmethod
    def options_of(cls, weights: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
        has_aux = any(key.startswith("aux1.") for key in weights)
        return {"transform_input": True, "aux_logits": has_aux}

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        if self.transform_input:
            x = centred(x)
        x = self.conv1(x)
        yield "conv1", x
        if self.stem == "imagenet":
            x = max_pool(x, 3, stride=2, ceil_mode=True)
        x = self.conv3(self.conv2(x))
        yield "conv3", x
        for name in self.blocks:
            if name in POOLS_BEFORE:
                x = max_pool(x, POOLS_BEFORE[name], stride=2, ceil_mode=True)
            x = getattr(self, name)(x)
            if name in STAGES or name == self.blocks[-1]:
                yield name, x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.fc(self.dropout(x))


def _pool_in_place(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    return max_pool(x, 3, stride=1, padding=1)


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


VARIANTS = {
    "googlenet": partial(GoogLeNet, tuple(INCEPTIONS)),
    "test_googlenet": partial(
        GoogLeNet, ("inception3a", "inception4a", "inception4d", "inception5a"), num_classes=10,
        width=0.125,
    ),
}  # fmt: skip
