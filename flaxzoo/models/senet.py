"""SE-ResNet and SE-ResNeXt: ResNets whose blocks weigh their channels by a look at the whole map.

Squeeze-and-Excitation Networks, Hu et al. 2017. https://arxiv.org/abs/1709.01507

Attributes are named as in timm's seresnet50 and its like: those of torchvision's ResNets, and
`se.fc1`, `se.fc2` in every block. Departures from the paper, all of them timm's: the stride of a
bottleneck is on its 3x3 convolution, and the two layers of the gate are 1x1 convolutions of a
sixteenth of the channels, rounded to a multiple of 8. The nets with the authors' own stem, pooling
and strides are in legacy_senet.py: they have as many parameters and are other functions.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.arguments import integer
from flaxzoo.errors import UserError
from flaxzoo.layers import (
    BatchNorm,
    ConvNorm,
    Linear,
    Sequential,
    SqueezeExcitation,
    conv_norm,
    global_avg_pool,
    make_divisible,
    param,
    pooled_stem,
    relu,
)
from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers.init import ZEROS, KaimingNormal
from flaxzoo.models.base import Classifier, check_stem

_INIT = KaimingNormal("fan_out")
Conv = partial(_Conv, use_bias=False, kernel_init=_INIT)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions, the gate, and a shortcut. Groups are of bottlenecks alone."""

    expansion = 1

    def __init__(self, in_features: int, planes: int, stride: int = 1, **_: int):
        self.conv1 = Conv(in_features, planes, 3, stride)
        self.bn1 = BatchNorm(planes)
        self.conv2 = Conv(planes, planes, 3)
        self.bn2 = _zero_norm(planes)
        self.se = _gate(planes)
        self.downsample = _projection(in_features, planes, stride)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = relu(self.bn1(self.conv1(x)))
        x = self.se(self.bn2(self.conv2(x)))
        return relu(x + shortcut)


class Bottleneck(nnx.Module):
    """1x1, 3x3 (with groups: ResNeXt's), 1x1, the gate, and a shortcut (Hu et al. 2017, figure 3).

    The gate weighs what the last convolution gives; the shortcut passes beside it.
    """

    expansion = 4

    def __init__(
        self, in_features: int, planes: int, stride: int = 1, groups: int = 1, group_width: int = 64
    ):
        width = planes * group_width // 64 * groups
        out_features = planes * self.expansion
        self.conv1 = Conv(in_features, width, 1)
        self.bn1 = BatchNorm(width)
        self.conv2 = Conv(width, width, 3, stride, groups=groups)
        self.bn2 = BatchNorm(width)
        self.conv3 = Conv(width, out_features, 1)
        self.bn3 = _zero_norm(out_features)
        self.se = _gate(out_features)
        self.downsample = _projection(in_features, out_features, stride)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = relu(self.bn1(self.conv1(x)))
        x = relu(self.bn2(self.conv2(x)))
        x = self.se(conv_norm(self.conv3, self.bn3, x))
        return relu(x + shortcut)


class SEResNet(Classifier):
    """A stem, stages `layer1`, `layer2`, ... of gated blocks, average pooling, head `fc`.

    Args:
        blocks: the block of each stage.
        depths: blocks in each stage; every stage but the first halves the map and doubles the
            width.
        stem: "imagenet", a 7x7 convolution of stride 2 and a max-pool, or "cifar", a 3x3 of stride
            1 and no pool, which keeps small images at their size.
        planes: width of the first stage, before the blocks' expansion.
        **block_options: `groups` and `group_width` of ResNeXt's bottlenecks.
    """

    def __init__(
        self,
        blocks: Sequence[type[BasicBlock] | type[Bottleneck]],
        depths: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        planes: int = 64,
        **block_options: int,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        planes = integer("planes", planes, 1)
        if planes * block_options.get("group_width", 64) < 64:
            raise UserError(f"planes must make groups of a channel or more; got {planes}.")
        self.stem = stem
        kernel_size, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = Conv(in_channels, planes, kernel_size, stride)
        self.bn1 = BatchNorm(planes)
        self.stage_names = tuple(f"layer{i}" for i in range(1, len(depths) + 1))
        features = planes
        for i, (name, block, depth) in enumerate(
            zip(self.stage_names, blocks, depths, strict=True)
        ):
            layers = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                layers.append(block(features, planes * 2**i, stride, **block_options))
                features = planes * 2**i * block.expansion
            setattr(self, name, Sequential(*layers))
        self.fc = Linear(features, num_classes)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        if self.stem == "imagenet":
            x, pooled = pooled_stem(self.conv1, self.bn1, x)
        else:
            x = pooled = relu(self.bn1(self.conv1(x)))
        yield "act1", x
        x = pooled
        for name in self.stage_names:
            x = getattr(self, name)(x)
            yield name, x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.fc(x)


def _zero_norm(features: int) -> BatchNorm:
    """The block's last normalisation: from zero, so that the block begins as its shortcut."""
    norm = BatchNorm(features)
    norm.scale = param((features,), ZEROS)
    return norm


def _gate(features: int) -> SqueezeExcitation:
    return SqueezeExcitation(features, make_divisible(features / 16), kernel_init=_INIT)


def _projection(in_features: int, out_features: int, stride: int) -> ConvNorm | None:
    """The shortcut's 1x1 convolution, or None where the shapes already agree."""
    if stride == 1 and in_features == out_features:
        return None
    return ConvNorm(Conv(in_features, out_features, 1, stride), BatchNorm(out_features))


_basic = partial(SEResNet, (BasicBlock,) * 4)
_bottleneck = partial(SEResNet, (Bottleneck,) * 4)

VARIANTS = {
    "seresnet18": partial(_basic, (2, 2, 2, 2)),
    "seresnet34": partial(_basic, (3, 4, 6, 3)),
    "seresnet50": partial(_bottleneck, (3, 4, 6, 3)),
    "seresnet101": partial(_bottleneck, (3, 4, 23, 3)),
    "seresnet152": partial(_bottleneck, (3, 8, 36, 3)),
    "seresnext50_32x4d": partial(_bottleneck, (3, 4, 6, 3), groups=32, group_width=4),
    "seresnext101_32x4d": partial(_bottleneck, (3, 4, 23, 3), groups=32, group_width=4),
    "test_senet": partial(
        SEResNet, (BasicBlock, Bottleneck), (2, 1), num_classes=10, planes=16,
        groups=4, group_width=16,
    ),
}  # fmt: skip
