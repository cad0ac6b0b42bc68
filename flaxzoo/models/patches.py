"""What models of patches share: the size that patches tile, and the frame of MLPs on them."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxzoo.errors import UserError
from flaxzoo.layers import Dropout, Linear, Sequential, patch_embedding
from flaxzoo.layers.init import ZEROS
from flaxzoo.layers.module import Layer
from flaxzoo.models.base import Classifier, two_sides


def patched_size(image_size: object, patch_size: int) -> tuple[int, int]:
    """Returns height and width from a number or a pair; patches of `patch_size` must tile them.

    Raises:
        UserError: they do not, or `image_size` is something else.
    """
    height, width = two_sides(image_size)
    if height % patch_size or width % patch_size:
        raise UserError(
            f"image_size must be a multiple of the {patch_size} pixels of a patch; "
            f"got {height}x{width}."
        )
    return height, width


class PatchClassifier(Classifier):
    """Embedded patches, blocks, a last normalisation, the mean over the patches, head.

    What MLP-Mixer, ResMLP and gMLP share, as in timm's mlp_mixer. A subclass says which `block` and
    which last `make_norm`. The blocks mix the patches by layers made for a number of them, and so
    for one size of image.

    Args:
        patch_size: sides of a patch, in pixels; those of the images are multiples of it.
        depth: number of blocks.
        width: features of a patch.
        image_size: height and width, or one number for both.
        dropout: before the head.
        stochastic_depth: of every branch of every block.
        **block_options: what the block takes beside its width, the patches and the drop rate.
    """

    first_conv = "stem.proj"
    head_names = ("head",)
    block: ClassVar[Callable[..., Layer]]
    make_norm: ClassVar[Callable[[int], Layer]]

    def __init__(
        self,
        patch_size: int,
        depth: int,
        width: int,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 224,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        **block_options: float,
    ):
        super().__init__(in_channels, num_classes)
        self.min_size = patch_size
        self.image_size = patched_size(image_size, patch_size)
        patches = math.prod(side // patch_size for side in self.image_size)
        block = partial(type(self).block, width, patches, stochastic_depth, **block_options)
        self.stem = patch_embedding(in_channels, width, patch_size)
        self.blocks = Sequential(*(block() for _ in range(depth)))
        self.norm = type(self).make_norm(width)
        self.head_drop = Dropout(dropout)
        self.head = Linear(width, num_classes, kernel_init=ZEROS, bias_init=ZEROS)

    def run_stages(self, x: Float[Array, "n h w c"]) -> Iterator[tuple[str, Array]]:
        x = self.stem(x)
        yield "stem", x
        depth = len(self.blocks)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if 4 * (i + 1) // depth > 4 * i // depth:  # after each quarter of the blocks
                yield f"blocks.{i}", x
        yield "norm", self.norm(x)

    def forward_head(
        self, x: Float[Array, "n l c"], pre_logits: bool = False
    ) -> Float[Array, "n features"]:
        x = self.head_drop(jnp.mean(x, axis=1))
        return x if pre_logits else self.head(x)
