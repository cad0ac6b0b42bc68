"""ShuffleNet (V1): grouped pointwise convolutions, with the channels shuffled between them.

ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices, Zhang et al.
2017. https://arxiv.org/abs/1707.01083

Neither torchvision nor timm has it: attributes are named in the style of torchvision's ShuffleNetV2
and ResNet, and initial values are torch's defaults, as in torchvision's ShuffleNetV2.

Widths are those of the paper's table 1 times `width`, each rounded to the nearest multiple of
4 * groups, so that a quarter of it still splits into groups (with 2 groups at 0.5: 104, not 100).
The stem's 24 channels only double or halve, as `width` passes a power of 2, and are a multiple of
the groups (with 8 groups at 0.5: 16, not 12): those are the authors' own widths
(https://github.com/megvii-model/ShuffleNet-Series) and give the paper's complexity. In millions of
multiply-adds at 224 pixels, with g groups:

    x1_0                143.1 (g=1)  140.8 (g=2)  137.5 (g=3)  134.3 (g=4)  138.4 (g=8)
      without the head  142.5        140.0        136.5        133.2        136.9
      the paper         143          140          137          133          137
    x0_5, g=3            37.6; the paper  38
    x1_5, g=3           292.4; the paper 292
    x2_0, g=3           524.0; the paper 524

The authors' later PyTorch code shuffles after the depthwise convolution, by the inverse
permutation, and has no bias in the head. This is the paper's unit.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.errors import UserError
from flaxzoo.layers import (
    BatchNorm,
    Linear,
    Sequential,
    avg_pool,
    channel_shuffle,
    global_avg_pool,
    make_divisible,
    max_pool,
    relu,
)
from flaxzoo.layers import Conv as _Conv
from flaxzoo.models.base import Classifier, check_stem, check_width

Conv = partial(_Conv, use_bias=False)

_FEATURES = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # of the first stage, by groups


class ShuffleUnit(nnx.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1 (Zhang et al. 2017, figure 2 b and c).

    At stride 1 a shortcut is added. At stride 2 the average-pooled input is put before the
    channels that the convolutions make. Padding counts as zeros in the averages, as in the
    authors' code.

    Args:
        first_groups: groups of the first convolution.
    """

    def __init__(
        self, in_features: int, out_features: int, stride: int, groups: int, first_groups: int
    ):
        width = out_features // 4
        made = out_features if stride == 1 else out_features - in_features
        self.conv1 = Conv(in_features, width, 1, groups=first_groups)
        self.bn1 = BatchNorm(width)
        self.conv2 = Conv(width, width, 3, stride, groups=width)
        self.bn2 = BatchNorm(width)
        self.conv3 = Conv(width, made, 1, groups=groups)
        self.bn3 = BatchNorm(made)
        self.stride = stride
        self.groups = groups

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        y = relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(channel_shuffle(y, self.groups)))
        y = self.bn3(self.conv3(y))
        if self.stride == 1:
            return relu(x + y)
        shortcut = avg_pool(x, 3, stride=2, padding=1)
        return relu(jnp.concatenate([shortcut, y], axis=-1))


class ShuffleNetV1(Classifier):
    """A stem, stages `stage2`, `stage3`, ... of shuffle units, average pooling, head `fc`.

    Args:
        groups: of the pointwise convolutions, but not of the very first.
        depths: units in each stage; every stage halves the map and doubles the width.
        width: the paper's scale factor for the number of channels.
        stem: "imagenet", a 3x3 convolution of stride 2 and a max-pool, or "cifar", a 3x3 of stride
            1 and no pool.
    """

    first_conv = "conv1.0"

    def __init__(
        self,
        groups: int,
        depths: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        width: float = 1.0,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        check_width(width)
        self.stem = stem
        features = make_divisible(24 * 2.0 ** math.floor(math.log2(width)), groups)
        stride = 2 if stem == "imagenet" else 1
        conv = Conv(in_channels, features, 3, stride)
        self.conv1 = Sequential(conv, BatchNorm(features), relu)
        self.stage_names = tuple(f"stage{i}" for i in range(2, len(depths) + 2))
        for i, (name, depth) in enumerate(zip(self.stage_names, depths, strict=True)):
            out_features = make_divisible(_FEATURES[groups] * 2**i * width, 4 * groups)
            if out_features <= features:
                raise UserError(
                    f"width={width} is too small for {groups} groups: {name} would have no more "
                    "channels than the layer before; take a larger one."
                )
            units = []
            for j in range(depth):
                first_groups = 1 if i == j == 0 else groups
                stride = 2 if j == 0 else 1
                units.append(ShuffleUnit(features, out_features, stride, groups, first_groups))
                features = out_features
            setattr(self, name, Sequential(*units))
        self.fc = Linear(features, num_classes)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.conv1(x)
        yield "conv1", x
        if self.stem == "imagenet":
            x = max_pool(x, 3, stride=2, padding=1)
        for name in self.stage_names:
            x = getattr(self, name)(x)
            yield name, x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.fc(x)


VARIANTS = {
    f"shufflenet_v1_g{groups}_x{width}".replace(".", "_"): partial(
        ShuffleNetV1, groups, (4, 8, 4), width=width
    )
    for groups in _FEATURES
    for width in (0.5, 1.0, 1.5, 2.0)
}
VARIANTS["test_shufflenet_v1"] = partial(ShuffleNetV1, 3, (2, 2), num_classes=10, width=0.25)
