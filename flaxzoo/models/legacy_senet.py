"""SENet-154 and SE-ResNet-50 as their authors trained them, in Caffe.

Squeeze-and-Excitation Networks, Hu et al. 2017. https://arxiv.org/abs/1709.01507

Attributes are named as in timm's legacy_senet154 and legacy_seresnet50, which are R. Cadene's
translations of the Caffe nets, weights included. They are not the nets of senet.py, even where the
number of parameters is the same: the stem's max-pool has no padding and keeps a last window that
is not full, and SE-ResNet-50 has its strides on the first 1x1 convolutions, as in the paper.

Dropout before the head is at timm's 0.2, the paper's rate for SENet-154. Cadene's SE-ResNet-50 has
none, which `dropout=0.0` gives.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    ConvNorm,
    Dropout,
    Linear,
    Sequential,
    SqueezeExcitation,
    conv_norm,
    global_avg_pool,
    max_pool,
    relu,
)
from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers.init import KaimingNormal
from flaxzoo.models.base import Classifier, check_stem

_INIT = KaimingNormal("fan_out")
Conv = partial(_Conv, use_bias=False, kernel_init=_INIT)


class Bottleneck(nnx.Module):
    """SE-ResNet's: 1x1 with the stride, 3x3, 1x1, the gate `se_module`, and a shortcut.

    Subclasses change what stands in front of `_build`.
    """

    expansion = 4

    def __init__(self, in_features: int, planes: int, stride: int, groups: int):
        self._build(in_features, (planes, planes, 4 * planes), (stride, 1), groups, down_kernel=1)

    def _build(
        self,
        in_features: int,
        widths: tuple[int, int, int],
        strides: tuple[int, int],
        groups: int,
        down_kernel: int,
    ):
        stride, out_features = max(strides), widths[2]
        self.conv1 = Conv(in_features, widths[0], 1, strides[0])
        self.bn1 = BatchNorm(widths[0])
        self.conv2 = Conv(widths[0], widths[1], 3, strides[1], groups=groups)
        self.bn2 = BatchNorm(widths[1])
        self.conv3 = Conv(widths[1], out_features, 1)
        self.bn3 = BatchNorm(out_features)
        self.se_module = SqueezeExcitation(out_features, out_features // 16, kernel_init=_INIT)
        self.downsample = _projection(in_features, out_features, down_kernel, stride)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = relu(self.bn1(self.conv1(x)))
        x = relu(self.bn2(self.conv2(x)))
        x = self.se_module(conv_norm(self.conv3, self.bn3, x))
        return relu(x + shortcut)


class WideBottleneck(Bottleneck):
    """SENet-154's: wide 3x3 with the stride and many groups, 3x3 shortcuts where the map shrinks.

    It comes from ResNeXt-152 64x4d, of which the first 1x1 has half the width (Hu et al. 2017,
    appendix).
    """

    def __init__(self, in_features: int, planes: int, stride: int, groups: int):
        widths, down_kernel = (2 * planes, 4 * planes, 4 * planes), 1 if stride == 1 else 3
        self._build(in_features, widths, (1, stride), groups, down_kernel)


class LegacySENet(Classifier):
    """A stem `layer0`, stages `layer1`, `layer2`, ..., average pooling, dropout, `last_linear`.

    Args:
        blocks: the block of each stage.
        depths: blocks in each stage; every stage but the first halves the map and doubles the
            width.
        groups: of the 3x3 convolutions.
        deep_stem: three 3x3 convolutions in place of one 7x7.
        planes: a quarter of the first stage's width.
        stem: "imagenet", of stride 2 and with a max-pool, or "cifar": the first convolution is a
            3x3 of stride 1, and there is no pool.
        dropout: rate before the head.
    """

    first_conv = "layer0.conv1"
    head_names = ("last_linear",)

    def __init__(
        self,
        blocks: Sequence[type[Bottleneck]],
        depths: Sequence[int],
        groups: int,
        deep_stem: bool,
        planes: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        dropout: float = 0.2,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        self.pooled = stem == "imagenet"
        self.min_size = 3 if self.pooled else 1  # the pool takes two pixels or more
        stride = 2 if self.pooled else 1
        if deep_stem:
            features = 2 * planes
            self.layer0 = Sequential(
                conv1=Conv(in_channels, planes, 3, stride), bn1=BatchNorm(planes), relu1=relu,
                conv2=Conv(planes, planes, 3), bn2=BatchNorm(planes), relu2=relu,
                conv3=Conv(planes, features, 3), bn3=BatchNorm(features), relu3=relu,
            )  # fmt: skip
        else:
            features = planes
            conv = Conv(in_channels, features, 7 if self.pooled else 3, stride)
            self.layer0 = Sequential(conv1=conv, bn1=BatchNorm(features), relu1=relu)
        self.stage_names = tuple(f"layer{i}" for i in range(1, len(depths) + 1))
        for i, (block, depth) in enumerate(zip(blocks, depths, strict=True)):
            layers = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                layers.append(block(features, planes * 2**i, stride, groups))
                features = planes * 2**i * block.expansion
            setattr(self, self.stage_names[i], Sequential(*layers))
        self.dropout = Dropout(dropout)
        self.last_linear = Linear(features, num_classes)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.layer0(x)
        yield "layer0", x
        if self.pooled:
            x = max_pool(x, 3, stride=2, ceil_mode=True)
        for name in self.stage_names:
            x = getattr(self, name)(x)
            yield name, x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = self.dropout(global_avg_pool(x))
        return x if pre_logits else self.last_linear(x)


def _projection(
    in_features: int, out_features: int, kernel_size: int, stride: int
) -> ConvNorm | None:
    """The shortcut's convolution, or None where the shapes already agree."""
    if stride == 1 and in_features == out_features:
        return None
    conv = Conv(in_features, out_features, kernel_size, stride)
    return ConvNorm(conv, BatchNorm(out_features))


VARIANTS = {
    # the stages' blocks and depths, groups, deep_stem, planes
    "legacy_seresnet50": partial(LegacySENet, [Bottleneck] * 4, (3, 4, 6, 3), 1, False, 64),
    "legacy_senet154": partial(LegacySENet, [WideBottleneck] * 4, (3, 8, 36, 3), 64, True, 64),
    "test_legacy_senet": partial(
        LegacySENet, (WideBottleneck, Bottleneck, WideBottleneck), (2, 1, 1), 4, True, 8,
        num_classes=10,
    ),
}  # fmt: skip
