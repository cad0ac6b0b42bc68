"""MaxViT: convolution, attention within windows, attention across a grid, in every layer.

MaxViT: Multi-Axis Vision Transformer, Tu et al. 2022. https://arxiv.org/abs/2204.01697

Attributes are named as in torchvision.models.maxvit. Where it departs from the paper's code, so do
we: attention is scaled by the square root of all features, not of one head's; GELU is exact, not
its tanh approximation; shortcuts are pooled over 3x3 pixels, not 2x2, and padding is symmetric.
Ours: images need not be square. The grid keeps its p x p pixels, further apart along the longer
side.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.arguments import integer
from flaxzoo.errors import UserError
from flaxzoo.layers import (
    BatchNorm,
    Buffer,
    LayerNorm,
    SqueezeExcitation,
    StochasticDepth,
    attention,
    avg_pool,
    gelu,
    global_avg_pool,
    merge_heads,
    param,
    residual,
    rising_rates,
    silu,
    split_heads,
)
from flaxzoo.layers import Conv as _Conv
from flaxzoo.layers import Linear as _Linear
from flaxzoo.layers import Sequential as Seq
from flaxzoo.layers.init import ZEROS, Normal, TruncatedNormal
from flaxzoo.models.base import Classifier, two_sides

_INITS = {"kernel_init": Normal(0.02), "bias_init": ZEROS}
Conv = partial(_Conv, **_INITS)
Linear = partial(_Linear, **_INITS)
Norm = partial(BatchNorm, eps=1e-3, momentum=0.01)


class MBConv(nnx.Module):
    """Widen, filter each channel, weigh the channels, narrow, behind a normalisation (section 3.2).

    The inner width is four times the outer one, that of the squeezed channels a quarter of it.
    Where the map shrinks, the shortcut is pooled and projected.
    """

    def __init__(self, in_features: int, features: int, stride: int, stochastic_depth: float):
        pool = partial(avg_pool, size=3, stride=stride, padding=1)
        projects = stride > 1 or in_features != features
        self.proj = Seq(pool, Conv(in_features, features, 1)) if projects else None
        width = 4 * features
        self.layers = Seq(
            pre_norm=Norm(in_features),
            conv_a=Seq(Conv(in_features, width, 1, use_bias=False), Norm(width), gelu),
            conv_b=Seq(
                Conv(width, width, 3, stride, groups=width, use_bias=False), Norm(width), gelu
            ),
            squeeze_excitation=SqueezeExcitation(width, features // 4, silu, **_INITS),
            conv_c=Conv(width, features, 1),
        )
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        shortcut = x if self.proj is None else self.proj(x)
        return residual(shortcut, self.stochastic_depth(self.layers(x)))


def relative_position_index(size: int) -> np.ndarray:
    """Returns the row of the table of biases for each two positions in a window, (l, l)."""
    rows, columns = np.divmod(np.arange(size * size), size)
    down = rows[:, None] - rows + size - 1
    right = columns[:, None] - columns + size - 1
    return down * (2 * size - 1) + right


class RelativeAttention(nnx.Module):
    """Attention within each of g groups of positions, biased by how two positions lie."""

    def __init__(self, features: int, head_dim: int, size: int):
        self.heads = features // head_dim
        self.size = size
        self.to_qkv = Linear(features, 3 * features)
        self.merge = Linear(features, features)
        shape = ((2 * size - 1) ** 2, self.heads)
        self.relative_position_bias_table = param(shape, TruncatedNormal(0.02))
        self.relative_position_index = Buffer(relative_position_index, (size,))

    def __call__(self, x: Float[Array, "n g l c"]) -> Float[Array, "n g l c"]:
        packed = jnp.split(self.to_qkv(x), 3, axis=-1)
        query, key, value = (split_heads(y, self.heads) for y in packed)
        bias = self.relative_position_bias_table[...][relative_position_index(self.size)]
        bias = bias.transpose(2, 0, 1)  # (l, l, heads) -> (heads, l, l)
        scale = x.shape[-1] ** -0.5  # torchvision's; the paper has head_dim ** -0.5
        return self.merge(merge_heads(attention(query, key, value, bias, scale)))


class PartitionAttention(nnx.Module):
    """A transformer block on windows of p x p pixels, or on grids of p x p pixels (figure 3).

    The pixels of a window are neighbours; those of a grid are spread evenly over the map.
    """

    def __init__(
        self, features: int, head_dim: int, size: int, grid: bool, stochastic_depth: float
    ):
        self.size = size
        self.grid = grid
        self.attn_layer = Seq(LayerNorm(features), RelativeAttention(features, head_dim, size))
        self.mlp_layer = Seq(
            LayerNorm(features), Linear(features, 4 * features), gelu,
            Linear(4 * features, features),
        )  # fmt: skip
        self.stochastic_dropout = StochasticDepth(stochastic_depth)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        n, h, w, c = shape = x.shape
        p = self.size
        if self.grid:
            split, order = (n, p, h // p, p, w // p, c), (0, 2, 4, 1, 3, 5)
        else:
            split, order = (n, h // p, p, w // p, p, c), (0, 1, 3, 2, 4, 5)
        x = x.reshape(split).transpose(order)
        groups = x.shape
        x = x.reshape(n, -1, p * p, c)
        x = residual(x, self.stochastic_dropout(self.attn_layer(x)))
        x = residual(x, self.stochastic_dropout(self.mlp_layer(x)))
        return x.reshape(groups).transpose(np.argsort(order)).reshape(shape)


class MaxVitLayer(nnx.Module):
    """Convolution, attention within windows, attention across a grid (figure 2)."""

    def __init__(
        self,
        in_features: int,
        features: int,
        stride: int,
        head_dim: int,
        partition_size: int,
        stochastic_depth: float,
    ):
        attend = partial(
            PartitionAttention, features, head_dim, partition_size,
            stochastic_depth=stochastic_depth,
        )  # fmt: skip
        self.layers = Seq(
            MBconv=MBConv(in_features, features, stride, stochastic_depth),
            window_attention=attend(grid=False),
            grid_attention=attend(grid=True),
        )

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        return self.layers(x)


class MaxVitBlock(nnx.Module):
    """Several layers, the first of which halves the map."""

    def __init__(self, *layers: MaxVitLayer):
        self.layers = Seq(*layers)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        return self.layers(x)


class MaxVit(Classifier):
    """A stem of two convolutions, blocks that halve the map, average pooling, a head of two layers.

    Args:
        stem_features: channels of the stem.
        widths: channels of each block.
        depths: layers of each block.
        head_dim: channels of an attention head.
        image_size: height and width, or one number for both. Windows must tile the map of every
            block: 224 or its multiples do, with windows of 7.
        partition_size: rows and columns of a window, and of a grid.
        stochastic_depth: of the branches of the last layer; it grows linearly from zero.
    """

    first_conv = "stem.0.0"
    head_names = ("classifier.5",)

    def __init__(
        self,
        stem_features: int,
        widths: Sequence[int],
        depths: Sequence[int],
        head_dim: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 224,
        partition_size: int = 7,
        stochastic_depth: float = 0.2,
    ):
        super().__init__(in_channels, num_classes)
        partition_size = integer("partition_size", partition_size, 1)
        # The least side of which `_fits` is true.
        self.min_size = partition_size * 2 ** (len(depths) + 1) - 3 if partition_size > 1 else 1
        self.image_size = _checked_size(image_size, len(depths), partition_size)
        self.stem = Seq(
            Seq(Conv(in_channels, stem_features, 3, 2, use_bias=False), Norm(stem_features), gelu),
            Seq(Conv(stem_features, stem_features, 3)),
        )
        rates = rising_rates(stochastic_depth, sum(depths))
        blocks, features = [], stem_features
        for width, depth in zip(widths, depths, strict=True):
            layers = []
            for i in range(depth):
                stride = 2 if i == 0 else 1
                layers.append(
                    MaxVitLayer(features, width, stride, head_dim, partition_size, next(rates))
                )
                features = width
            blocks.append(MaxVitBlock(*layers))
        self.blocks = Seq(*blocks)
        self.classifier = Seq(
            **{  # torchvision's numbers: 0 and 1 pool and flatten
                "0": global_avg_pool,
                "2": LayerNorm(features),
                "3": Linear(features, features),
                "4": jnp.tanh,
                "5": Linear(features, num_classes, use_bias=False),
            }
        )

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.stem(x)
        yield "stem", x
        for i, block in enumerate(self.blocks):
            x = block(x)
            yield f"blocks.{i}", x

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        *layers, last = self.classifier
        for layer in layers:
            x = layer(x)
        return x if pre_logits else last(x)


def _fits(side: int, blocks: int, partition_size: int) -> bool:
    """Whether windows tile the map of every block: stem and blocks each halve it, rounding up."""
    return all(-(-side // 2**i) % partition_size == 0 for i in range(2, blocks + 2))


def _checked_size(
    image_size: int | tuple[int, int], blocks: int, partition_size: int
) -> tuple[int, int]:
    """Returns height and width of the images."""
    height, width = two_sides(image_size)
    if not (_fits(height, blocks, partition_size) and _fits(width, blocks, partition_size)):
        unit = partition_size * 2 ** (blocks + 1)
        near = {n * unit for side in (height, width) for n in (side // unit, side // unit + 1)}
        raise UserError(
            f"image_size must make maps that windows of {partition_size}x{partition_size} tile, as "
            f"{' and '.join(map(str, sorted(near - {0})))} do; got {height}x{width}."
        )
    return height, width


VARIANTS = {
    "maxvit_t": partial(MaxVit, 64, (64, 128, 256, 512), (2, 2, 5, 2), 32),
    "test_maxvit": partial(
        MaxVit, 8, (16,), (2,), 8, num_classes=10, image_size=32, partition_size=2
    ),
}
