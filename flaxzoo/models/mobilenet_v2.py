"""MobileNetV2: inverted residuals with linear bottlenecks.

MobileNetV2: Inverted Residuals and Linear Bottlenecks, Sandler et al. 2018.
https://arxiv.org/abs/1801.04381

Attributes are named as in torchvision.models.mobilenetv2; `timm_keys` gives timm's names of the
same net. As in torchvision and in the authors' code, and not in the paper, widths are rounded to
multiples of 8 and the head has dropout. Of the paper's table 2 the last 1x1 convolution, which
makes the logits, is a linear layer here.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    Conv,
    Dropout,
    Linear,
    Sequential,
    global_avg_pool,
    make_divisible,
    relu6,
    residual,
)
from flaxzoo.layers.init import ZEROS, KaimingNormal, Normal
from flaxzoo.models.base import Classifier, check_stem, check_width

_INIT = KaimingNormal("fan_out")
# timm's and our names of the layers of a block, for either number of modules in it.
_TIMM_LAYERS = {
    3: {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"},
    4: {
        "conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3",
    },
}  # fmt: skip


class InvertedResidual(nnx.Module):
    """1x1 expand, depthwise 3x3, 1x1 project without activation (Sandler et al. 2018, table 1).

    The shortcut joins the narrow ends, where their shapes agree. Without expansion the first 1x1
    is left out.
    """

    def __init__(self, in_features: int, out_features: int, stride: int, expansion: int):
        width = in_features * expansion
        expand = [_conv_norm(in_features, width, 1)] if expansion != 1 else []
        self.conv = Sequential(
            *expand,
            _conv_norm(width, width, 3, stride, groups=width),
            Conv(width, out_features, 1, use_bias=False, kernel_init=_INIT),
            BatchNorm(out_features),
        )
        self.residual = stride == 1 and in_features == out_features

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        y = self.conv(x)
        return residual(x, y) if self.residual else y


class Stage(NamedTuple):
    """Blocks of one width, a row of the paper's table 2; only the first block has the stride."""

    expansion: int
    features: int
    depth: int
    stride: int


class MobileNetV2(Classifier):
    """`features`: a stem, blocks, a 1x1 convolution; then average pooling and the head.

    Args:
        table: the stages.
        width: the paper's width multiplier, any positive number. Below 1 the last convolution
            keeps its 1280 channels.
        stem: "imagenet", of stride 2, or "cifar", of stride 1; all else is the same.
        dropout: rate before the head.
    """

    first_conv = "features.0.0"
    head_names = ("classifier.1",)

    def __init__(
        self,
        table: Sequence[Stage],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        width: float = 1.0,
        dropout: float = 0.2,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        check_width(width)
        features = make_divisible(32 * width)
        last = make_divisible(1280 * max(1.0, width))
        layers: list[nnx.Module] = [
            _conv_norm(in_channels, features, 3, stride=2 if stem == "imagenet" else 1)
        ]
        ends = []  # the last layers of each map size
        for row in table:
            if row.stride == 2:
                ends.append(len(layers) - 1)
            for j in range(row.depth):
                out_features = make_divisible(row.features * width)
                stride = row.stride if j == 0 else 1
                layers.append(InvertedResidual(features, out_features, stride, row.expansion))
                features = out_features
        layers.append(_conv_norm(features, last, 1))
        self.ends = (*ends, len(layers) - 1)
        self.depths = tuple(row.depth for row in table)
        self.features = Sequential(*layers)
        self.classifier = Sequential(
            Dropout(dropout),
            Linear(last, num_classes, kernel_init=Normal(0.01), bias_init=ZEROS),
        )

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.ends:
                yield f"features.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.classifier(x)

    def timm_keys(self) -> dict[str, str]:
        last = len(self.features) - 1
        keys = {
            "conv_stem": "features.0.0",
            "bn1": "features.0.1",
            "conv_head": f"features.{last}.0",
            "bn2": f"features.{last}.1",
            "classifier": "classifier.1",
        }
        blocks = [(i, j) for i, depth in enumerate(self.depths) for j in range(depth)]
        for number, (i, j) in enumerate(blocks, start=1):
            block: Any = self.features[number]
            for theirs, ours in _TIMM_LAYERS[len(block.conv)].items():
                keys[f"blocks.{i}.{j}.{theirs}"] = f"features.{number}.conv.{ours}"
        return keys


def _conv_norm(
    in_features: int, out_features: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> Sequential:
    """A convolution, its normalisation and ReLU6."""
    conv = Conv(
        in_features, out_features, kernel_size, stride, groups=groups, use_bias=False,
        kernel_init=_INIT,
    )  # fmt: skip
    return Sequential(conv, BatchNorm(out_features), relu6)


_TABLE = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)

VARIANTS = {
    "mobilenet_v2": partial(MobileNetV2, _TABLE),
    "test_mobilenet_v2": partial(
        MobileNetV2, (Stage(1, 32, 1, 1), Stage(6, 64, 2, 2), Stage(3, 96, 1, 1)),
        num_classes=10, width=0.25,
    ),
}  # fmt: skip
