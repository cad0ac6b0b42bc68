"""MobileNet (V1): depthwise convolutions, each followed by a pointwise one.

MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, Howard et al.
2017. https://arxiv.org/abs/1704.04861

Attributes are named as in timm's mobilenetv1_100; torchvision has no such model. Departures from
the paper, which timm shares and its trained weights need:

* ReLU6, as in the authors' TensorFlow code, where the paper has ReLU.
* Stride 1 in the last depthwise convolution. The paper's table 1 prints 2, but its map sizes say 1.
* Widths are rounded to multiples of 8. The paper's own width multipliers need no rounding.

The paper's resolution multiplier is the size of the images: any size fits.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    Conv,
    Linear,
    Sequential,
    global_avg_pool,
    make_divisible,
    relu6,
)
from flaxzoo.layers.init import ZEROS, Normal, Uniform
from flaxzoo.models.base import Classifier, check_stem, check_width


class SeparableConv(nnx.Module):
    """A depthwise 3x3 convolution and a 1x1 one (Howard et al. 2017, figure 3 right)."""

    def __init__(self, in_features: int, out_features: int, stride: int = 1):
        self.conv_dw = _conv(in_features, in_features, 3, stride, groups=in_features)
        self.bn1 = BatchNorm(in_features)
        self.conv_pw = _conv(in_features, out_features, 1)
        self.bn2 = BatchNorm(out_features)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        x = relu6(self.bn1(self.conv_dw(x)))
        return relu6(self.bn2(self.conv_pw(x)))


class MobileNetV1(Classifier):
    """A stem, stages of `SeparableConv` in `blocks`, average pooling, head `classifier`.

    Args:
        depths: blocks in each stage; every stage but the first halves the map and doubles the
            width.
        width: the paper's width multiplier, for all layers: any positive number.
        stem: "imagenet", of stride 2, or "cifar", of stride 1; all else is the same.
    """

    first_conv = "conv_stem"
    head_names = ("classifier",)

    def __init__(
        self,
        depths: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        width: float = 1.0,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        check_width(width)
        features = make_divisible(32 * width)
        self.conv_stem = _conv(in_channels, features, 3, stride=2 if stem == "imagenet" else 1)
        self.bn1 = BatchNorm(features)
        stages = []
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                out_features = make_divisible(64 * 2**i * width)
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(SeparableConv(features, out_features, stride))
                features = out_features
            stages.append(Sequential(*blocks))
        self.blocks = Sequential(*stages)
        self.classifier = Linear(
            features, num_classes,
            kernel_init=Uniform(1 / math.sqrt(num_classes)), bias_init=ZEROS,
        )  # fmt: skip

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = relu6(self.bn1(self.conv_stem(x)))
        yield "bn1", x  # timm's normalisation includes the activation
        for i, stage in enumerate(self.blocks):
            x = stage(x)
            yield f"blocks.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.classifier(x)


def _conv(
    in_features: int, out_features: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> Conv:
    """A convolution with timm's initial values, which count the fan-out of one group."""
    fan_out = kernel_size**2 * out_features // groups
    return Conv(
        in_features, out_features, kernel_size, stride, groups=groups, use_bias=False,
        kernel_init=Normal(math.sqrt(2 / fan_out)),
    )  # fmt: skip


_DEPTHS = (1, 2, 2, 6, 2)

VARIANTS = {
    "mobilenetv1_025": partial(MobileNetV1, _DEPTHS, width=0.25),
    "mobilenetv1_050": partial(MobileNetV1, _DEPTHS, width=0.5),
    "mobilenetv1_075": partial(MobileNetV1, _DEPTHS, width=0.75),
    "mobilenetv1_100": partial(MobileNetV1, _DEPTHS),
    "mobilenetv1_125": partial(MobileNetV1, _DEPTHS, width=1.25),
    "test_mobilenet_v1": partial(MobileNetV1, (1, 2, 2), num_classes=10, width=0.25),
}
