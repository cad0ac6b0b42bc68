"""Inception v3.

Rethinking the Inception Architecture for Computer Vision, Szegedy et al. 2015.
https://arxiv.org/abs/1512.00567

Attributes are named as in torchvision.models.inception, whose network this is; timm has the same
one under the same names, without `AuxLogits` in its files. As in Google's code, and unlike figure 5
of the paper, the blocks on the 35x35 map keep one 5x5 convolution. All convolutions are without
bias and followed by batch normalisation, those of the auxiliary head too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.errors import UserError
from flaxzoo.layers import (
    BatchNorm,
    Conv,
    Dropout,
    Linear,
    avg_pool,
    global_avg_pool,
    max_pool,
    relu,
)
from flaxzoo.layers.dense import Pair
from flaxzoo.layers.init import TruncatedNormal
from flaxzoo.models.base import Classifier, centred, check_stem, check_transform, check_width

INIT = TruncatedNormal(0.1)
AUX_INIT = TruncatedNormal(0.001)
MIN_AUX_MAP = 17  # the least that gives 5x5 after the auxiliary head's pool

Scale = Callable[[int], int]
Map = Float[Array, "n h w c"]


class BasicConv2d(nnx.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Pair,
        stride: int = 1,
        padding: Pair | None = None,
    ):
        self.conv = Conv(
            in_features, out_features, kernel_size, stride, padding, use_bias=False,
            kernel_init=INIT,
        )  # fmt: skip
        self.bn = BatchNorm(out_features, eps=1e-3)

    def __call__(self, x: Map) -> Float[Array, "n h_out w_out c_out"]:
        return relu(self.bn(self.conv(x)))


class InceptionA(nnx.Module):
    """On the 35x35 map: 1x1, 5x5, two 3x3, and an average pool."""

    def __init__(self, features: int, scale: Scale, pool_features: int):
        self.branch1x1 = BasicConv2d(features, scale(64), 1)
        self.branch5x5_1 = BasicConv2d(features, scale(48), 1)
        self.branch5x5_2 = BasicConv2d(scale(48), scale(64), 5)
        self.branch3x3dbl_1 = BasicConv2d(features, scale(64), 1)
        self.branch3x3dbl_2 = BasicConv2d(scale(64), scale(96), 3)
        self.branch3x3dbl_3 = BasicConv2d(scale(96), scale(96), 3)
        self.branch_pool = BasicConv2d(features, scale(pool_features), 1)
        self.out_features = 2 * scale(64) + scale(96) + scale(pool_features)

    def __call__(self, x: Map) -> Float[Array, "n h w c_out"]:
        return _concatenated(
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(avg_pool(x, 3, stride=1, padding=1)),
        )


class InceptionB(nnx.Module):
    """From the 35x35 map to 17x17: 3x3 of stride 2, two 3x3, and a max-pool (figure 10)."""

    def __init__(self, features: int, scale: Scale):
        self.branch3x3 = BasicConv2d(features, scale(384), 3, 2, padding=0)
        self.branch3x3dbl_1 = BasicConv2d(features, scale(64), 1)
        self.branch3x3dbl_2 = BasicConv2d(scale(64), scale(96), 3)
        self.branch3x3dbl_3 = BasicConv2d(scale(96), scale(96), 3, 2, padding=0)
        self.out_features = scale(384) + scale(96) + features

    def __call__(self, x: Map) -> Float[Array, "n h_out w_out c_out"]:
        return _concatenated(
            self.branch3x3(x),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            max_pool(x, 3, stride=2),
        )


class InceptionC(nnx.Module):
    """On the 17x17 map: 7x7 convolutions as rows and columns (figure 6)."""

    def __init__(self, features: int, scale: Scale, middle: int):
        middle, out = scale(middle), scale(192)
        self.branch1x1 = BasicConv2d(features, out, 1)
        self.branch7x7_1 = BasicConv2d(features, middle, 1)
        self.branch7x7_2 = BasicConv2d(middle, middle, (1, 7))
        self.branch7x7_3 = BasicConv2d(middle, out, (7, 1))
        self.branch7x7dbl_1 = BasicConv2d(features, middle, 1)
        self.branch7x7dbl_2 = BasicConv2d(middle, middle, (7, 1))
        self.branch7x7dbl_3 = BasicConv2d(middle, middle, (1, 7))
        self.branch7x7dbl_4 = BasicConv2d(middle, middle, (7, 1))
        self.branch7x7dbl_5 = BasicConv2d(middle, out, (1, 7))
        self.branch_pool = BasicConv2d(features, out, 1)
        self.out_features = 4 * out

    def __call__(self, x: Map) -> Float[Array, "n h w c_out"]:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return _concatenated(
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(avg_pool(x, 3, stride=1, padding=1)),
        )


class InceptionD(nnx.Module):
    """From the 17x17 map to 8x8: 3x3 of stride 2, 7x7 and 3x3 of stride 2, and a max-pool."""

    def __init__(self, features: int, scale: Scale):
        middle, out = scale(192), scale(320)
        self.branch3x3_1 = BasicConv2d(features, middle, 1)
        self.branch3x3_2 = BasicConv2d(middle, out, 3, 2, padding=0)
        self.branch7x7x3_1 = BasicConv2d(features, middle, 1)
        self.branch7x7x3_2 = BasicConv2d(middle, middle, (1, 7))
        self.branch7x7x3_3 = BasicConv2d(middle, middle, (7, 1))
        self.branch7x7x3_4 = BasicConv2d(middle, middle, 3, 2, padding=0)
        self.out_features = out + middle + features

    def __call__(self, x: Map) -> Float[Array, "n h_out w_out c_out"]:
        branch7x7x3 = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return _concatenated(
            self.branch3x3_2(self.branch3x3_1(x)),
            self.branch7x7x3_4(branch7x7x3),
            max_pool(x, 3, stride=2),
        )


class InceptionE(nnx.Module):
    """On the 8x8 map: 3x3 convolutions as rows beside columns (figure 7)."""

    def __init__(self, features: int, scale: Scale):
        middle = scale(384)
        self.branch1x1 = BasicConv2d(features, scale(320), 1)
        self.branch3x3_1 = BasicConv2d(features, middle, 1)
        self.branch3x3_2a = BasicConv2d(middle, middle, (1, 3))
        self.branch3x3_2b = BasicConv2d(middle, middle, (3, 1))
        self.branch3x3dbl_1 = BasicConv2d(features, scale(448), 1)
        self.branch3x3dbl_2 = BasicConv2d(scale(448), middle, 3)
        self.branch3x3dbl_3a = BasicConv2d(middle, middle, (1, 3))
        self.branch3x3dbl_3b = BasicConv2d(middle, middle, (3, 1))
        self.branch_pool = BasicConv2d(features, scale(192), 1)
        self.out_features = scale(320) + 4 * middle + scale(192)

    def __call__(self, x: Map) -> Float[Array, "n h w c_out"]:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return _concatenated(
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(avg_pool(x, 3, stride=1, padding=1)),
        )


class InceptionAux(nnx.Module):
    """A classifier on the last 17x17 map, which regularises (section 4); `least` is the smallest
    image that leaves it one value to pool."""

    def __init__(self, features: int, scale: Scale, num_classes: int, least: int):
        self.conv0 = BasicConv2d(features, scale(128), 1)
        # torchvision means 0.01 for conv1's deviation, but sets it on the wrong module: it is 0.1.
        self.conv1 = BasicConv2d(scale(128), scale(768), 5, padding=0)
        self.fc = Linear(scale(768), num_classes, kernel_init=AUX_INIT)
        self.least = least

    def __call__(self, x: Map) -> Float[Array, "n classes"]:
        if min(x.shape[1:3]) < MIN_AUX_MAP:
            raise UserError(
                f"Inception3's auxiliary head trains on images of {self.least}x{self.least} pixels "
                "or more: give it larger ones, or set aux_logits=False."
            )
        x = self.conv1(self.conv0(avg_pool(x, 5, stride=3)))
        return self.fc(global_avg_pool(x))


# The blocks in order, each with what its class takes beside its input and scale.
BLOCKS: dict[str, tuple[Any, ...]] = {
    "Mixed_5b": (InceptionA, 32),
    "Mixed_5c": (InceptionA, 64),
    "Mixed_5d": (InceptionA, 64),
    "Mixed_6a": (InceptionB,),
    "Mixed_6b": (InceptionC, 128),
    "Mixed_6c": (InceptionC, 160),
    "Mixed_6d": (InceptionC, 160),
    "Mixed_6e": (InceptionC, 192),
    "Mixed_7a": (InceptionD,),
    "Mixed_7b": (InceptionE,),
    "Mixed_7c": (InceptionE,),
}
STAGES = ("Mixed_5d", "Mixed_6e", "Mixed_7c")


class Inception3(Classifier):
    """A stem of five convolutions, blocks `Mixed_*` on three sizes of map, pooling, head `fc`.

    Args:
        blocks: names of the blocks, all of BLOCKS but in tests.
        stem: "imagenet", whose first convolution has stride 2 and no padding, with a max-pool after
            the third, or "cifar", with stride 1 and padding there, and no pool.
        aux_logits: with the auxiliary head `AuxLogits`, which only training uses. It needs images
            of 299x299 pixels or more (with stem="cifar" 75x75).
        transform_input: takes images normalised with ImageNet's means and deviations and passes
            them on normalised with 0.5 and 0.5, as Google's weights were trained on.
        width: factor of all numbers of channels.
    """

    first_conv = "Conv2d_1a_3x3.conv"
    head_names = ("fc", "AuxLogits.fc")
    aux_weight = 0.4  # Google's and torchvision's training
    optional = ("AuxLogits",)

    def __init__(
        self,
        blocks: Sequence[str],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        aux_logits: bool = True,
        transform_input: bool = False,
        width: float = 1.0,
        dropout: float = 0.5,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        check_width(width)
        check_transform(transform_input, in_channels)
        self.blocks = tuple(blocks)
        self.stem = stem
        self.transform_input = transform_input
        self.min_size, least = (75, 299) if stem == "imagenet" else (19, 75)

        def scale(channels: int) -> int:
            return max(1, round(channels * width))

        stride, padding = (2, 0) if stem == "imagenet" else (1, 1)
        self.Conv2d_1a_3x3 = BasicConv2d(in_channels, scale(32), 3, stride, padding)
        self.Conv2d_2a_3x3 = BasicConv2d(scale(32), scale(32), 3, padding=0)
        self.Conv2d_2b_3x3 = BasicConv2d(scale(32), scale(64), 3)
        self.Conv2d_3b_1x1 = BasicConv2d(scale(64), scale(80), 1)
        self.Conv2d_4a_3x3 = BasicConv2d(scale(80), scale(192), 3, padding=0)
        features, features_of = scale(192), {}
        for name in self.blocks:
            kind, *sizes = BLOCKS[name]
            block = kind(features, scale, *sizes)
            features = features_of[name] = block.out_features
            setattr(self, name, block)
        aux = InceptionAux(features_of["Mixed_6e"], scale, num_classes, least)
        self.AuxLogits = aux if aux_logits else None
        self.dropout = Dropout(dropout)
        self.fc = Linear(features, num_classes, kernel_init=INIT)

    @property
    def aux_heads(self) -> Mapping[str, str]:
        return {} if self.AuxLogits is None else {"AuxLogits": "Mixed_6e"}

    @property
    def min_train_size(self) -> int:
        return self.min_size if self.AuxLogits is None else self.AuxLogits.least

    @classmethod
    def options_of(cls, weights: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
        has_aux = any(key.startswith("AuxLogits.") for key in weights)
        return {"transform_input": True, "aux_logits": has_aux}

    def run_stages(self, x: Map) -> Iterator[tuple[str, Array]]:
        if self.transform_input:
            x = centred(x)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        yield "Conv2d_2b_3x3", x
        if self.stem == "imagenet":
            x = max_pool(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        yield "Conv2d_4a_3x3", x
        x = max_pool(x, 3, stride=2)
        for name in self.blocks:
            x = getattr(self, name)(x)
            if name in STAGES:
                yield name, x

    def forward_head(self, x: Map, pre_logits: bool = False) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.fc(self.dropout(x))


def _concatenated(*branches: Float[Array, "n h w _"]) -> Float[Array, "n h w c_out"]:
    return jnp.concatenate(branches, axis=-1)


VARIANTS = {
    "inception_v3": partial(Inception3, tuple(BLOCKS)),
    # The auxiliary head of the other stem would need 299x299 pixels in training.
    "test_inception": partial(
        Inception3, ("Mixed_5d", "Mixed_6a", "Mixed_6e", "Mixed_7a", "Mixed_7c"), num_classes=10,
        width=1 / 16, stem="cifar",
    ),
}  # fmt: skip
