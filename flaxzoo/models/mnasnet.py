"""MnasNet-B1: inverted residuals of several kernel sizes, found by search.

MnasNet: Platform-Aware Neural Architecture Search for Mobile, Tan et al. 2018.
https://arxiv.org/abs/1807.11626

Attributes are named as in torchvision.models.mnasnet; `timm_keys` gives timm's names of the same
nets. As in torchvision this is B1, the paper's net without squeeze and excitation, its batch
normalisation has momentum 3e-4, and the last convolution has 1280 channels at every width.

torchvision has two versions of the nets whose width is not 1: in files of version 1 the stem is
not scaled. torch stores the version in a file's metadata, and `options_of` reads it.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.errors import UserError, shown
from flaxzoo.layers import (
    BatchNorm,
    Dropout,
    Linear,
    Sequential,
    global_avg_pool,
    make_divisible,
    relu,
    residual,
)
from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers.init import ZEROS, KaimingNormal, KaimingUniform
from flaxzoo.models.base import Classifier, check_stem, check_width

Conv = partial(_Conv, use_bias=False, kernel_init=KaimingNormal("fan_out"))
Norm = partial(BatchNorm, momentum=1 - 0.9997)


class InvertedResidual(nnx.Module):
    """1x1 expand, depthwise, 1x1 project without activation, and a shortcut where shapes agree."""

    def __init__(
        self, in_features: int, out_features: int, kernel_size: int, stride: int, expansion: int
    ):
        width = in_features * expansion
        self.layers = Sequential(
            Conv(in_features, width, 1), Norm(width), relu,
            Conv(width, width, kernel_size, stride, groups=width), Norm(width), relu,
            Conv(width, out_features, 1), Norm(out_features),
        )  # fmt: skip
        self.residual = stride == 1 and in_features == out_features

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        y = self.layers(x)
        return residual(x, y) if self.residual else y


class Stage(NamedTuple):
    """Blocks of one width; only the first has the stride."""

    features: int
    kernel_size: int
    stride: int
    expansion: int
    depth: int


class MNASNet(Classifier):
    """`layers`: a stem, stages of blocks, a 1x1 convolution; then average pooling and the head.

    Args:
        table: the stages.
        width: the width multiplier, any positive number.
        version: 1 for the first version of torchvision's nets, with a stem of fixed width.
        stem: "imagenet", of stride 2, or "cifar", of stride 1; all else is the same.
        dropout: rate before the head.
    """

    first_conv = "layers.0"
    head_names = ("classifier.1",)

    def __init__(
        self,
        table: Sequence[Stage],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        width: float = 1.0,
        version: int = 2,
        dropout: float = 0.2,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        check_width(width)
        self.version = _checked_version(version)
        first, features = (
            (32, 16) if version == 1 else map(make_divisible, (32 * width, 16 * width))
        )
        layers: list[Any] = [
            Conv(in_channels, first, 3, stride=2 if stem == "imagenet" else 1), Norm(first), relu,
            Conv(first, first, 3, groups=first), Norm(first), relu,
            Conv(first, features, 1), Norm(features),
        ]  # fmt: skip
        ends = []  # the last layers of each map size
        for row in table:
            if row.stride == 2:
                ends.append(len(layers) - 1)
            blocks = []
            for j in range(row.depth):
                out_features = make_divisible(row.features * width)
                stride = row.stride if j == 0 else 1
                blocks.append(
                    InvertedResidual(features, out_features, row.kernel_size, stride, row.expansion)
                )
                features = out_features
            layers.append(Sequential(*blocks))
        layers += [Conv(features, 1280, 1), Norm(1280), relu]
        self.ends = (*ends, len(layers) - 1)
        self.layers = Sequential(*layers)
        init = KaimingUniform("fan_out", gain=1.0)
        self.classifier = Sequential(
            Dropout(dropout), Linear(1280, num_classes, kernel_init=init, bias_init=ZEROS)
        )

    @classmethod
    def options_of(cls, weights: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the version of a file: the metadata's, without any that of its stem.

        torchvision refuses a state_dict without metadata. Only torch's own files have it, though,
        and the widths of the stem tell the version wherever it makes a difference.
        """
        version = metadata.get("", {}).get("version")
        if version is None:
            stem = [weights.get(f"layers.{i}.weight") for i in (0, 6)]
            fixed = [w is not None and w.shape[0] for w in stem] == [32, 16]
            return {"version": 1} if fixed else {}
        return {"version": 1} if _checked_version(version) == 1 else {}

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in self.ends:
                yield f"layers.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.classifier(x)

    def timm_keys(self) -> dict[str, str]:
        last = len(self.layers) - 3
        stem = {"conv_dw": 3, "bn1": 4, "conv_pw": 6, "bn2": 7}
        block = {"conv_pw": 0, "bn1": 1, "conv_dw": 3, "bn2": 4, "conv_pwl": 6, "bn3": 7}
        keys = {"conv_stem": "layers.0", "bn1": "layers.1", "classifier": "classifier.1"}
        keys |= {f"blocks.0.0.{name}": f"layers.{i}" for name, i in stem.items()}
        keys |= {"conv_head": f"layers.{last}", "bn2": f"layers.{last + 1}"}
        for number in range(8, last):  # the stages follow the eight layers of the stem
            stage: Any = self.layers[number]
            for j in range(len(stage)):
                for name, i in block.items():
                    keys[f"blocks.{number - 7}.{j}.{name}"] = f"layers.{number}.{j}.layers.{i}"
        return keys


def _checked_version(version: Any) -> int:
    if not isinstance(version, int) or version not in (1, 2):
        raise UserError(f"the version of a MNASNet is 1 or 2; got {shown(version)}.")
    return version


_TABLE = (
    Stage(24, 3, 2, 3, 3),
    Stage(40, 5, 2, 3, 3),
    Stage(80, 5, 2, 6, 3),
    Stage(96, 3, 1, 6, 2),
    Stage(192, 5, 2, 6, 4),
    Stage(320, 3, 1, 6, 1),
)

VARIANTS = {
    "mnasnet0_5": partial(MNASNet, _TABLE, width=0.5),
    "mnasnet0_75": partial(MNASNet, _TABLE, width=0.75),
    "mnasnet1_0": partial(MNASNet, _TABLE),
    "mnasnet1_3": partial(MNASNet, _TABLE, width=1.3),
    "test_mnasnet": partial(
        MNASNet, (Stage(32, 3, 2, 3, 2), Stage(48, 5, 2, 6, 1), Stage(64, 3, 1, 6, 1)),
        num_classes=10, width=0.5,
    ),
}  # fmt: skip
