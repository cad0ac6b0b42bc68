"""Swin Transformer and Swin Transformer V2: attention within windows, shifted in every other block.

Swin Transformer, Liu et al. 2021. https://arxiv.org/abs/2103.14030
Swin Transformer V2, Liu et al. 2021. https://arxiv.org/abs/2111.09883

Attributes are named as in torchvision.models.swin_transformer. Where it departs from the papers,
so do we: a map that windows do not fill is padded with zeros, which are attended to like the rest,
and a map smaller than one window is padded, too (the authors' code shrinks the window). Version 2
has no bias for keys and, beyond the paper's text, puts its position bias through 16 * sigmoid; both
are in the authors' code.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int64

from flaxzoo.arguments import integer
from flaxzoo.layers import (
    Buffer,
    Conv,
    Dropout,
    LayerNorm,
    Sequential,
    StochasticDepth,
    attention,
    gelu,
    global_avg_pool,
    merge_heads,
    param,
    relu,
    residual,
    rising_rates,
    split_heads,
)
from flaxzoo.layers import Linear as _Linear
from flaxzoo.layers.dtypes import widened
from flaxzoo.layers.init import ZEROS, Constant, TruncatedNormal
from flaxzoo.models.base import Classifier

Linear = partial(_Linear, kernel_init=TruncatedNormal(0.02), bias_init=ZEROS)  # torchvision's
MAX_SCALE = 100.0  # of cosine attention (Swin V2, section 3.3: the temperature is at least 0.01)


class WindowAttention(nnx.Module):
    """Attention within windows, with a learned bias for each relative position (section 3.2).

    `shift` moves the windows, and a mask keeps what the cyclic shift brings together apart (figure
    4). A map that one window covers is not shifted.
    """

    def __init__(self, features: int, heads: int, window: int, shift: int, dropout: float):
        self.heads = heads
        self.window = window
        self.shift = shift
        self.qkv = Linear(features, 3 * features)
        self.proj = Linear(features, features)
        self.dropout = Dropout(dropout)
        self.relative_position_index = Buffer(relative_position_index, (window,))
        self.make_position_bias()

    def make_position_bias(self) -> None:
        """Makes the parameters of `position_bias`."""
        shape = ((2 * self.window - 1) ** 2, self.heads)
        self.relative_position_bias_table = param(shape, TruncatedNormal(0.02))

    def position_bias(self, dtype: np.dtype) -> Float[Array, "heads m m"]:
        """Returns what is added to the scores of each pair of the m positions in a window."""
        return self._of_pairs(self.relative_position_bias_table[...].astype(dtype))

    def attend(
        self, x: Float[Array, "n windows m c"], bias: Float[Array, "..."]
    ) -> Float[Array, "n windows m c"]:
        """Returns the values that the positions of each window attend to, heads merged."""
        query, key, value = self._heads_of(self.qkv(x))
        return merge_heads(attention(query, key, value, bias))

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        n, height, width, c = x.shape
        size = self.window
        x = jnp.pad(x, ((0, 0), (0, -height % size), (0, -width % size), (0, 0)))
        rows, columns = x.shape[1:3]
        down, right = (self.shift if side > size else 0 for side in (rows, columns))
        bias = self.position_bias(jnp.promote_types(x.dtype, jnp.float32))  # as the scores
        if down or right:
            x = jnp.roll(x, (-down, -right), (1, 2))
            mask = shift_mask(rows, columns, size, down, right)
            bias = bias + jnp.asarray(mask[:, None], bias.dtype)
        x = x.reshape(n, rows // size, size, columns // size, size, c).swapaxes(2, 3)
        x = self.attend(x.reshape(n, -1, size * size, c), bias)
        x = self.dropout(self.proj(x))
        x = x.reshape(n, rows // size, columns // size, size, size, c).swapaxes(2, 3)
        x = jnp.roll(x.reshape(n, rows, columns, c), (down, right), (1, 2))
        return x[:, :height, :width]

    def _heads_of(self, packed: Float[Array, "n windows m c3"]) -> list[Array]:
        return [split_heads(x, self.heads) for x in jnp.split(packed, 3, axis=-1)]

    def _of_pairs(self, table: Float[Array, "offsets heads"]) -> Float[Array, "heads m m"]:
        """Returns the row of the table for each pair of positions."""
        index = self.relative_position_index.value.reshape(self.window**2, -1)
        return table[index].transpose(2, 0, 1)


class CosineWindowAttention(WindowAttention):
    """Version 2's: cosine scores, and a position bias made by a small MLP (V2, section 3.3)."""

    def make_position_bias(self) -> None:
        self.logit_scale = param((self.heads, 1, 1), Constant(math.log(10)))
        self.relative_coords_table = Buffer(relative_coords_table, (self.window,))
        self.cpb_mlp = Sequential(Linear(2, 512), relu, Linear(512, self.heads, use_bias=False))

    def position_bias(self, dtype: np.dtype) -> Float[Array, "heads m m"]:
        coordinates = jnp.asarray(self.relative_coords_table.value, dtype).reshape(-1, 2)
        return 16 * jax.nn.sigmoid(self._of_pairs(self.cpb_mlp(coordinates)))

    def attend(
        self, x: Float[Array, "n windows m c"], bias: Float[Array, "..."]
    ) -> Float[Array, "n windows m c"]:
        # Keys have no bias: torchvision has zeros there in every forward pass.
        packed_bias: Any = self.qkv.bias
        query_bias, _, value_bias = jnp.split(packed_bias[...].astype(x.dtype), 3)
        packed = x @ self.qkv.kernel[...].astype(x.dtype)
        packed += jnp.concatenate([query_bias, jnp.zeros_like(query_bias), value_bias])
        query, key, value = self._heads_of(packed)
        logit_scale, most = self.logit_scale[...], math.log(MAX_SCALE)
        scale = jnp.exp(jnp.where(logit_scale <= most, logit_scale, most)).astype(x.dtype)
        query, key = normalised(query) * scale, normalised(key)
        return merge_heads(attention(query, key, value, bias, scale=1.0))


class Block(nnx.Module):
    """Window attention and an MLP, each normalised before and added after (figure 3b)."""

    attention: type[WindowAttention] = WindowAttention

    def __init__(
        self,
        features: int,
        heads: int,
        window: int,
        shift: int,
        dropout: float,
        stochastic_depth: float,
    ):
        self.norm1 = LayerNorm(features)
        self.attn = self.attention(features, heads, window, shift, dropout)
        self.stochastic_depth = StochasticDepth(stochastic_depth)
        self.norm2 = LayerNorm(features)
        self.mlp = Sequential(
            Linear(features, 4 * features),
            gelu,
            Dropout(dropout),
            Linear(4 * features, features),
            Dropout(dropout),
        )

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        x = residual(x, self.stochastic_depth(self.attn(self.norm1(x))))
        return residual(x, self.stochastic_depth(self.mlp(self.norm2(x))))


class BlockV2(Block):
    """The same with what each branch gives normalised (V2, figure 1: res-post-norm)."""

    attention = CosineWindowAttention

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        x = residual(x, self.stochastic_depth(self.norm1(self.attn(x))))
        return residual(x, self.stochastic_depth(self.norm2(self.mlp(x))))


class PatchMerging(nnx.Module):
    """Halves the map and doubles the channels: the four pixels of a square become one."""

    def __init__(self, features: int):
        self.norm = LayerNorm(4 * features)
        self.reduction = Linear(4 * features, 2 * features, use_bias=False)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        return self.reduction(self.norm(squares(x)))


class PatchMergingV2(nnx.Module):
    """The same, normalised after the reduction."""

    def __init__(self, features: int):
        self.reduction = Linear(4 * features, 2 * features, use_bias=False)
        self.norm = LayerNorm(2 * features)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c_out"]:
        return self.norm(self.reduction(squares(x)))


class SwinTransformer(Classifier):
    """A patch embedding, then stages of blocks with merging between them, average pooling, `head`.

    `features` holds the embedding at 0, the stages at odd indices and the merging layers between.

    Args:
        version: 1 or 2, of the paper.
        embed_features: channels of the first stage; each further one has twice as many.
        depths: blocks in each stage.
        attention_heads: heads in each stage.
        window: height and width of the windows.
        stochastic_depth: drop rate of the last block; it rises linearly from 0 at the first.
        patch_size: height and width of a patch.
    """

    first_conv = "features.0.0"
    head_names = ("head",)

    def __init__(
        self,
        version: int,
        embed_features: int,
        depths: Sequence[int],
        attention_heads: Sequence[int],
        window: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        stochastic_depth: float = 0.0,
        dropout: float = 0.0,
        patch_size: int = 4,
    ):
        super().__init__(in_channels, num_classes)
        self.min_size = patch_size = integer("patch_size", patch_size, 1)
        block, merging = ((Block, PatchMerging), (BlockV2, PatchMergingV2))[version - 1]
        features = embed_features
        patches = Conv(in_channels, features, patch_size, patch_size, padding=0)
        layers: list[nnx.Module] = [
            Sequential(**{"0": patches, "2": LayerNorm(features)})  # torchvision's 1 moves channels
        ]
        rates = rising_rates(stochastic_depth, sum(depths))
        for depth, heads in zip(depths, attention_heads, strict=True):
            if len(layers) > 1:
                layers.append(merging(features))
                features *= 2
            blocks = (
                block(features, heads, window, i % 2 * (window // 2), dropout, next(rates))
                for i in range(depth)
            )
            layers.append(Sequential(*blocks))
        self.features = Sequential(*layers)
        self.norm = LayerNorm(features)
        self.head = Linear(features, num_classes)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i == 0 or i % 2:
                yield f"features.{i}", x
        yield "norm", self.norm(x)

    def forward_head(
        self, x: Float[Array, "n h w c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = global_avg_pool(x)
        return x if pre_logits else self.head(x)


def squares(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out c4"]:
    """Stacks the channels of each 2x2 square, column by column; odd maps are padded with zeros."""
    n, height, width, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    x = x.reshape(n, (height + 1) // 2, 2, (width + 1) // 2, 2, c).transpose(0, 1, 3, 4, 2, 5)
    return x.reshape(*x.shape[:3], 4 * c)


def normalised(x: Float[Array, "..."], eps: float = 1e-12) -> Float[Array, "..."]:
    """torch.nn.functional.normalize over the last axis: x / max(norm, eps), in float32 or better.

    The squares are clamped, not the root: the root's gradient at zero is infinite, and the keys of
    padding are zero.
    """
    wide = widened(x)
    squared = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(jnp.maximum(squared, eps**2))).astype(x.dtype)


@functools.cache
def relative_position_index(window: int) -> Int64[np.ndarray, " pairs"]:
    """Returns the row of the bias table for each pair of positions in a window, flattened.

    The table has a row for each offset, (2 * window - 1) ** 2 of them, that of (-1, -1) * (window -
    1) first.
    """
    rows, columns = np.indices((window, window)).reshape(2, -1)
    down = rows[:, None] - rows + window - 1
    right = columns[:, None] - columns + window - 1
    return (down * (2 * window - 1) + right).reshape(-1).astype(np.int64)


@functools.cache
def relative_coords_table(window: int) -> Float32[np.ndarray, "1 h w 2"]:
    """Returns every offset in a window, log-spaced: sign(d) log2(1 + |d|) / 3 with |d| up to 8.

    V2, equation 4. In float32, as torchvision computes it: the same to the bit.
    """
    offsets = np.arange(1 - window, window, dtype=np.float32) / np.float32(window - 1)
    offsets = offsets * np.float32(8)
    size = np.log2((np.abs(offsets) + 1).astype(np.float64)).astype(np.float32)
    spaced = np.sign(offsets) * size / np.float32(3)
    return np.stack(np.meshgrid(spaced, spaced, indexing="ij"), axis=-1)[None]


@functools.lru_cache
def shift_mask(
    rows: int, columns: int, window: int, down: int, right: int
) -> Float32[np.ndarray, "windows m m"]:
    """Returns -100 for each pair in a window that only the cyclic shift has brought together."""
    region = 3 * _regions(rows, window, down)[:, None] + _regions(columns, window, right)
    region = region.reshape(rows // window, window, columns // window, window)
    region = region.swapaxes(1, 2).reshape(-1, window * window)
    return np.where(region[:, None] != region[:, :, None], -100, 0).astype(np.float32)


def _regions(length: int, window: int, shift: int) -> np.ndarray:
    """Numbers, along one axis, the positions before, in, and wrapped into the last window."""
    position = np.arange(length)
    return (position >= length - window).astype(int) + (position >= length - shift)


_HEADS, _HEADS_B = (3, 6, 12, 24), (4, 8, 16, 32)

VARIANTS = {
    "swin_t": partial(SwinTransformer, 1, 96, (2, 2, 6, 2), _HEADS, 7, stochastic_depth=0.2),
    "swin_s": partial(SwinTransformer, 1, 96, (2, 2, 18, 2), _HEADS, 7, stochastic_depth=0.3),
    "swin_b": partial(SwinTransformer, 1, 128, (2, 2, 18, 2), _HEADS_B, 7, stochastic_depth=0.5),
    "swin_v2_t": partial(SwinTransformer, 2, 96, (2, 2, 6, 2), _HEADS, 8, stochastic_depth=0.2),
    "swin_v2_s": partial(SwinTransformer, 2, 96, (2, 2, 18, 2), _HEADS, 8, stochastic_depth=0.3),
    "swin_v2_b": partial(SwinTransformer, 2, 128, (2, 2, 18, 2), _HEADS_B, 8, stochastic_depth=0.5),
    # At 32 pixels: maps of 10, 5 and 3, of which windows of 4 fill none and shift in two.
    "test_swin": partial(
        SwinTransformer, 1, 16, (2, 2, 2), (2, 2, 4), 4, num_classes=10, stochastic_depth=0.1,
        patch_size=3,
    ),
    "test_swin_v2": partial(
        SwinTransformer, 2, 16, (2, 2, 2), (2, 2, 4), 4, num_classes=10, stochastic_depth=0.1,
        patch_size=3,
    ),
}  # fmt: skip
