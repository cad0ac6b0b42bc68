"""What all augmentations share: one key an image, and the types of their arguments.

A key depends on (seed, step, position in the global batch) alone, and each augmentation folds its
own number into it. So what an image becomes depends neither on the other images of its batch nor on
the number of devices, and switching one augmentation on leaves the draws of the others alone.
"""

from enum import IntEnum
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key, UInt8

Images = UInt8[Array, "n h w c"]
Keys = Key[Array, " n"]
PerImage = Float[Array, "*draws n"]
Whole = Int32[Array, "*draws n"]


class Purpose(IntEnum):
    """What a key is folded with. A new augmentation gets the next number: old ones stay."""

    FLIP = 0
    SHIFT = 1
    VERTICAL_FLIP = 2
    CROP = 3
    JITTER = 4
    POLICY = 5
    MIX = 6
    ERASE = 7


def keys_for(keys: Keys, purpose: int) -> Keys:
    """Returns the keys of one augmentation, or of one of its draws."""
    return jax.vmap(lambda key: jax.random.fold_in(key, purpose))(keys)


def uniforms(keys: Keys, count: int) -> Float[Array, "{count} n"]:
    """Draws `count` numbers from [0, 1) for each key.

    All that an augmentation draws comes from one call, whatever becomes of the numbers: to compile
    the generator takes longer than most augmentations.
    """
    draw = partial(jax.random.uniform, shape=(count,), dtype="float32")
    return jax.vmap(draw, out_axes=1)(keys)


def between(numbers: PerImage, low: float, high: float) -> PerImage:
    """Stretches numbers from [0, 1) to [low, high)."""
    return low + numbers * (high - low)


def whole(numbers: PerImage, below: int | Whole) -> Whole:
    """Makes numbers from [0, 1) whole numbers from 0 up to, not including, `below`."""
    return (numbers * below).astype(jnp.int32)
