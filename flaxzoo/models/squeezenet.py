"""SqueezeNet 1.0 and 1.1.

SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size, Iandola et al.
2016. https://arxiv.org/abs/1602.07360

Attributes are named as in torchvision.models.squeezenet, and the nets are torchvision's. 1.0 is the
paper's without bypass connections. 1.1 is the authors' later one, with the same accuracy for 2.4
times less work: https://github.com/forresti/SqueezeNet. The first convolution has no padding, and
as in Caffe the last window of a max-pool may be partial. The class maps, too, have a ReLU.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers import Dropout, Sequential, global_avg_pool, max_pool, relu
from flaxzoo.layers.init import ZEROS, KaimingUniform, Normal
from flaxzoo.layers.module import Layer
from flaxzoo.models.base import Classifier, check_stem

Conv = partial(_Conv, kernel_init=KaimingUniform(), bias_init=ZEROS)  # torchvision's


def _pool(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c"]:
    return max_pool(x, 3, stride=2, ceil_mode=True)


def _identity(x: Array) -> Array:
    return x


class Fire(nnx.Module):
    """A 1x1 convolution squeezes; a 1x1 and a 3x3 beside each other expand (section 3.2)."""

    def __init__(self, in_features: int, squeezed: int, expanded: int):
        self.squeeze = Conv(in_features, squeezed, 1)
        self.expand1x1 = Conv(squeezed, expanded, 1)
        self.expand3x3 = Conv(squeezed, expanded, 3)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c_out"]:
        x = relu(self.squeeze(x))
        return relu(jnp.concatenate([self.expand1x1(x), self.expand3x3(x)], axis=-1))


class SqueezeNet(Classifier):
    """A convolution and stages of Fire modules, `features`; a map per class, averaged.

    Args:
        width, kernel_size: of the first convolution.
        fires: for each stage the (squeezed, expanded) widths of its Fire modules; a max-pool is
            before every stage.
        stem: "imagenet", or "cifar": a 3x3 convolution of stride 1 and no pool before the first
            stage.
        dropout: rate before the last convolution.
    """

    first_conv = "features.0"
    head_names = ("classifier.1",)

    def __init__(
        self,
        width: int,
        kernel_size: int,
        fires: Sequence[Sequence[tuple[int, int]]],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        dropout: float = 0.5,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        if stem == "imagenet":
            first = Conv(in_channels, width, kernel_size, stride=2, padding=0)
            self.min_size = (2 ** len(fires) - 1) * 2 + kernel_size
        else:
            first = Conv(in_channels, width, 3)
            self.min_size = 2 ** (len(fires) - 1)
        layers: list[Layer] = [first, relu]
        ends, features = [1], width
        for stage in fires:
            layers.append(_identity if stem == "cifar" and len(layers) == 2 else _pool)
            for squeezed, expanded in stage:
                layers.append(Fire(features, squeezed, expanded))
                features = 2 * expanded
            ends.append(len(layers) - 1)
        self.features = Sequential(*layers)
        self.ends = tuple(ends)
        last = Conv(features, num_classes, 1, kernel_init=Normal(0.01))
        self.classifier = Sequential(Dropout(dropout), last, relu)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.ends:
                yield f"features.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        return global_avg_pool(x if pre_logits else self.classifier(x))


_FIRES_1_0 = (
    ((16, 64), (16, 64), (32, 128)),
    ((32, 128), (48, 192), (48, 192), (64, 256)),
    ((64, 256),),
)
_FIRES_1_1 = (
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)

VARIANTS = {
    "squeezenet1_0": partial(SqueezeNet, 96, 7, _FIRES_1_0),
    "squeezenet1_1": partial(SqueezeNet, 64, 3, _FIRES_1_1),
    "test_squeezenet": partial(
        SqueezeNet, 16, 7, (((8, 16),), ((8, 16), (12, 24)), ((12, 24),)), num_classes=10
    ),
}
