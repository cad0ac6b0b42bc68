"""Aligned Xception 41, 65 and 71, the backbones of DeepLab v3+.

Xception: Deep Learning with Depthwise Separable Convolutions, Chollet 2016.
https://arxiv.org/abs/1610.02357
Encoder-Decoder with Atrous Separable Convolution, Chen et al. 2018 (DeepLab v3+, figure 4).
https://arxiv.org/abs/1802.02611

Attributes are named as in timm's xception41, xception65 and xception71. What differs from
xception.py: the map shrinks in strided separable convolutions instead of max-pools, each depthwise
convolution has its own normalisation, all strides pad symmetrically, and eps is 1e-3. Departure
from the paper, as in the code that its weights come from: only the last block has a ReLU after its
depthwise convolutions; in the others there is one before each separable convolution.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import BatchNorm as _BatchNorm
from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers import Linear, Sequential, global_avg_pool, relu, residual
from flaxzoo.models.base import Classifier, check_stem

BatchNorm = partial(_BatchNorm, eps=1e-3)
Conv = partial(_Conv, use_bias=False)


class SeparableConv(nnx.Module):
    """A 3x3 of every channel on its own and a 1x1 over the channels, each normalised.

    Args:
        activate: whether a ReLU follows each of the two.
    """

    def __init__(self, in_features: int, out_features: int, stride: int, activate: bool):
        self.conv_dw = Conv(in_features, in_features, 3, stride, groups=in_features)
        self.bn_dw = BatchNorm(in_features)
        self.conv_pw = Conv(in_features, out_features, 1)
        self.bn_pw = BatchNorm(out_features)
        self.activate = activate

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        x = self.bn_dw(self.conv_dw(x))
        x = self.bn_pw(self.conv_pw(relu(x) if self.activate else x))
        return relu(x) if self.activate else x


class Block(nnx.Module):
    """`stack`: three separable convolutions, the last one with the stride; beside it a shortcut.

    Args:
        widths: what each separable convolution gives.
        residual: whether there is a shortcut, and ReLUs stand before the convolutions, not in them.
    """

    def __init__(
        self, in_features: int, widths: tuple[int, ...], stride: int, residual: bool = True
    ):
        self.residual = residual
        project = residual and (stride != 1 or in_features != widths[-1])
        self.shortcut = _projection(in_features, widths[-1], stride) if project else None
        layers: dict[str, nnx.Module | Callable] = {}
        features = in_features
        for i, width in enumerate(widths, start=1):
            if residual:
                layers[f"act{i}"] = relu
            last = i == len(widths)
            layers[f"conv{i}"] = SeparableConv(
                features, width, stride if last else 1, activate=not residual
            )
            features = width
        self.stack = Sequential(**layers)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        y = self.stack(x)
        if not self.residual:
            return y
        return residual(x if self.shortcut is None else self.shortcut(x), y)


class Layout(NamedTuple):
    """What the variants differ in: channels of all layers, strides of the entry flow, depth.

    Attributes:
        stem: channels of its two convolutions.
        entry: (channels, stride) of the entry flow's blocks.
        middle: blocks of the middle flow.
        exit: channels of the exit flow: of its strided block, inside the last one, and at the end.
    """

    entry: tuple[tuple[int, int], ...] = ((128, 2), (256, 2), (728, 2))
    middle: int = 8
    stem: tuple[int, int] = (32, 64)
    exit: tuple[int, int, int] = (1024, 1536, 2048)


class XceptionAligned(Classifier):
    """A stem, `blocks`, average pooling, `head.fc`.

    Args:
        stem: "imagenet", a 3x3 convolution of stride 2 and another, or "cifar": both of stride 1.
    """

    first_conv = "stem.0.conv"
    head_names = ("head.fc",)

    def __init__(
        self,
        layout: Layout,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        a, b = layout.stem
        self.stem = Sequential(
            _conv_norm_relu(in_channels, a, stride=2 if stem == "imagenet" else 1),
            _conv_norm_relu(a, b),
        )
        features, blocks, strides = b, [], []

        def add(widths: tuple[int, ...], stride: int = 1, residual: bool = True):
            nonlocal features
            blocks.append(Block(features, widths, stride, residual))
            strides.append(stride)
            features = widths[-1]

        for width, stride in layout.entry:
            add((width,) * 3, stride)
        for _ in range(layout.middle):
            add((features,) * 3)
        c, d, e = layout.exit
        add((features, c, c), 2)
        add((d, d, e), residual=False)
        self.blocks = Sequential(*blocks)
        # The last block of each size is a stage.
        self.stage_ends = tuple(i for i, stride in enumerate([*strides[1:], 2]) if stride == 2)
        self.head = Sequential(fc=Linear(features, num_classes))

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.stem(x)
        yield "stem", x
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.stage_ends:
                yield f"blocks.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.head(x)


def _projection(in_features: int, out_features: int, stride: int) -> Sequential:
    conv = Conv(in_features, out_features, 1, stride)
    return Sequential(conv=conv, bn=BatchNorm(out_features))


def _conv_norm_relu(in_features: int, out_features: int, stride: int = 1) -> Sequential:
    conv = Conv(in_features, out_features, 3, stride)
    return Sequential(conv=conv, bn=BatchNorm(out_features), relu=relu)


_ENTRY_71 = ((128, 2), (256, 1), (256, 2), (728, 1), (728, 2))

VARIANTS = {
    "xception41": partial(XceptionAligned, Layout(middle=8)),
    "xception65": partial(XceptionAligned, Layout(middle=16)),
    "xception71": partial(XceptionAligned, Layout(entry=_ENTRY_71, middle=16)),
    "test_xception_aligned": partial(
        XceptionAligned,
        Layout(entry=((24, 2), (32, 1)), middle=1, stem=(8, 16), exit=(40, 48, 56)),
        num_classes=10,
    ),
}
