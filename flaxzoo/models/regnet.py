"""RegNetX and RegNetY.

Designing Network Design Spaces, Radosavovic et al. 2020. https://arxiv.org/abs/2003.13678

Attributes are named as in torchvision.models.regnet; `timm_keys` gives timm's names. The designs in
`VARIANTS` are those of the authors' code, https://github.com/facebookresearch/pycls, and of SWAG
(Singh et al. 2022, https://arxiv.org/abs/2201.08371) for RegNetY-128GF.

Where a width is no multiple of the group width, we round as torchvision does, which makes stages of
Y-800MF, Y-8GF and X-400MF wider than the authors' (400 channels for 384, for example). In timm
these three are regnety_008_tv, regnety_080_tv and regnetx_004_tv; all others agree.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    Conv,
    Linear,
    Sequential,
    SqueezeExcitation,
    global_avg_pool,
    make_divisible,
    relu,
)
from flaxzoo.layers.init import ZEROS, KaimingNormal, Normal
from flaxzoo.models.base import Classifier, check_stem

_INIT = KaimingNormal("fan_out")


class Design(NamedTuple):
    """The six numbers that make a RegNet (Radosavovic et al. 2020, section 3.3).

    Attributes:
        depth: blocks in all.
        w_0, w_a: block j would be w_0 + w_a * j channels wide ...
        w_m: ... but is rounded to the nearest w_0 * w_m**s with a whole number s: the stage.
        group_width: channels in a group of the 3x3 convolutions.
        se_ratio: squeezed channels over the block's input channels; 0 (RegNetX) for no gate.
    """

    depth: int
    w_0: int
    w_a: float
    w_m: float
    group_width: int
    se_ratio: float = 0.0

    def stages(self) -> list[tuple[int, int, int]]:
        """Returns (width, number of blocks, group width) of each stage.

        Widths are rounded to multiples of 8, and then to multiples of the group width, which is
        never more than the width.
        """
        linear = self.w_0 + self.w_a * np.arange(self.depth)
        exponents = np.round(np.log(linear / self.w_0) / math.log(self.w_m))
        rounded = 8 * np.round(self.w_0 * self.w_m**exponents / 8).astype(int)
        widths, counts = np.unique(rounded, return_counts=True)  # sorted, and they only grow
        stages = []
        for width, count in zip(widths.tolist(), counts.tolist(), strict=True):
            group_width = min(self.group_width, width)
            stages.append((make_divisible(width, group_width), count, group_width))
        return stages


class Block(nnx.Module):
    """1x1, grouped 3x3 with the stride, gate (in RegNetY), 1x1, and a shortcut (figure 4).

    The bottleneck does not narrow: all three convolutions have the width of the stage.
    """

    def __init__(
        self, in_features: int, width: int, stride: int, group_width: int, se_ratio: float
    ):
        shrinks = stride != 1 or in_features != width
        self.proj = _conv_norm(in_features, width, 1, stride, activate=False) if shrinks else None
        layers: dict[str, nnx.Module] = {
            "a": _conv_norm(in_features, width, 1),
            "b": _conv_norm(width, width, 3, stride, groups=width // group_width),
        }
        if se_ratio:
            squeezed = round(se_ratio * in_features)
            layers["se"] = SqueezeExcitation(width, squeezed, kernel_init=_INIT)
        layers["c"] = _conv_norm(width, width, 1, activate=False)
        self.f = Sequential(**layers)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        shortcut = x if self.proj is None else self.proj(x)
        return relu(shortcut + self.f(x))


class RegNet(Classifier):
    """A 3x3 stem of 32 channels, `trunk_output` of stages that halve the map, average pooling, fc.

    Args:
        stem: "imagenet", of stride 2, or "cifar", of stride 1; all else is the same.
    """

    first_conv = "stem.0"

    def __init__(
        self,
        design: Design,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        features = 32
        self.stem = _conv_norm(in_channels, features, 3, stride=2 if stem == "imagenet" else 1)
        trunk = {}
        for i, (width, depth, group_width) in enumerate(design.stages(), 1):
            blocks = {}
            for j in range(depth):
                stride = 2 if j == 0 else 1
                blocks[f"block{i}-{j}"] = Block(
                    features, width, stride, group_width, design.se_ratio
                )
                features = width
            trunk[f"block{i}"] = Sequential(**blocks)
        self.trunk_output = Sequential(**trunk)
        self.fc = Linear(features, num_classes, kernel_init=Normal(0.01), bias_init=ZEROS)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.stem(x)
        yield "stem", x
        for name, stage in zip(self.trunk_output.names, self.trunk_output, strict=True):
            x = stage(x)
            yield f"trunk_output.{name}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.fc(x)

    def timm_keys(self) -> dict[str, str]:
        keys = {"stem.conv": "stem.0", "stem.bn": "stem.1", "head.fc": "fc"}
        parts = {"conv1": "f.a", "conv2": "f.b", "conv3": "f.c", "downsample": "proj"}
        for i, stage in enumerate(self.trunk_output, 1):
            blocks: Any = stage
            for j in range(len(blocks)):
                theirs, ours = f"s{i}.b{j + 1}", f"trunk_output.block{i}.block{i}-{j}"
                for name, part in parts.items():
                    keys[f"{theirs}.{name}.conv"] = f"{ours}.{part}.0"
                    keys[f"{theirs}.{name}.bn"] = f"{ours}.{part}.1"
                keys |= {f"{theirs}.se.{fc}": f"{ours}.f.se.{fc}" for fc in ("fc1", "fc2")}
        return keys


def _conv_norm(
    in_features: int,
    out_features: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    *,
    activate: bool = True,
) -> Sequential:
    """A convolution, its normalisation and, unless told otherwise, ReLU."""
    conv = Conv(
        in_features, out_features, kernel_size, stride, groups=groups, use_bias=False,
        kernel_init=_INIT,
    )  # fmt: skip
    activation = [relu] if activate else []
    return Sequential(conv, BatchNorm(out_features), *activation)


def _regnet(*design: Any, **options: Any) -> partial[RegNet]:
    return partial(RegNet, Design(*design), **options)


VARIANTS = {
    # Depth, w_0, w_a, w_m, group width, and for Y the ratio of the gate.
    "regnet_y_400mf": _regnet(16, 48, 27.89, 2.09, 8, 0.25),
    "regnet_y_800mf": _regnet(14, 56, 38.84, 2.4, 16, 0.25),
    "regnet_y_1_6gf": _regnet(27, 48, 20.71, 2.65, 24, 0.25),
    "regnet_y_3_2gf": _regnet(21, 80, 42.63, 2.66, 24, 0.25),
    "regnet_y_8gf": _regnet(17, 192, 76.82, 2.19, 56, 0.25),
    "regnet_y_16gf": _regnet(18, 200, 106.23, 2.48, 112, 0.25),
    "regnet_y_32gf": _regnet(20, 232, 115.89, 2.53, 232, 0.25),
    "regnet_y_128gf": _regnet(27, 456, 160.83, 2.52, 264, 0.25),
    "regnet_x_400mf": _regnet(22, 24, 24.48, 2.54, 16),
    "regnet_x_800mf": _regnet(16, 56, 35.73, 2.28, 16),
    "regnet_x_1_6gf": _regnet(18, 80, 34.01, 2.25, 24),
    "regnet_x_3_2gf": _regnet(25, 88, 26.31, 2.25, 48),
    "regnet_x_8gf": _regnet(23, 80, 49.56, 2.88, 120),
    "regnet_x_16gf": _regnet(22, 216, 55.59, 2.1, 128),
    "regnet_x_32gf": _regnet(23, 320, 69.86, 2.0, 168),
    # Stages of 16, 32 and 64 channels with 1, 1 and 2 blocks, for tests.
    "test_regnet": _regnet(4, 16, 16.0, 2.0, 8, 0.25, num_classes=10),
}
