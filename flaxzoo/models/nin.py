"""Network in Network, for ImageNet and for CIFAR-10.

Network In Network, Lin, Chen and Yan 2013. https://arxiv.org/abs/1312.4400

The paper gives no widths. These are those of the authors' public Caffe models (model zoo,
"Network in Network Imagenet Model" and "CIFAR10 Model": gists d802a5849de39225bcc6 and
e56253735ef32c3c296d of github.com/mavenlin), with Caffe's pools, whose last window may be partial.
No PyTorch library has the nets, so the attribute names are ours.

Departures: the class maps have no ReLU. Paper (equation 2) and Caffe files have one, which makes
all logits positive and lets a class die for good. The initial values are He et al.'s, which fit any
width; the Caffe files have normal distributions of deviation 0.01 and 0.05, tuned by hand. Images
of any size are taken: the last pooling is over the whole map.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from jaxtyping import Array, Float

from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers import Dropout, Sequential, avg_pool, global_avg_pool, max_pool, relu
from flaxzoo.layers.init import ZEROS, KaimingNormal
from flaxzoo.layers.module import Layer
from flaxzoo.models.base import Classifier

Conv = partial(_Conv, kernel_init=KaimingNormal(), bias_init=ZEROS)


def _max(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c"]:
    return max_pool(x, 3, stride=2, ceil_mode=True)


def _avg(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c"]:
    return avg_pool(x, 3, stride=2, ceil_mode=True)


_POOLS = {"max": _max, "avg": _avg}

Mlpconv = tuple[int, int, int, tuple[int, ...]]


class NiN(Classifier):
    """Blocks of one wide and further 1x1 convolutions, `features`; a map per class, averaged.

    Args:
        layout: "max" and "avg" pools, "dropout", and blocks (kernel size, stride, padding of the
            first convolution, widths of all). The last block lacks its last convolution, which is
            `classifier`.
        dropout: rate of all "dropout".
    """

    first_conv = "features.0"
    head_names = ("classifier",)

    def __init__(
        self,
        layout: Sequence[Mlpconv | str],
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.5,
    ):
        super().__init__(in_channels, num_classes)
        self.min_size = _min_size(layout)
        layers: list[Layer] = []
        ends, features = [], in_channels
        for part in layout:
            if part == "dropout":
                layers.append(Dropout(dropout))
                continue
            if isinstance(part, str):
                layers.append(_POOLS[part])
            else:
                kernel_size, stride, padding, widths = part
                for width in widths:
                    layers += [Conv(features, width, kernel_size, stride, padding), relu]
                    features, kernel_size, stride, padding = width, 1, 1, 0
            ends.append(len(layers) - 1)
        self.features = Sequential(*layers)
        self.ends = tuple(ends)
        self.classifier = Conv(features, num_classes, 1)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.ends:
                yield f"features.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        return global_avg_pool(x if pre_logits else self.classifier(x))


def _min_size(layout: Sequence[Mlpconv | str]) -> int:
    """The least height that leaves one row, found from the last layer back to the first."""
    size = 1
    for part in reversed(layout):
        if part in _POOLS:
            size *= 2
        elif not isinstance(part, str):
            kernel_size, stride, padding, _ = part
            size = (size - 1) * stride + kernel_size - 2 * padding
    return size


_IMAGENET = (
    (11, 4, 0, (96, 96, 96)), "max",
    (5, 1, 2, (256, 256, 256)), "max",
    (3, 1, 1, (384, 384, 384)), "max", "dropout",
    (3, 1, 1, (1024, 1024)),
)  # fmt: skip
_CIFAR10 = (
    (5, 1, 2, (192, 160, 96)), "max", "dropout",
    (5, 1, 2, (192, 192, 192)), "avg", "dropout",
    (3, 1, 1, (192, 192)),
)  # fmt: skip
_TEST = (
    (7, 2, 0, (16, 12, 8)), "max", "dropout", (5, 1, 2, (16, 16, 16)), "avg", (3, 1, 1, (16, 16))
)  # fmt: skip

VARIANTS = {
    "nin_imagenet": partial(NiN, _IMAGENET),
    "nin_cifar10": partial(NiN, _CIFAR10, num_classes=10),
    "test_nin": partial(NiN, _TEST, num_classes=10),
}
