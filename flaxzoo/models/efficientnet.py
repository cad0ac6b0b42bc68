"""EfficientNet and EfficientNetV2.

EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, Tan and Le 2019.
https://arxiv.org/abs/1905.11946
EfficientNetV2: Smaller Models and Faster Training, Tan and Le 2021.
https://arxiv.org/abs/2104.00298

Attributes are named as in torchvision.models.efficientnet; `timm_keys` gives timm's names. Where
torchvision departs from the authors' TensorFlow code, so do we, as its trained weights need it:

* Padding is symmetric, not TensorFlow's SAME, which pads unevenly at stride 2.
* Batch normalisation has torch's eps 1e-5 and momentum 0.1 in B0 to B4. The authors' are 1e-3 and
  0.01 everywhere: B5 to B7 have both, V2 has the eps alone.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    Conv,
    Dropout,
    Linear,
    Sequential,
    SqueezeExcitation,
    StochasticDepth,
    global_avg_pool,
    make_divisible,
    residual,
    silu,
)
from flaxzoo.layers.init import ZEROS, KaimingNormal, Uniform
from flaxzoo.models.base import Classifier, check_stem

_INIT = KaimingNormal("fan_out")
_CONV_NORM = ("0", "1")  # where a _conv_norm has its convolution and its normalisation
_SE = ("fc1", "fc2")


class MBConv(nnx.Module):
    """The inverted residual: 1x1 expand, depthwise, squeeze and excitation, 1x1 project.

    The block of MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381) with the gate
    of MnasNet. The gate squeezes to a quarter of the block's input, not of the expanded width.
    Without expansion the first 1x1 is left out.
    """

    # For each number of layers: what timm calls the two parts of each of them.
    timm_layers: ClassVar = {
        3: (("conv_dw", "bn1"), ("se.conv_reduce", "se.conv_expand"), ("conv_pw", "bn2")),
        4: (
            ("conv_pw", "bn1"), ("conv_dw", "bn2"), ("se.conv_reduce", "se.conv_expand"),
            ("conv_pwl", "bn3"),
        ),
    }  # fmt: skip

    def __init__(
        self,
        in_features: int,
        out_features: int,
        expansion: int,
        kernel_size: int,
        stride: int,
        drop_rate: float,
        norm: partial[BatchNorm],
    ):
        width = in_features * expansion
        expand = [_conv_norm(in_features, width, 1, norm=norm)] if expansion > 1 else []
        self.block = Sequential(
            *expand,
            _conv_norm(width, width, kernel_size, stride, groups=width, norm=norm),
            SqueezeExcitation(
                width, max(1, in_features // 4), silu, kernel_init=_INIT, bias_init=ZEROS
            ),
            _conv_norm(width, out_features, 1, norm=norm, activate=False),
        )
        self.residual = stride == 1 and in_features == out_features
        self.stochastic_depth = StochasticDepth(drop_rate)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        y = self.block(x)
        return residual(x, self.stochastic_depth(y)) if self.residual else y


class FusedMBConv(MBConv):
    """MBConv with one dense convolution for expansion and depthwise, and no gate (V2, table 4).

    Without expansion that convolution is all there is, and an activation follows it.
    """

    timm_layers: ClassVar = {
        1: (("conv", "bn1"),),
        2: (("conv_exp", "bn1"), ("conv_pwl", "bn2")),
    }

    def __init__(
        self,
        in_features: int,
        out_features: int,
        expansion: int,
        kernel_size: int,
        stride: int,
        drop_rate: float,
        norm: partial[BatchNorm],
    ):
        width = in_features * expansion if expansion > 1 else out_features
        self.block = Sequential(_conv_norm(in_features, width, kernel_size, stride, norm=norm))
        if expansion > 1:
            project = _conv_norm(width, out_features, 1, norm=norm, activate=False)
            self.block = Sequential(*self.block, project)
        self.residual = stride == 1 and in_features == out_features
        self.stochastic_depth = StochasticDepth(drop_rate)


class Stage(NamedTuple):
    """Blocks of one width, a row of the papers' tables; only the first block has the stride."""

    block: type[MBConv]
    expansion: int
    kernel_size: int
    stride: int
    features: int
    depth: int


class EfficientNet(Classifier):
    """`features`: a stem, stages of blocks, a 1x1 convolution; then average pooling and the head.

    Args:
        table: the stages.
        stem_features, last_features: width of the stem, and of the convolution after the stages.
        norm: makes a batch normalisation of a number of channels.
        dropout: rate before the head.
        stochastic_depth: the rate at which blocks are dropped grows evenly from 0 at the first to
            nearly this at the last.
        stem: "imagenet", of stride 2, or "cifar", of stride 1; all else is the same.
    """

    first_conv = "features.0.0"
    head_names = ("classifier.1",)
    timm_eps = 1e-5  # of all but its tf_*, which pad as TensorFlow does and are other functions

    def __init__(
        self,
        table: Sequence[Stage],
        stem_features: int,
        last_features: int,
        norm: partial[BatchNorm],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        dropout: float = 0.2,
        stochastic_depth: float = 0.2,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        stride = 2 if stem == "imagenet" else 1
        layers = [_conv_norm(in_channels, stem_features, 3, stride, norm=norm)]
        features, count, total = stem_features, 0, sum(row.depth for row in table)
        for row in table:
            blocks = []
            for j in range(row.depth):
                stride = row.stride if j == 0 else 1
                drop_rate = stochastic_depth * count / total
                blocks.append(
                    row.block(
                        features, row.features, row.expansion, row.kernel_size, stride, drop_rate,
                        norm,
                    )
                )  # fmt: skip
                features = row.features
                count += 1
            layers.append(Sequential(*blocks))
        layers.append(_conv_norm(features, last_features, 1, norm=norm))
        self.features = Sequential(*layers)
        self.classifier = Sequential(
            Dropout(dropout),
            Linear(
                last_features, num_classes,
                kernel_init=Uniform(1 / math.sqrt(num_classes)), bias_init=ZEROS,
            ),
        )  # fmt: skip

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.features):
            x = layer(x)
            yield f"features.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.classifier(x)

    def timm_keys(self) -> dict[str, str]:
        # No pattern can tell: which of a block's layers has which number depends on whether it
        # expands.
        _, *stages, last = range(len(self.features))
        keys = {
            "conv_stem": "features.0.0",
            "bn1": "features.0.1",
            "conv_head": f"features.{last}.0",
            "bn2": f"features.{last}.1",
            "classifier": "classifier.1",
        }
        for i in stages:
            stage: Any = self.features[i]
            for j, block in enumerate(stage):
                for k, names in enumerate(block.timm_layers[len(block.block)]):
                    parts = _SE if names[0].startswith("se.") else _CONV_NORM
                    for name, part in zip(names, parts, strict=True):
                        keys[f"blocks.{i - 1}.{j}.{name}"] = f"features.{i}.{j}.block.{k}.{part}"
        return keys


def _conv_norm(
    in_features: int,
    out_features: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    *,
    norm: partial[BatchNorm],
    activate: bool = True,
) -> Sequential:
    """A convolution, its normalisation and, unless told otherwise, SiLU."""
    conv = Conv(
        in_features, out_features, kernel_size, stride, groups=groups, use_bias=False,
        kernel_init=_INIT,
    )  # fmt: skip
    activation = [silu] if activate else []
    return Sequential(conv, norm(out_features), *activation)


_B0 = (
    Stage(MBConv, 1, 3, 1, 16, 1),
    Stage(MBConv, 6, 3, 2, 24, 2),
    Stage(MBConv, 6, 5, 2, 40, 2),
    Stage(MBConv, 6, 3, 2, 80, 3),
    Stage(MBConv, 6, 5, 1, 112, 3),
    Stage(MBConv, 6, 5, 2, 192, 4),
    Stage(MBConv, 6, 3, 1, 320, 1),
)


def _scaled(
    width: float, depth: float, eps: float, momentum: float, dropout: float
) -> partial[EfficientNet]:
    """B0 with `width` times its channels and `depth` times its blocks (Tan and Le 2019, eq. 3)."""
    table = tuple(
        row._replace(
            features=make_divisible(row.features * width), depth=math.ceil(row.depth * depth)
        )
        for row in _B0
    )
    return partial(
        EfficientNet, table, make_divisible(32 * width), 4 * table[-1].features,
        partial(BatchNorm, eps=eps, momentum=momentum), dropout=dropout,
    )  # fmt: skip


def _v2(
    stem_features: int, *rows: tuple[type[MBConv], int, int, int, int], dropout: float
) -> partial[EfficientNet]:
    """V2, of rows (block, expansion, stride, features, depth): all its kernels are 3x3."""
    table = tuple(Stage(block, expansion, 3, *rest) for block, expansion, *rest in rows)
    norm = partial(BatchNorm, eps=1e-3)
    return partial(EfficientNet, table, stem_features, 1280, norm, dropout=dropout)


VARIANTS = {
    # Width, depth, eps, momentum, dropout.
    "efficientnet_b0": _scaled(1.0, 1.0, 1e-5, 0.1, 0.2),
    "efficientnet_b1": _scaled(1.0, 1.1, 1e-5, 0.1, 0.2),
    "efficientnet_b2": _scaled(1.1, 1.2, 1e-5, 0.1, 0.3),
    "efficientnet_b3": _scaled(1.2, 1.4, 1e-5, 0.1, 0.3),
    "efficientnet_b4": _scaled(1.4, 1.8, 1e-5, 0.1, 0.4),
    "efficientnet_b5": _scaled(1.6, 2.2, 1e-3, 0.01, 0.4),
    "efficientnet_b6": _scaled(1.8, 2.6, 1e-3, 0.01, 0.5),
    "efficientnet_b7": _scaled(2.0, 3.1, 1e-3, 0.01, 0.5),
    "efficientnet_v2_s": _v2(
        24,
        (FusedMBConv, 1, 1, 24, 2),
        (FusedMBConv, 4, 2, 48, 4),
        (FusedMBConv, 4, 2, 64, 4),
        (MBConv, 4, 2, 128, 6),
        (MBConv, 6, 1, 160, 9),
        (MBConv, 6, 2, 256, 15),
        dropout=0.2,
    ),
    "efficientnet_v2_m": _v2(
        24,
        (FusedMBConv, 1, 1, 24, 3),
        (FusedMBConv, 4, 2, 48, 5),
        (FusedMBConv, 4, 2, 80, 5),
        (MBConv, 4, 2, 160, 7),
        (MBConv, 6, 1, 176, 14),
        (MBConv, 6, 2, 304, 18),
        (MBConv, 6, 1, 512, 5),
        dropout=0.3,
    ),
    "efficientnet_v2_l": _v2(
        32,
        (FusedMBConv, 1, 1, 32, 4),
        (FusedMBConv, 4, 2, 64, 7),
        (FusedMBConv, 4, 2, 96, 7),
        (MBConv, 4, 2, 192, 10),
        (MBConv, 6, 1, 224, 19),
        (MBConv, 6, 2, 384, 25),
        (MBConv, 6, 1, 640, 7),
        dropout=0.4,
    ),
    # Every kind of block, small enough for tests.
    "test_efficientnet": partial(
        EfficientNet,
        (
            Stage(FusedMBConv, 1, 3, 1, 8, 1),
            Stage(FusedMBConv, 4, 3, 2, 16, 2),
            Stage(MBConv, 1, 3, 1, 16, 1),
            Stage(MBConv, 4, 5, 2, 24, 2),
        ),
        8, 64, partial(BatchNorm, eps=1e-3, momentum=0.01), num_classes=10,
    ),
}  # fmt: skip
