"""MobileNetV3: inverted residuals with gates and h-swish, found by search.

Searching for MobileNetV3, Howard et al. 2019. https://arxiv.org/abs/1905.02244

Attributes are named as in torchvision.models.mobilenetv3; `timm_keys` gives timm's names of the
same nets. As in torchvision:

* Batch normalisation has eps 1e-3, the authors' TensorFlow value, which the paper does not give.
  timm's weights were trained with 1e-5.
* The gates squeeze to a quarter of the expanded width, rounded to a multiple of 8.
* The paper's last two 1x1 convolutions, on a map of one pixel, are linear layers.
* `width` scales the layer before the head, too. timm keeps its channels where `width` is below 1.
"""

from collections.abc import Callable, Iterator, Sequence
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
    SqueezeExcitation,
    global_avg_pool,
    hard_sigmoid,
    hard_swish,
    make_divisible,
    relu,
    residual,
)
from flaxzoo.layers.init import ZEROS, KaimingNormal, Normal
from flaxzoo.models.base import Classifier, check_stem, check_width

_INIT = KaimingNormal("fan_out")


class Row(NamedTuple):
    """A block, as the paper's tables 1 and 2 give it."""

    kernel_size: int
    expanded: int
    features: int
    gate: bool
    activation: Callable[[Array], Array]
    stride: int

    def scaled(self, width: float) -> "Row":
        return self._replace(
            expanded=make_divisible(self.expanded * width),
            features=make_divisible(self.features * width),
        )


class InvertedResidual(nnx.Module):
    """1x1 expand, depthwise, gate, 1x1 project, and a shortcut (Howard et al. 2019, figure 4).

    Without expansion the first 1x1 is left out.
    """

    def __init__(self, in_features: int, row: Row):
        width, act = row.expanded, row.activation
        layers: list[nnx.Module] = []
        if width != in_features:
            layers.append(_conv_norm(in_features, width, 1, activation=act))
        layers.append(
            _conv_norm(width, width, row.kernel_size, row.stride, groups=width, activation=act)
        )
        if row.gate:
            squeezed = make_divisible(width // 4)
            layers.append(
                SqueezeExcitation(
                    width, squeezed, relu, hard_sigmoid, kernel_init=_INIT, bias_init=ZEROS
                )
            )
        layers.append(_conv_norm(width, row.features, 1))
        self.block = Sequential(*layers)
        self.residual = row.stride == 1 and in_features == row.features

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        y = self.block(x)
        return residual(x, y) if self.residual else y

    def timm_keys(self) -> dict[str, str]:
        convs = [i for i, layer in enumerate(self.block) if isinstance(layer, Sequential)]
        names = ("conv_dw", "conv_pw") if len(convs) == 2 else ("conv_pw", "conv_dw", "conv_pwl")
        keys = {}
        for number, (i, name) in enumerate(zip(convs, names, strict=True), start=1):
            keys |= {name: f"block.{i}.0", f"bn{number}": f"block.{i}.1"}
        for i, layer in enumerate(self.block):
            if isinstance(layer, SqueezeExcitation):
                keys |= {"se.conv_reduce": f"block.{i}.fc1", "se.conv_expand": f"block.{i}.fc2"}
        return keys


class MobileNetV3(Classifier):
    """`features`: a stem, blocks, a 1x1 convolution; then average pooling and two linear layers.

    Args:
        table: the blocks, in groups of one width.
        hidden: width of the first linear layer.
        width: the paper's width multiplier, any positive number.
        stem: "imagenet", of stride 2, or "cifar", of stride 1; all else is the same.
        dropout: rate before the last layer.
    """

    first_conv = "features.0.0"
    head_names = ("classifier.3",)
    timm_eps = 1e-5

    def __init__(
        self,
        table: Sequence[Sequence[Row]],
        hidden: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        width: float = 1.0,
        dropout: float = 0.2,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        check_width(width)
        features, hidden = make_divisible(16 * width), make_divisible(hidden * width)
        stride = 2 if stem == "imagenet" else 1
        layers: list[nnx.Module] = [
            _conv_norm(in_channels, features, 3, stride, activation=hard_swish)
        ]
        ends = []  # the last layers of each map size
        for row in (row.scaled(width) for group in table for row in group):
            if row.stride == 2:
                ends.append(len(layers) - 1)
            layers.append(InvertedResidual(features, row))
            features = row.features
        layers.append(_conv_norm(features, 6 * features, 1, activation=hard_swish))
        self.ends = (*ends, len(layers) - 1)
        self.depths = tuple(len(group) for group in table)
        self.features = Sequential(*layers)
        linear = partial(Linear, kernel_init=Normal(0.01), bias_init=ZEROS)
        self.classifier = Sequential(
            linear(6 * features, hidden), hard_swish, Dropout(dropout), linear(hidden, num_classes)
        )

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.ends:
                yield f"features.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        *before, last = self.classifier
        x = global_avg_pool(x)
        for layer in before:
            x = layer(x)
        return x if pre_logits else last(x)

    def timm_keys(self) -> dict[str, str]:
        last = len(self.features) - 1
        keys = {
            "conv_stem": "features.0.0",
            "bn1": "features.0.1",
            f"blocks.{len(self.depths)}.0.conv": f"features.{last}.0",
            f"blocks.{len(self.depths)}.0.bn1": f"features.{last}.1",
            "conv_head": "classifier.0",  # a 1x1 convolution in timm
            "classifier": "classifier.3",
        }
        blocks = [(i, j) for i, depth in enumerate(self.depths) for j in range(depth)]
        for number, (i, j) in enumerate(blocks, start=1):
            block: Any = self.features[number]
            for theirs, ours in block.timm_keys().items():
                keys[f"blocks.{i}.{j}.{theirs}"] = f"features.{number}.{ours}"
        return keys


def _conv_norm(
    in_features: int,
    out_features: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[[Array], Array] | None = None,
) -> Sequential:
    """A convolution, its normalisation and, where one is given, the activation."""
    conv = Conv(
        in_features, out_features, kernel_size, stride, groups=groups, use_bias=False,
        kernel_init=_INIT,
    )  # fmt: skip
    norm = BatchNorm(out_features, eps=1e-3, momentum=0.01)
    return Sequential(conv, norm, *([activation] if activation else []))


_LARGE = (
    (Row(3, 16, 16, False, relu, 1),),
    (Row(3, 64, 24, False, relu, 2), Row(3, 72, 24, False, relu, 1)),
    (Row(5, 72, 40, True, relu, 2), *2 * (Row(5, 120, 40, True, relu, 1),)),
    (
        Row(3, 240, 80, False, hard_swish, 2),
        Row(3, 200, 80, False, hard_swish, 1),
        *2 * (Row(3, 184, 80, False, hard_swish, 1),),
    ),
    (Row(3, 480, 112, True, hard_swish, 1), Row(3, 672, 112, True, hard_swish, 1)),
    (Row(5, 672, 160, True, hard_swish, 2), *2 * (Row(5, 960, 160, True, hard_swish, 1),)),
)
_SMALL = (
    (Row(3, 16, 16, True, relu, 2),),
    (Row(3, 72, 24, False, relu, 2), Row(3, 88, 24, False, relu, 1)),
    (Row(5, 96, 40, True, hard_swish, 2), *2 * (Row(5, 240, 40, True, hard_swish, 1),)),
    (Row(5, 120, 48, True, hard_swish, 1), Row(5, 144, 48, True, hard_swish, 1)),
    (Row(5, 288, 96, True, hard_swish, 2), *2 * (Row(5, 576, 96, True, hard_swish, 1),)),
)
_TINY = (
    (Row(3, 16, 16, True, relu, 1),),
    (Row(3, 48, 24, False, relu, 2),),
    (Row(5, 72, 24, True, hard_swish, 1), Row(3, 48, 40, False, hard_swish, 2)),
)

VARIANTS = {
    "mobilenet_v3_large": partial(MobileNetV3, _LARGE, 1280),
    "mobilenet_v3_small": partial(MobileNetV3, _SMALL, 1024),
    "test_mobilenet_v3": partial(MobileNetV3, _TINY, 64, num_classes=10),
}
