"""AlexNet.

ImageNet Classification with Deep Convolutional Neural Networks, Krizhevsky et al. 2012.
https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks
One weird trick for parallelizing convolutional neural networks, Krizhevsky 2014.
https://arxiv.org/abs/1404.5997

Attributes are named as in torchvision.models.alexnet, and the net is torchvision's. Like the second
paper's, and unlike the first's, it has a single tower (no groups), first widths of 64 and 192, and
no local response normalisation. torchvision's own departures: 256 filters in the fourth convolution
(384 in both papers), dropout before the two hidden linear layers instead of after them, and an
adaptive pooling to 6x6, for which images need not have 224 pixels.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from jaxtyping import Array, Float

from flaxzoo.layers import (
    Conv,
    Dropout,
    Linear,
    Sequential,
    adaptive_avg_pool,
    flatten,
    max_pool,
    relu,
)
from flaxzoo.models.base import Classifier


def _pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c"]:
    return max_pool(x, 3, stride=2)


class AlexNet(Classifier):
    """Five convolutions `features`, average pooling to 6x6, three linear layers `classifier`.

    Args:
        widths: channels of the five convolutions.
        hidden: width of the two hidden linear layers.
        dropout: rate before each of these.
    """

    min_size = 63
    first_conv = "features.0"
    head_names = ("classifier.6",)

    def __init__(
        self,
        widths: Sequence[int],
        hidden: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.5,
    ):
        super().__init__(in_channels, num_classes)
        width1, width2, width3, width4, width5 = widths
        self.features = Sequential(
            Conv(in_channels, width1, 11, stride=4, padding=2), relu, _pool,
            Conv(width1, width2, 5), relu, _pool,
            Conv(width2, width3, 3), relu,
            Conv(width3, width4, 3), relu,
            Conv(width4, width5, 3), relu, _pool,
        )  # fmt: skip
        self.classifier = Sequential(
            Dropout(dropout), Linear(width5 * 6 * 6, hidden), relu,
            Dropout(dropout), Linear(hidden, hidden), relu,
            Linear(hidden, num_classes),
        )  # fmt: skip

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in (1, 4, 7, 9, 12):
                yield f"features.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = flatten(adaptive_avg_pool(x, 6))
        *hidden, last = self.classifier
        for layer in hidden:
            x = layer(x)
        return x if pre_logits else last(x)


VARIANTS = {
    "alexnet": partial(AlexNet, (64, 192, 384, 256, 256), 4096),
    "test_alexnet": partial(AlexNet, (8, 16, 24, 16, 8), 32, num_classes=10),
}
