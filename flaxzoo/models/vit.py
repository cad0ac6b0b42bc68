"""Vision Transformer: an image is a sequence of patches.

An Image is Worth 16x16 Words, Dosovitskiy et al. 2020. https://arxiv.org/abs/2010.11929

Attributes are named as in torchvision.models.vision_transformer, and initial values are its. It
departs from the paper, and so do we: no dropout by default (the paper has 0.1 on ImageNet), and the
head is one linear layer from the start; in pre-training the paper has a hidden layer with tanh
before it, which `representation_size` gives.
"""

import math
from collections.abc import Iterator
from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.arguments import integer
from flaxzoo.layers import (
    Conv,
    Dropout,
    LayerNorm,
    Linear,
    MultiheadAttention,
    Sequential,
    gelu,
    param,
    residual,
)
from flaxzoo.layers.init import ZEROS, Normal, TruncatedNormal, XavierUniform
from flaxzoo.models.base import Classifier
from flaxzoo.models.patches import patched_size

Norm = partial(LayerNorm, eps=1e-6)


class EncoderBlock(nnx.Module):
    """Attention, then an MLP, each normalised before and added after (figure 1 right)."""

    def __init__(self, features: int, heads: int, mlp_features: int, dropout: float):
        linear = partial(Linear, kernel_init=XavierUniform(), bias_init=Normal(1e-6))
        self.ln_1 = Norm(features)
        self.self_attention = MultiheadAttention(features, heads)
        self.dropout = Dropout(dropout)
        self.ln_2 = Norm(features)
        self.mlp = Sequential(
            linear(features, mlp_features),
            gelu,
            Dropout(dropout),
            linear(mlp_features, features),
            Dropout(dropout),
        )

    def __call__(self, x: Float[Array, "n tokens c"]) -> Float[Array, "n tokens c"]:
        x = residual(x, self.dropout(self.self_attention(self.ln_1(x))))
        return residual(x, self.mlp(self.ln_2(x)))


class Encoder(nnx.Module):
    """The parts between patches and head; `VisionTransformer.stages` runs them."""

    def __init__(
        self, tokens: int, depth: int, features: int, heads: int, mlp_features: int, dropout: float
    ):
        self.pos_embedding = param((1, tokens, features), Normal(0.02))
        self.dropout = Dropout(dropout)
        blocks = (EncoderBlock(features, heads, mlp_features, dropout) for _ in range(depth))
        self.layers = Sequential(**{f"encoder_layer_{i}": b for i, b in enumerate(blocks)})
        self.ln = Norm(features)


class VisionTransformer(Classifier):
    """A patch embedding, a class token, an encoder, and a head on the encoded class token.

    Args:
        patch_size: height and width of a patch.
        depth: blocks of the encoder.
        image_size: height and width of the images, multiples of `patch_size`, or one number for
            both. The table of positions is made for it; `adapt_weights` resizes that of a file.
        representation_size: width of a hidden layer with tanh before the head; None for none.
    """

    first_conv = "conv_proj"
    head_names = ("heads.head",)
    old_names = ((r"\.mlp\.linear_1\.", ".mlp.0."), (r"\.mlp\.linear_2\.", ".mlp.3."))
    timm_names = (
        (r"^cls_token$", "class_token"),
        (r"^pos_embed$", "encoder.pos_embedding"),
        (r"^patch_embed\.proj\.", "conv_proj."),
        (r"^blocks\.(\d+)\.", r"encoder.layers.encoder_layer_\1."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
        (r"\.attn\.proj\.", ".self_attention.out_proj."),
        (r"\.mlp\.fc1\.", ".mlp.0."),
        (r"\.mlp\.fc2\.", ".mlp.3."),
        (r"^norm\.", "encoder.ln."),
        (r"^head\.", "heads.head."),
    )

    def __init__(
        self,
        patch_size: int,
        depth: int,
        attention_heads: int,
        features: int,
        mlp_features: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 224,
        dropout: float = 0.0,
        representation_size: int | None = None,
    ):
        super().__init__(in_channels, num_classes)
        self.image_size = patched_size(image_size, patch_size)
        self.min_size = patch_size
        self.grid = (self.image_size[0] // patch_size, self.image_size[1] // patch_size)
        self.conv_proj = Conv(
            in_channels, features, patch_size, patch_size, padding=0,
            kernel_init=_fan_in(in_channels * patch_size**2), bias_init=ZEROS,
        )  # fmt: skip
        self.class_token = param((1, 1, features), ZEROS)
        self.encoder = Encoder(
            1 + math.prod(self.grid), depth, features, attention_heads, mlp_features, dropout
        )
        hidden = {}
        if representation_size is not None:
            width = integer("representation_size", representation_size, 1)
            init = _fan_in(features)
            hidden["pre_logits"] = Linear(features, width, kernel_init=init, bias_init=ZEROS)
            hidden["act"] = jnp.tanh
            features = width
        head = Linear(features, num_classes, kernel_init=ZEROS, bias_init=ZEROS)
        self.heads = Sequential(**hidden, head=head)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.conv_proj(x)
        yield "conv_proj", x
        patches = x.reshape(x.shape[0], -1, x.shape[-1])
        token = jnp.broadcast_to(
            self.class_token[...].astype(x.dtype), (x.shape[0], 1, x.shape[-1])
        )
        x = jnp.concatenate([token, patches], axis=1)
        x = self.encoder.dropout(x + self.encoder.pos_embedding[...].astype(x.dtype))
        quarter = max(1, len(self.encoder.layers) // 4)
        for i, block in enumerate(self.encoder.layers):
            x = block(x)
            if (i + 1) % quarter == 0:
                yield f"encoder.layers.encoder_layer_{i}", x
        yield "encoder.ln", self.encoder.ln(x)

    def forward_head(
        self, x: Float[Array, "n tokens c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        *hidden, head = self.heads
        x = x[:, 0]
        for layer in hidden:
            x = layer(x)
        return x if pre_logits else head(x)

    def adapt_weights(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the weights with a table of positions for this model's image size.

        It is resized as torchvision's interpolate_embeddings does: bicubic, with aligned corners.
        The file's must be of square images; where it is not, it stays as it is. A table of the
        right length is taken to be the right table, whatever the shape of its images.
        """
        name = "encoder.pos_embedding"
        if name not in weights or weights[name].ndim != 3:
            return weights
        table = weights[name]
        count = table.shape[1] - 1
        side = math.isqrt(max(count, 0))
        if count == math.prod(self.grid) or count < 1 or side**2 != count:
            return weights
        image = table[0, 1:].reshape(side, side, -1)
        rows, columns = (cubic_matrix(side, new) for new in self.grid)
        image = np.einsum("ih,jw,hwc->ijc", rows, columns, image, optimize=True)
        patches = image.reshape(1, math.prod(self.grid), -1).astype(table.dtype)
        return weights | {name: np.concatenate([table[:, :1], patches], axis=1)}


def cubic_matrix(length: int, new_length: int) -> np.ndarray:
    """Returns the (new_length, length) matrix that resizes an axis as torch's bicubic mode does.

    That is Keys' cubic convolution with A = -0.75, edges repeated; corners are aligned.
    """
    step = (length - 1) / (new_length - 1) if new_length > 1 else 0.0
    position = np.arange(new_length) * step
    left = np.floor(position).astype(int)
    matrix = np.zeros((new_length, length))
    for tap in (-1, 0, 1, 2):
        d = np.abs(position - left - tap)
        near = (1.25 * d - 2.25) * d**2 + 1  # A + 2 and A + 3
        far = -0.75 * (((d - 5) * d + 8) * d - 4)
        at = np.clip(left + tap, 0, length - 1)
        np.add.at(matrix, (np.arange(new_length), at), np.where(d <= 1, near, far))
    return matrix


def _fan_in(fan: int) -> TruncatedNormal:
    return TruncatedNormal(math.sqrt(1 / fan))


VARIANTS = {
    "vit_b_16": partial(VisionTransformer, 16, 12, 12, 768, 3072),
    "vit_b_32": partial(VisionTransformer, 32, 12, 12, 768, 3072),
    "vit_l_16": partial(VisionTransformer, 16, 24, 16, 1024, 4096),
    "vit_l_32": partial(VisionTransformer, 32, 24, 16, 1024, 4096),
    "vit_h_14": partial(VisionTransformer, 14, 32, 16, 1280, 5120),
    "test_vit": partial(VisionTransformer, 8, 2, 2, 32, 64, num_classes=10, image_size=32),
}
