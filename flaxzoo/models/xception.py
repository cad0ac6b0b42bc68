"""Xception: depthwise separable convolutions between residual shortcuts.

Xception: Deep Learning with Depthwise Separable Convolutions, Chollet 2016.
https://arxiv.org/abs/1610.02357

Attributes are named as in timm's legacy_xception, T. Standley's and R. Cadene's translation of the
Keras net; its weights come from there, too. The two convolutions of the stem have no padding, as in
Keras and unlike many copies. Departures from the paper's own code: max-pools pad symmetrically,
where Keras' "same" pads a map of even size only below and to the right; eps is 1e-5, not 1e-3; and
the paper's dropout of 0.5 before the head is off, as in all published code, unless `dropout` asks
for it.

The nets called xception41, 65 and 71 are another architecture: xception_aligned.py.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    Dropout,
    Linear,
    Sequential,
    global_avg_pool,
    max_pool,
    relu,
    residual,
)
from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers.init import KaimingNormal
from flaxzoo.models.base import Classifier, check_stem

Conv = partial(_Conv, use_bias=False, kernel_init=KaimingNormal("fan_out"))


class SeparableConv(nnx.Module):
    """A 3x3 of every channel on its own, `conv1`, then a 1x1 over the channels, `pointwise`."""

    def __init__(self, in_features: int, out_features: int):
        self.conv1 = Conv(in_features, in_features, 3, groups=in_features)
        self.pointwise = Conv(in_features, out_features, 1)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c_out"]:
        return self.pointwise(self.conv1(x))


class Block(nnx.Module):
    """`rep`: ReLU, separable convolution, normalisation, repeated; beside it a shortcut.

    Args:
        widths: what each separable convolution gives.
        shrink: whether a max-pool halves the map at the end, and a 1x1 convolution the shortcut.
        starts_with_relu: whether the first ReLU is there.
    """

    def __init__(
        self, in_features: int, widths: tuple[int, ...], shrink: bool, starts_with_relu: bool = True
    ):
        layers: list[nnx.Module | Callable] = []
        features = in_features
        for width in widths:
            layers += [relu, SeparableConv(features, width), BatchNorm(width)]
            features = width
        if shrink:
            layers.append(_shrink)
        self.skip = Conv(in_features, features, 1, 2) if shrink else None
        self.skipbn = BatchNorm(features) if shrink else None
        self.rep = Sequential(*layers[0 if starts_with_relu else 1 :])

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        shortcut = x
        if self.skip is not None and self.skipbn is not None:
            shortcut = self.skipbn(self.skip(x))
        return residual(shortcut, self.rep(x))


class Widths(NamedTuple):
    """Channels: of the stem's convolutions, the entry flow's blocks, and the exit flow's layers."""

    stem: tuple[int, int] = (32, 64)
    entry: tuple[int, int, int] = (128, 256, 728)
    exit: tuple[int, int, int] = (1024, 1536, 2048)


class Xception(Classifier):
    """Entry flow, middle flow and exit flow (Chollet 2016, figure 5).

    Args:
        widths: channels of all layers.
        middle: blocks of the middle flow.
        stem: "imagenet", a 3x3 convolution of stride 2 and another, both without padding, or
            "cifar": of stride 1 and padded, which keeps small images at their size.
        dropout: rate before the head.
    """

    def __init__(
        self,
        widths: Widths,
        middle: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        dropout: float = 0.0,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        stride, padding, self.min_size = (2, 0, 7) if stem == "imagenet" else (1, 1, 1)
        a, b = widths.stem
        self.conv1 = Conv(in_channels, a, 3, stride, padding)
        self.bn1 = BatchNorm(a)
        self.conv2 = Conv(a, b, 3, 1, padding)
        self.bn2 = BatchNorm(b)

        features, entry = b, len(widths.entry)
        blocks = []
        for width in widths.entry:
            blocks.append(Block(features, (width, width), True, starts_with_relu=bool(blocks)))
            features = width
        blocks += [Block(features, (features,) * 3, shrink=False) for _ in range(middle)]
        blocks.append(Block(features, (features, widths.exit[0]), shrink=True))
        self.block_names = tuple(f"block{i}" for i in range(1, len(blocks) + 1))
        for name, block in zip(self.block_names, blocks, strict=True):
            setattr(self, name, block)
        self.stage_names = (*self.block_names[:entry], *self.block_names[-2:])

        a, b, c = widths.exit
        self.conv3 = SeparableConv(a, b)
        self.bn3 = BatchNorm(b)
        self.conv4 = SeparableConv(b, c)
        self.bn4 = BatchNorm(c)
        self.dropout = Dropout(dropout)
        self.fc = Linear(c, num_classes)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = relu(self.bn1(self.conv1(x)))
        x = relu(self.bn2(self.conv2(x)))
        yield "act2", x
        for name in self.block_names:
            x = getattr(self, name)(x)
            if name in self.stage_names:
                yield name, x
        x = relu(self.bn3(self.conv3(x)))
        x = relu(self.bn4(self.conv4(x)))
        yield "act4", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = self.dropout(global_avg_pool(x))
        return x if pre_logits else self.fc(x)


def _shrink(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c"]:
    return max_pool(x, 3, stride=2, padding=1)


VARIANTS = {
    "xception": partial(Xception, Widths(), 8),
    "test_xception": partial(
        Xception, Widths((8, 16), (16, 24, 32), (40, 48, 56)), 1, num_classes=10
    ),
}
