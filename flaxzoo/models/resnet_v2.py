"""ResNet v2: residual blocks that normalise before they convolve, so that the shortcut is clean.

Identity Mappings in Deep Residual Networks, He et al. 2016. https://arxiv.org/abs/1603.05027

Attributes are named as in timm's resnetv2_50, resnetv2_101 and resnetv2_152, those with
BatchNorm. Departures from the paper, all of them timm's:

* the stride is on the 3x3 convolution, as in ResNet v1.5; the paper puts it on the first 1x1;
* the stem's max-pool comes before the first normalisation and ReLU, which the first block has.

Keras calls ResNet50V2 another function: there each stage but the last ends, not begins, with the
block of stride 2, whose shortcut takes every second pixel; conv3, the projections and the stem have
biases; eps is 1.001e-5; and the max-pool sees zeros in the padding. Its weights do not fit here.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.arguments import integer
from flaxzoo.layers import BatchNorm, Sequential, global_avg_pool, max_pool, relu, residual
from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers.init import ZEROS, KaimingNormal, Normal
from flaxzoo.models.base import Classifier, check_stem

Conv = partial(_Conv, use_bias=False, kernel_init=KaimingNormal("fan_out"))


class Bottleneck(nnx.Module):
    """Normalise, ReLU, convolve, three times: 1x1, 3x3, 1x1 (He et al. 2016, figure 4e).

    The first block of a stage projects what its first ReLU gives; the others add their input.
    """

    def __init__(self, in_features: int, out_features: int, stride: int, project: bool):
        width = out_features // 4
        self.downsample = (
            Sequential(conv=Conv(in_features, out_features, 1, stride)) if project else None
        )
        self.norm1 = BatchNorm(in_features)
        self.conv1 = Conv(in_features, width, 1)
        self.norm2 = BatchNorm(width)
        self.conv2 = Conv(width, width, 3, stride)
        self.norm3 = BatchNorm(width)
        self.conv3 = Conv(width, out_features, 1)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        y = relu(self.norm1(x))
        shortcut = x if self.downsample is None else self.downsample(y)
        y = self.conv1(y)
        y = self.conv2(relu(self.norm2(y)))
        y = self.conv3(relu(self.norm3(y)))
        return residual(shortcut, y)


class ResNetV2(Classifier):
    """A stem, `stages` of blocks, a last normalisation and ReLU, average pooling, `head.fc`.

    Args:
        depths: blocks in each stage; every stage but the first halves the map and doubles the
            width.
        stem: "imagenet", a 7x7 convolution of stride 2 and a max-pool, or "cifar", a 3x3 of stride
            1 and no pool, which keeps small images at their size.
        planes: width of the stem, a quarter of the first stage's.
    """

    first_conv = "stem.conv"
    head_names = ("head.fc",)

    def __init__(
        self,
        depths: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        planes: int = 64,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        planes = integer("planes", planes, 1)
        small = stem == "cifar"
        conv = Conv(in_channels, planes, 3) if small else Conv(in_channels, planes, 7, 2)
        self.stem = Sequential(conv=conv)
        self.pooled = not small
        features, stages = planes, []
        for i, depth in enumerate(depths):
            blocks, width = [], 4 * planes * 2**i
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(Bottleneck(features, width, stride, project=j == 0))
                features = width
            stages.append(Sequential(blocks=Sequential(*blocks)))
        self.stages = Sequential(*stages)
        self.norm = BatchNorm(features)
        head = _Conv(features, num_classes, 1, kernel_init=Normal(0.01), bias_init=ZEROS)
        self.head = Sequential(fc=head)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.stem(x)
        yield "stem.conv", x
        if self.pooled:
            x = max_pool(x, 3, stride=2, padding=1)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            yield f"stages.{i}", x
        yield "norm", relu(self.norm(x))

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.head(x[:, None, None])[:, 0, 0]


VARIANTS = {
    "resnetv2_50": partial(ResNetV2, (3, 4, 6, 3)),
    "resnetv2_101": partial(ResNetV2, (3, 4, 23, 3)),
    "resnetv2_152": partial(ResNetV2, (3, 8, 36, 3)),
    "test_resnet_v2": partial(ResNetV2, (2, 1), num_classes=10, planes=16),
}
