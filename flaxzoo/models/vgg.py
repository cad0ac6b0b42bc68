"""VGG, with and without batch normalisation.

Very Deep Convolutional Networks for Large-Scale Image Recognition, Simonyan and Zisserman 2014.
https://arxiv.org/abs/1409.1556

Attributes are named as in torchvision.models.vgg, and the nets are torchvision's: table 1's columns
A, B, D and E (11, 13, 16 and 19 layers). Departures from the paper: batch normalisation after every
convolution in the `_bn` variants, and an adaptive pooling to 7x7, for which images need not have
224 pixels. timm keeps the hidden linear layers as convolutions; its files hold the same numbers,
but its models are the same function at 224 pixels only.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    Dropout,
    Sequential,
    adaptive_avg_pool,
    flatten,
    max_pool,
    relu,
)
from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers import Linear as _Linear
from flaxzoo.layers.init import ZEROS, KaimingNormal, Normal
from flaxzoo.layers.module import Layer
from flaxzoo.models.base import Classifier

Conv = partial(_Conv, kernel_init=KaimingNormal("fan_out"), bias_init=ZEROS)  # torchvision's
Linear = partial(_Linear, kernel_init=Normal(0.01), bias_init=ZEROS)


def _pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c"]:
    return max_pool(x, 2)


class VGG(Classifier):
    """Stages of 3x3 convolutions, each halved by a max-pool, and three linear layers `classifier`.

    Args:
        widths: channels of each stage.
        hidden: width of the two hidden linear layers.
        depths: convolutions in each stage.
        norm: the normalisation after each convolution, or None.
        dropout: rate after each hidden linear layer.
    """

    first_conv = "features.0"
    head_names = ("classifier.6",)
    timm_names = (
        (r"^pre_logits\.fc1\.", "classifier.0."),
        (r"^pre_logits\.fc2\.", "classifier.3."),
        (r"^head\.fc\.", "classifier.6."),
    )

    def __init__(
        self,
        widths: Sequence[int],
        hidden: int,
        depths: Sequence[int],
        norm: type[BatchNorm] | None,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.5,
    ):
        super().__init__(in_channels, num_classes)
        self.min_size = 2 ** len(depths)
        layers: list[Layer] = []
        pools, features = [], in_channels
        for width, depth in zip(widths, depths, strict=True):
            for _ in range(depth):
                layers += [Conv(features, width, 3), *([norm(width)] if norm else []), relu]
                features = width
            pools.append(len(layers))
            layers.append(_pool)
        self.features = Sequential(*layers)
        self.pools = tuple(pools)
        self.classifier = Sequential(
            Linear(features * 7 * 7, hidden), relu, Dropout(dropout),
            Linear(hidden, hidden), relu, Dropout(dropout),
            Linear(hidden, num_classes),
        )  # fmt: skip

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.pools:
                yield f"features.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = flatten(adaptive_avg_pool(x, 7))
        *hidden, last = self.classifier
        for layer in hidden:
            x = layer(x)
        return x if pre_logits else last(x)


_vgg = partial(VGG, (64, 128, 256, 512, 512), 4096)

VARIANTS = {
    "vgg11": partial(_vgg, (1, 1, 2, 2, 2), None),
    "vgg13": partial(_vgg, (2, 2, 2, 2, 2), None),
    "vgg16": partial(_vgg, (2, 2, 3, 3, 3), None),
    "vgg19": partial(_vgg, (2, 2, 4, 4, 4), None),
    "vgg11_bn": partial(_vgg, (1, 1, 2, 2, 2), BatchNorm),
    "vgg13_bn": partial(_vgg, (2, 2, 2, 2, 2), BatchNorm),
    "vgg16_bn": partial(_vgg, (2, 2, 3, 3, 3), BatchNorm),
    "vgg19_bn": partial(_vgg, (2, 2, 4, 4, 4), BatchNorm),
    "test_vgg": partial(VGG, (8, 16, 16), 128, (1, 2, 1), BatchNorm, num_classes=10),
}
