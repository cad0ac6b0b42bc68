"""Darknet-19 and Darknet-53, the classifiers under YOLO.

YOLO9000: Better, Faster, Stronger, Redmon and Farhadi 2016, table 6 (Darknet-19).
https://arxiv.org/abs/1612.08242
YOLOv3: An Incremental Improvement, Redmon and Farhadi 2018, table 1 (Darknet-53).
https://arxiv.org/abs/1804.02767

Darknet-53's attributes are named as in timm, and the net is timm's: it departs from the authors'
(github.com/pjreddie/darknet) in the slope of its LeakyReLU, 0.01 instead of 0.1 (slope=0.1 is
theirs), and in its initial values. No PyTorch library has Darknet-19, so its attribute names are
ours, and all that the paper leaves open is as in the authors' code: slope 0.1, initial values, and
max-pools that keep an odd last row. Only the weight of a batch in the running statistics is torch's
0.1; theirs is 0.01. Both nets take images of any size.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.errors import UserError
from flaxzoo.layers import (
    BatchNorm,
    Conv,
    Linear,
    Sequential,
    global_avg_pool,
    leaky_relu,
    max_pool,
    param,
    residual,
)
from flaxzoo.layers.init import ZEROS, Init, KaimingNormal, Normal
from flaxzoo.layers.module import Layer
from flaxzoo.models.base import Classifier


def _pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c"]:
    return max_pool(x, 2, ceil_mode=True)


class ConvNorm(nnx.Module):
    """Convolution without bias, batch normalisation, LeakyReLU."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        stride: int = 1,
        *,
        slope: float,
        kernel_init: Init,
    ):
        self.conv = Conv(
            in_features, out_features, kernel_size, stride, use_bias=False, kernel_init=kernel_init
        )
        self.bn = BatchNorm(out_features)
        self.slope = slope

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        return leaky_relu(self.bn(self.conv(x)), self.slope)


class DarkBlock(nnx.Module):
    """A 1x1 convolution to half the width, a 3x3 back, and a shortcut; nothing after the sum."""

    def __init__(self, features: int, conv: partial[ConvNorm]):
        self.conv1 = conv(features, features // 2, 1)
        self.conv2 = conv(features // 2, features, 3)
        self.conv2.bn.scale = param(
            (features,), ZEROS
        )  # as in timm: every block starts as identity

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        return residual(x, self.conv2(self.conv1(x)))


class DarkStage(nnx.Module):
    """A 3x3 convolution of stride 2, then blocks."""

    def __init__(self, in_features: int, out_features: int, depth: int, conv: partial[ConvNorm]):
        self.conv_down = conv(in_features, out_features, 3, 2)
        self.blocks = Sequential(*(DarkBlock(out_features, conv) for _ in range(depth)))

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        return self.blocks(self.conv_down(x))


class Darknet53(Classifier):
    """A 3x3 convolution, residual stages that halve and double, average pooling, `head.fc`.

    Args:
        width: channels of the first convolution; every stage doubles it.
        depths: blocks in each stage.
        slope: of the LeakyReLUs below zero.
    """

    first_conv = "stem.conv1.conv"
    head_names = ("head.fc",)

    def __init__(
        self,
        width: int,
        depths: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        slope: float = 0.01,
    ):
        super().__init__(in_channels, num_classes)
        conv = partial(ConvNorm, slope=_slope(slope), kernel_init=KaimingNormal("fan_out"))
        self.stem = Sequential(conv1=conv(in_channels, width, 3))
        stages = []
        for depth in depths:
            stages.append(DarkStage(width, 2 * width, depth, conv))
            width *= 2
        self.stages = Sequential(*stages)
        fc = Linear(width, num_classes, kernel_init=Normal(0.01), bias_init=ZEROS)
        self.head = Sequential(fc=fc)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.stem(x)
        yield "stem", x
        for i, stage in enumerate(self.stages):
            x = stage(x)
            yield f"stages.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.head(x)


class Darknet19(Classifier):
    """Stages of alternating 3x3 and 1x1 convolutions, `features`; a map per class, averaged.

    Args:
        widths: for each stage the channels of its convolutions; a max-pool is between the stages.
        slope: of the LeakyReLUs below zero.
    """

    first_conv = "features.0.0.conv"
    head_names = ("classifier",)

    def __init__(
        self,
        widths: Sequence[Sequence[int]],
        num_classes: int = 1000,
        in_channels: int = 3,
        slope: float = 0.1,
    ):
        super().__init__(in_channels, num_classes)
        conv = partial(ConvNorm, slope=_slope(slope), kernel_init=KaimingNormal())
        features, stages = in_channels, []
        for i, stage in enumerate(widths):
            layers: list[Layer] = [_pool] if i else []
            for j, width in enumerate(stage):
                layers.append(conv(features, width, 1 if j % 2 else 3))
                features = width
            stages.append(Sequential(*layers))
        self.features = Sequential(*stages)
        self.classifier = Conv(
            features, num_classes, 1, kernel_init=KaimingNormal(), bias_init=ZEROS
        )

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, stage in enumerate(self.features):
            x = stage(x)
            yield f"features.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        return global_avg_pool(x if pre_logits else self.classifier(x))


def _slope(slope: float) -> float:
    if isinstance(slope, int | float) and not isinstance(slope, bool) and 0 <= slope < 1:
        return slope
    raise UserError(f"slope must be a number from 0 to less than 1; got {slope!r}.")


_WIDTHS_19 = (
    (32,),
    (64,),
    (128, 64, 128),
    (256, 128, 256),
    (512, 256, 512, 256, 512),
    (1024, 512, 1024, 512, 1024),
)

VARIANTS = {
    "darknet19": partial(Darknet19, _WIDTHS_19),
    "darknet53": partial(Darknet53, 32, (1, 2, 8, 8, 4)),
    "test_darknet19": partial(Darknet19, ((8,), (16, 8, 16)), num_classes=10),
    "test_darknet": partial(Darknet53, 8, (1, 2), num_classes=10),
}
