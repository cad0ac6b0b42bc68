"""ResNet, Wide ResNet and ResNeXt, for ImageNet and for CIFAR.

Deep Residual Learning for Image Recognition, He et al. 2015. https://arxiv.org/abs/1512.03385
Wide Residual Networks, Zagoruyko and Komodakis 2016. https://arxiv.org/abs/1605.07146
Aggregated Residual Transformations, Xie et al. 2016 (ResNeXt). https://arxiv.org/abs/1611.05431

Attributes are named as in torchvision.models.resnet, those of CifarResNet as in the public PyTorch
code that its checkpoint files come from (`linear` for the head, no parameters in the shortcuts).
"""

from collections.abc import Iterator, Sequence
from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.arguments import integer
from flaxzoo.errors import UserError
from flaxzoo.layers import (
    BatchNorm,
    ConvNorm,
    Linear,
    Sequential,
    conv_norm,
    global_avg_pool,
    pooled_stem,
    relu,
)
from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers.init import KaimingNormal
from flaxzoo.models.base import Classifier, check_stem

Conv = partial(_Conv, use_bias=False, kernel_init=KaimingNormal("fan_out"))  # torchvision's


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5 left).

    Neither the ResNeXt paper nor torchvision has such a block with groups (section 3.1: with two
    layers, aggregation is just a wider dense layer). Ours: the first convolution widens to
    groups * group_width, for the first stage, and the second is grouped.
    """

    expansion = 1

    def __init__(
        self, in_features: int, planes: int, stride: int = 1, groups: int = 1, group_width: int = 64
    ):
        width = planes * group_width // 64 * groups
        self.conv1 = Conv(in_features, width, 3, stride)
        self.bn1 = BatchNorm(width)
        self.conv2 = Conv(width, planes, 3, groups=groups)
        self.bn2 = BatchNorm(planes)
        self.downsample = _projection(in_features, planes, stride)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return relu(x + shortcut)


class Bottleneck(nnx.Module):
    """1x1 reduce, 3x3, 1x1 expand and a shortcut (He et al. 2015, figure 5 right).

    With groups it is ResNeXt's block in form (c) of Xie et al. 2016, figure 3. The stride is on the
    3x3 convolution. The ResNet paper puts it on the first 1x1; torchvision, and therefore its
    trained weights, use this "v1.5" form.
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
        self.bn3 = BatchNorm(out_features)
        self.downsample = _projection(in_features, out_features, stride)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = relu(self.bn1(self.conv1(x)))
        x = relu(self.bn2(self.conv2(x)))
        x = conv_norm(self.conv3, self.bn3, x)
        return relu(x + shortcut)


class ResNet(Classifier):
    """A stem, stages `layer1`, `layer2`, ... of residual blocks, average pooling, head `fc`.

    Args:
        depths: blocks in each stage; every stage but the first halves the map and doubles the
        width.
        stem: "imagenet", a 7x7 convolution of stride 2 and a max-pool, or "cifar", a 3x3 of stride
            1 and no pool, which keeps small images at their size.
        planes: width of the first stage, before the blocks' expansion.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
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
        groups, group_width = block_options.get("groups", 1), block_options.get("group_width", 64)
        if planes * group_width < 64 or (block is BasicBlock and planes % groups):
            raise UserError(f"planes must make {groups} groups (multiples of 64 do); got {planes}.")
        self.stem = stem
        kernel_size, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = Conv(in_channels, planes, kernel_size, stride)
        self.bn1 = BatchNorm(planes)
        self.stage_names = tuple(f"layer{i}" for i in range(1, len(depths) + 1))
        features = planes
        for i, (name, depth) in enumerate(zip(self.stage_names, depths, strict=True)):
            width = planes * 2**i
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(block(features, width, stride, **block_options))
                features = width * block.expansion
            setattr(self, name, Sequential(*blocks))
        self.fc = Linear(features, num_classes)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        if self.stem == "imagenet":
            x, pooled = pooled_stem(self.conv1, self.bn1, x)
        else:
            x = pooled = relu(self.bn1(self.conv1(x)))
        yield "relu", x
        x = pooled
        for name in self.stage_names:
            x = getattr(self, name)(x)
            yield name, x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.fc(x)


class CifarBlock(nnx.Module):
    """Two 3x3 convolutions and shortcut option A (He et al. 2015, section 4.2): no parameters.

    Where the map shrinks, the shortcut takes every second pixel and adds zero channels, half of
    them before and half after.
    """

    def __init__(self, in_features: int, planes: int, stride: int = 1):
        conv = partial(_Conv, use_bias=False, kernel_init=KaimingNormal())
        self.conv1 = conv(in_features, planes, 3, stride)
        self.bn1 = BatchNorm(planes)
        self.conv2 = conv(planes, planes, 3)
        self.bn2 = BatchNorm(planes)
        self.stride = stride

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        y = relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        x = x[:, :: self.stride, :: self.stride]
        extra = (y.shape[-1] - x.shape[-1]) // 2
        return relu(y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (extra, extra))))


class CifarResNet(Classifier):
    """The paper's CIFAR net: a 3x3 stem of 16 channels, three stages of n blocks, 6n + 2 layers."""

    head_names = ("linear",)

    def __init__(self, blocks_per_stage: int, num_classes: int = 10, in_channels: int = 3):
        super().__init__(in_channels, num_classes)
        self.conv1 = _Conv(in_channels, 16, 3, use_bias=False, kernel_init=KaimingNormal())
        self.bn1 = BatchNorm(16)
        self.layer1 = self._stage(16, 16, 1, blocks_per_stage)
        self.layer2 = self._stage(16, 32, 2, blocks_per_stage)
        self.layer3 = self._stage(32, 64, 2, blocks_per_stage)
        self.linear = Linear(64, num_classes, kernel_init=KaimingNormal())

    @staticmethod
    def _stage(in_features: int, planes: int, stride: int, blocks: int) -> Sequential:
        first = CifarBlock(in_features, planes, stride)
        return Sequential(first, *(CifarBlock(planes, planes) for _ in range(blocks - 1)))

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = relu(self.bn1(self.conv1(x)))
        yield "relu", x
        for name in ("layer1", "layer2", "layer3"):
            x = getattr(self, name)(x)
            yield name, x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.linear(x)


def _projection(in_features: int, out_features: int, stride: int) -> ConvNorm | None:
    """The shortcut's 1x1 convolution (option B), or None where the shapes already agree."""
    if stride == 1 and in_features == out_features:
        return None
    return ConvNorm(Conv(in_features, out_features, 1, stride), BatchNorm(out_features))


_cifar_resnext = partial(ResNet, Bottleneck, (3, 3, 3), num_classes=10, stem="cifar")

VARIANTS = {
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, BasicBlock, (3, 4, 6, 3)),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "resnet101": partial(ResNet, Bottleneck, (3, 4, 23, 3)),
    "resnet152": partial(ResNet, Bottleneck, (3, 8, 36, 3)),
    "wide_resnet50_2": partial(ResNet, Bottleneck, (3, 4, 6, 3), group_width=128),
    "wide_resnet101_2": partial(ResNet, Bottleneck, (3, 4, 23, 3), group_width=128),
    "resnext18": partial(ResNet, BasicBlock, (2, 2, 2, 2), groups=32, group_width=4),
    "resnext34": partial(ResNet, BasicBlock, (3, 4, 6, 3), groups=32, group_width=4),
    "resnext50_32x4d": partial(ResNet, Bottleneck, (3, 4, 6, 3), groups=32, group_width=4),
    "resnext101_32x8d": partial(ResNet, Bottleneck, (3, 4, 23, 3), groups=32, group_width=8),
    "resnext101_64x4d": partial(ResNet, Bottleneck, (3, 4, 23, 3), groups=64, group_width=4),
    "resnext152": partial(ResNet, Bottleneck, (3, 8, 36, 3), groups=32, group_width=4),
    # Xie et al. 2016, section 5.3: CIFAR, three stages of 256, 512 and 1024 channels.
    "resnext29_2x64d": partial(_cifar_resnext, groups=2, group_width=64),
    "resnext29_8x64d": partial(_cifar_resnext, groups=8, group_width=64),
    "resnet20": partial(CifarResNet, 3),
    "resnet32": partial(CifarResNet, 5),
    "resnet44": partial(CifarResNet, 7),
    "resnet56": partial(CifarResNet, 9),
    "resnet110": partial(CifarResNet, 18),
    # Small enough for tests and for the bundled digits.
    "resnet_tiny": partial(ResNet, BasicBlock, (1, 1), num_classes=10, stem="cifar", planes=16),
    "resnext_tiny": partial(
        ResNet, Bottleneck, (1, 1, 1), num_classes=10, stem="cifar", planes=16,
        groups=8, group_width=16,
    ),
}  # fmt: skip
