"""Two small nets with batch normalisation for small images such as MNIST's.

Gradient-Based Learning Applied to Document Recognition, LeCun et al. 1998 (LeNet-5).
http://yann.lecun.com/exdb/publis/pdf/lecun-01a.pdf
Batch Normalization, Ioffe and Szegedy 2015. https://arxiv.org/abs/1502.03167

No PyTorch library has them, so the attribute names are ours. `lenet5_bn` departs from the paper: a
batch normalisation before each activation, logistic sigmoids instead of scaled tanh, plain average
pools without trainable coefficients, every map of the second convolution sees all six of the first
(table I), and a linear head instead of radial basis functions. No layer has a bias: the
normalisations have their own, and the head goes without. LeNet-5's own maps and its 400 features
come with image_size=32; the default is 28, MNIST's own size, where 256 features remain.

`convnet_bn` is no paper's: two blocks of convolution, normalisation, ReLU and max-pool.
"""

from collections.abc import Iterator
from functools import partial

from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    Conv,
    Linear,
    Sequential,
    avg_pool,
    flatten,
    max_pool,
    relu,
    sigmoid,
)
from flaxzoo.models.base import Classifier, two_sides


def _max(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c"]:
    return max_pool(x, 2)


def _avg(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c"]:
    return avg_pool(x, 2)


class SmallNet(Classifier):
    """Two blocks of four layers, `features`, and the linear layers `classifier` on all pixels."""

    first_conv = "features.0"
    image_size: tuple[int, int]
    features: Sequential
    classifier: Sequential

    def __init__(self, num_classes: int, in_channels: int, image_size: int | tuple[int, int]):
        super().__init__(in_channels, num_classes)
        self.image_size = two_sides(image_size, self.min_size)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in (2, 3, 6, 7):
                yield f"features.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = flatten(x)
        *hidden, last = self.classifier
        for layer in hidden:
            x = layer(x)
        return x if pre_logits else last(x)


class LeNet(SmallNet):
    """LeNet-5 with batch normalisation.

    Args:
        image_size: height and width of the images, or one number for both.
    """

    min_size = 16
    head_names = ("classifier.6",)

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 28,
    ):
        super().__init__(num_classes, in_channels, image_size)
        height, width = (((side - 4) // 2 - 4) // 2 for side in self.image_size)
        conv = partial(Conv, kernel_size=5, padding=0, use_bias=False)
        linear = partial(Linear, use_bias=False)
        self.features = Sequential(
            conv(in_channels, 6), BatchNorm(6), sigmoid, _avg,
            conv(6, 16), BatchNorm(16), sigmoid, _avg,
        )  # fmt: skip
        self.classifier = Sequential(
            linear(16 * height * width, 120), BatchNorm(120), sigmoid,
            linear(120, 84), BatchNorm(84), sigmoid,
            linear(84, num_classes),
        )  # fmt: skip


class ConvNet(SmallNet):
    """Two blocks of convolution, batch normalisation, ReLU and max-pool, and one linear layer.

    Args:
        image_size: height and width of the images, or one number for both.
    """

    min_size = 4
    head_names = ("classifier.0",)

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 28,
    ):
        super().__init__(num_classes, in_channels, image_size)
        height, width = (side // 4 for side in self.image_size)
        self.features = Sequential(
            Conv(in_channels, 16, 5), BatchNorm(16), relu, _max,
            Conv(16, 32, 5), BatchNorm(32), relu, _max,
        )  # fmt: skip
        self.classifier = Sequential(Linear(32 * height * width, num_classes))


VARIANTS = {
    "lenet5_bn": partial(LeNet),
    "convnet_bn": partial(ConvNet),
    "test_lenet": partial(LeNet, image_size=32),
}
