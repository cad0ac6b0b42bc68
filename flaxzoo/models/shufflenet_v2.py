"""ShuffleNetV2: half of the channels pass each unit unchanged, and all are shuffled after it.

ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, Ma et al. 2018.
https://arxiv.org/abs/1807.11164

Attributes are named as in torchvision.models.shufflenetv2, whose nets are those of the paper's
table 5.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import (
    BatchNorm,
    Linear,
    Sequential,
    channel_shuffle,
    global_avg_pool,
    max_pool,
    relu,
)
from flaxzoo.layers import Conv as _Conv
from flaxzoo.models.base import Classifier, check_stem

Conv = partial(_Conv, use_bias=False)


class InvertedResidual(nnx.Module):
    """Splits the channels, convolves one half, joins and shuffles (Ma et al. 2018, figure 3 c, d).

    At stride 2 both branches convolve all channels, which doubles them.
    """

    def __init__(self, in_features: int, out_features: int, stride: int):
        width = out_features // 2
        self.stride = stride
        self.branch1 = Sequential()
        if stride == 2:
            self.branch1 = Sequential(
                Conv(in_features, in_features, 3, stride, groups=in_features),
                BatchNorm(in_features),
                Conv(in_features, width, 1), BatchNorm(width), relu,
            )  # fmt: skip
        self.branch2 = Sequential(
            Conv(in_features if stride == 2 else width, width, 1), BatchNorm(width), relu,
            Conv(width, width, 3, stride, groups=width), BatchNorm(width),
            Conv(width, width, 1), BatchNorm(width), relu,
        )  # fmt: skip

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        first, second = (x, x) if self.stride == 2 else jnp.split(x, 2, axis=-1)
        x = jnp.concatenate([self.branch1(first), self.branch2(second)], axis=-1)
        return channel_shuffle(x, 2)


class ShuffleNetV2(Classifier):
    """A stem, stages `stage2`, `stage3`, ..., 1x1 `conv5`, average pooling, head `fc`.

    Args:
        depths: units in each stage; every stage halves the map.
        features: widths of the stages and of `conv5`.
        stem: "imagenet", a 3x3 convolution of stride 2 and a max-pool, or "cifar", a 3x3 of stride
            1 and no pool.
    """

    first_conv = "conv1.0"

    def __init__(
        self,
        depths: Sequence[int],
        features: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        self.stem = stem
        *widths, last = features
        self.conv1 = _conv_norm(in_channels, 24, 3, stride=2 if stem == "imagenet" else 1)
        self.stage_names = tuple(f"stage{i}" for i in range(2, len(depths) + 2))
        width = 24
        for name, depth, out_features in zip(self.stage_names, depths, widths, strict=True):
            rest = (InvertedResidual(out_features, out_features, 1) for _ in range(depth - 1))
            setattr(self, name, Sequential(InvertedResidual(width, out_features, 2), *rest))
            width = out_features
        self.conv5 = _conv_norm(width, last, 1)
        self.fc = Linear(last, num_classes)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.conv1(x)
        yield "conv1", x
        if self.stem == "imagenet":
            x = max_pool(x, 3, stride=2, padding=1)
        for name in (*self.stage_names, "conv5"):
            x = getattr(self, name)(x)
            yield name, x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.fc(x)


def _conv_norm(
    in_features: int, out_features: int, kernel_size: int, stride: int = 1
) -> Sequential:
    """A convolution, its normalisation and ReLU."""
    conv = Conv(in_features, out_features, kernel_size, stride)
    return Sequential(conv, BatchNorm(out_features), relu)


_DEPTHS = (4, 8, 4)

VARIANTS = {
    "shufflenet_v2_x0_5": partial(ShuffleNetV2, _DEPTHS, (48, 96, 192, 1024)),
    "shufflenet_v2_x1_0": partial(ShuffleNetV2, _DEPTHS, (116, 232, 464, 1024)),
    "shufflenet_v2_x1_5": partial(ShuffleNetV2, _DEPTHS, (176, 352, 704, 1024)),
    "shufflenet_v2_x2_0": partial(ShuffleNetV2, _DEPTHS, (244, 488, 976, 2048)),
    "test_shufflenet_v2": partial(ShuffleNetV2, (2, 2), (32, 64, 128), num_classes=10),
}
