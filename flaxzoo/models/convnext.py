"""ConvNeXt.

A ConvNet for the 2020s, Liu et al. 2022. https://arxiv.org/abs/2201.03545

Attributes are named as in torchvision.models.convnext. As there, and in the authors' code, the last
normalisation comes after the pooling. timm has the same networks under other names: `timm_keys`.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers import LayerNorm as _LayerNorm
from flaxzoo.layers import Linear as _Linear
from flaxzoo.layers import (
    Sequential,
    StochasticDepth,
    gelu,
    global_avg_pool,
    param,
    residual,
    rising_rates,
)
from flaxzoo.layers.init import ZEROS, Constant, TruncatedNormal
from flaxzoo.models.base import Classifier, check_stem

Conv = partial(_Conv, kernel_init=TruncatedNormal(0.02), bias_init=ZEROS)
Linear = partial(_Linear, kernel_init=TruncatedNormal(0.02), bias_init=ZEROS)
LayerNorm = partial(_LayerNorm, eps=1e-6)


class Block(nnx.Module):
    """Depthwise 7x7, normalisation, and a perceptron of four times the width (figure 4).

    The branch is scaled by channel before it is added, by `layer_scale` at first (Going Deeper with
    Image Transformers, Touvron et al. 2021, https://arxiv.org/abs/2103.17239).
    """

    def __init__(self, features: int, layer_scale: float, drop_rate: float):
        self.block = Sequential(  # torchvision moves the channels to the end at 1
            **{
                "0": Conv(features, features, 7, groups=features),
                "2": LayerNorm(features),
                "3": Linear(features, 4 * features),
                "4": gelu,
                "5": Linear(4 * features, features),
            }
        )
        self.layer_scale = param((features, 1, 1), Constant(layer_scale))
        self.stochastic_depth = StochasticDepth(drop_rate)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        scale = self.layer_scale[...].reshape(-1).astype(x.dtype)
        return residual(x, self.stochastic_depth(scale * self.block(x)))


class ConvNeXt(Classifier):
    """`features`: a stem and stages of blocks, with a 2x2 convolution of stride 2 between stages.

    Args:
        depths, widths: blocks and channels of each stage.
        stem: "imagenet", 4x4 patches, or "cifar", a 3x3 of stride 1; all else is the same.
        stochastic_depth: the rate at which blocks are dropped grows evenly from 0 at the first to
            this at the last.
        layer_scale: initial scale of the residual branches.
    """

    first_conv = "features.0.0"
    head_names = ("classifier.2",)
    timm_names = ((r"\.gamma$", ".layer_scale"),)

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        stem: str = "imagenet",
        stochastic_depth: float = 0.0,
        layer_scale: float = 1e-6,
    ):
        super().__init__(in_channels, num_classes)
        check_stem(stem)
        if stem == "imagenet":
            patch, conv = 4, Conv(in_channels, widths[0], 4, stride=4, padding=0)
        else:
            patch, conv = 1, Conv(in_channels, widths[0], 3)
        self.min_size = patch * 2 ** (len(widths) - 1)
        layers = [Sequential(conv, LayerNorm(widths[0]))]
        rates = rising_rates(stochastic_depth, sum(depths))
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            if i > 0:
                shrink = Conv(widths[i - 1], width, 2, stride=2, padding=0)
                layers.append(Sequential(LayerNorm(widths[i - 1]), shrink))
            blocks = (Block(width, layer_scale, next(rates)) for _ in range(depth))
            layers.append(Sequential(*blocks))
        self.features = Sequential(*layers)
        head = Linear(widths[-1], num_classes)
        self.classifier = Sequential(**{"0": LayerNorm(widths[-1]), "2": head})  # 1 flattens

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i % 2 or i == 0:  # the others shrink the map for the next stage
                yield f"features.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        norm, head = self.classifier
        x = norm(global_avg_pool(x))
        return x if pre_logits else head(x)

    def timm_keys(self) -> dict[str, str]:
        keys = {"stem.0": "features.0.0", "stem.1": "features.0.1"}
        keys |= {"head.norm": "classifier.0", "head.fc": "classifier.2"}
        parts = {"conv_dw": 0, "norm": 2, "mlp.fc1": 3, "mlp.fc2": 5}
        for i in range(1, len(self.features), 2):
            theirs = f"stages.{i // 2}"
            keys |= {f"{theirs}.downsample.{k}": f"features.{i - 1}.{k}" for k in (0, 1)}
            blocks: Any = self.features[i]
            for j in range(len(blocks)):
                block, ours = f"{theirs}.blocks.{j}", f"features.{i}.{j}"
                keys[block] = ours  # its layer scale
                keys |= {f"{block}.{name}": f"{ours}.block.{k}" for name, k in parts.items()}
        return keys

    def adapt_weights(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        # timm's layer scales are vectors.
        return {
            key: value.reshape(-1, 1, 1) if key.endswith("layer_scale") else value
            for key, value in weights.items()
        }


VARIANTS = {
    "convnext_tiny": partial(ConvNeXt, (3, 3, 9, 3), (96, 192, 384, 768), stochastic_depth=0.1),
    "convnext_small": partial(ConvNeXt, (3, 3, 27, 3), (96, 192, 384, 768), stochastic_depth=0.4),
    "convnext_base": partial(ConvNeXt, (3, 3, 27, 3), (128, 256, 512, 1024), stochastic_depth=0.5),
    "convnext_large": partial(ConvNeXt, (3, 3, 27, 3), (192, 384, 768, 1536), stochastic_depth=0.5),
    "test_convnext": partial(ConvNeXt, (1, 1), (16, 24), num_classes=10),
}
