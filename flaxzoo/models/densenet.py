"""DenseNet, for ImageNet and for CIFAR.

Densely Connected Convolutional Networks, Huang et al. 2016. https://arxiv.org/abs/1608.06993

Attributes are named as in torchvision.models.densenet; the files that it publishes write
`denselayer1.norm.1` for today's `denselayer1.norm1`. The CIFAR nets, which torchvision does not
have, follow the same names. Departures: dropout follows the last convolution of each layer alone,
as in torchvision and timm (the paper, section 4.1, has it after every convolution but the first).
With stem="cifar" the first convolution is all there is before the first block, as in the paper's
CIFAR nets: no `norm0`, no pool.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    Dropout,
    Linear,
    Sequential,
    avg_pool,
    global_avg_pool,
    pooled_stem,
    relu,
)
from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers.init import ZEROS, KaimingNormal
from flaxzoo.layers.module import Layer
from flaxzoo.models.base import Classifier, check_stem

Conv = partial(_Conv, use_bias=False, kernel_init=KaimingNormal())


class DenseLayer(nnx.Module):
    """Normalisation, ReLU, 3x3 convolution to `growth` new channels (section 3).

    With a bottleneck, a 1x1 convolution to 4 * growth channels comes first, in the same order.
    """

    def __init__(self, in_features: int, growth: int, bottleneck: bool, dropout: float):
        self.norm1 = BatchNorm(in_features)
        if bottleneck:
            self.conv1 = Conv(in_features, 4 * growth, 1)
            self.norm2 = BatchNorm(4 * growth)
            self.conv2 = Conv(4 * growth, growth, 3)
        else:
            self.conv1 = Conv(in_features, growth, 3)
        self.bottleneck = bottleneck
        self.dropout = Dropout(dropout)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w growth"]:
        x = self.conv1(relu(self.norm1(x)))
        if self.bottleneck:
            x = self.conv2(relu(self.norm2(x)))
        return self.dropout(x)


class DenseBlock(Sequential):
    """Layers that each see what went into the block and what all layers before them made."""

    def __init__(self, depth: int, in_features: int, growth: int, bottleneck: bool, dropout: float):
        layers = {
            f"denselayer{i + 1}": DenseLayer(in_features + i * growth, growth, bottleneck, dropout)
            for i in range(depth)
        }
        super().__init__(**layers)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c_out"]:
        for layer in self:  # copies all channels once a layer; `norm1` reads them all anyway
            x = jnp.concatenate([x, layer(x)], axis=-1)
        return x


class DenseNet(Classifier):
    """A stem, dense blocks with a halving of the map between them, average pooling, `classifier`.

    Args:
        depths: layers in each block.
        growth: channels that each layer adds, k in the paper.
        stem_features: channels of the first convolution.
        stem: "imagenet", a 7x7 convolution of stride 2, normalisation, ReLU and a max-pool, or
            "cifar", a 3x3 convolution of stride 1 alone.
        bc: DenseNet-BC, with bottlenecks and half of the channels after each transition; False for
            the plain DenseNet without either.
    """

    first_conv = "features.conv0"
    head_names = ("classifier",)
    old_names = ((r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),)

    def __init__(
        self,
        depths: Sequence[int],
        growth: int,
        stem_features: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        bc: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        blocks = len(depths)
        layers: dict[str, Layer] = {}
        self.stem = stem
        if stem == "imagenet":
            self.min_size = 2 ** (blocks + 1) - 3
            layers["conv0"] = Conv(in_channels, stem_features, 7, 2)
            layers["norm0"] = BatchNorm(stem_features)
        else:
            self.min_size = 2 ** (blocks - 1)
            layers["conv0"] = Conv(in_channels, stem_features, 3)
        features = stem_features
        for i, depth in enumerate(depths, start=1):
            layers[f"denseblock{i}"] = DenseBlock(depth, features, growth, bc, dropout)
            features += depth * growth
            if i < blocks:
                out_features = features // 2 if bc else features
                layers[f"transition{i}"] = Sequential(
                    norm=BatchNorm(features),
                    relu=relu,
                    conv=Conv(features, out_features, 1),
                    pool=_halve,
                )
                features = out_features
        layers["norm5"] = BatchNorm(features)  # torchvision's name, however many blocks there are
        self.features = Sequential(**layers)
        self.classifier = Linear(features, num_classes, bias_init=ZEROS)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        conv0: Any = self.features[0]
        blocks = self.features.names[1:-1]  # `norm5` is the head's
        if self.stem == "imagenet":
            norm0: Any = self.features[1]
            x, pooled = pooled_stem(conv0, norm0, x)
            yield "features.relu0", x
            x, blocks = pooled, blocks[1:]
        else:
            x = conv0(x)
            yield "features.conv0", x
        for name in blocks:
            x = getattr(self.features, name)(x)
            if name.startswith("denseblock"):
                yield f"features.{name}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(relu(self.features[-1](x)))
        return x if pre_logits else self.classifier(x)


def _halve(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c"]:
    return avg_pool(x, 2)


_cifar = partial(DenseNet, num_classes=10, stem="cifar")

VARIANTS = {
    "densenet121": partial(DenseNet, (6, 12, 24, 16), 32, 64),
    "densenet161": partial(DenseNet, (6, 12, 36, 24), 48, 96),
    "densenet169": partial(DenseNet, (6, 12, 32, 32), 32, 64),
    "densenet201": partial(DenseNet, (6, 12, 48, 32), 32, 64),
    # Table 2 of the paper: L layers in three blocks, k new channels each.
    "densenet40_k12": partial(_cifar, (12, 12, 12), 12, 16, bc=False),
    "densenet_bc_100_k12": partial(_cifar, (16, 16, 16), 12, 24),
    "test_densenet": partial(DenseNet, (2, 1), 4, 8, num_classes=10),
}
