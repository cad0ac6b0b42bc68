"""Augmentation on the device, inside the train step: uint8 images in, uint8 images out.

Every function takes one key an image. A key depends on (seed, step, position in the global batch)
alone, so the images are the same on one device and on many.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from flaxzoo.config import AugmentConfig

Images = UInt8[Array, "n h w c"]
Keys = Key[Array, " n"]


def augment(images: Images, keys: Keys, config: AugmentConfig) -> Images:
    """Applies what `config` asks for."""
    if config.flip:
        images = random_flip(images, _keys_for(keys, 0))
    if config.shift:
        images = random_shift(images, _keys_for(keys, 1), config.shift)
    return images


def random_flip(images: Images, keys: Keys) -> Images:
    """Mirrors each image, left to right, with probability 1/2."""
    mirror = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(mirror[:, None, None, None], images[:, :, ::-1], images)


def random_shift(images: Images, keys: Keys, pixels: int) -> Images:
    """Pads with `pixels` of zeros on each side and crops back at a random place (RandomCrop)."""
    h, w, c = images.shape[1:]
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))

    def crop(image, key):
        top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
        return jax.lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), (h, w, c))

    return jax.vmap(crop)(padded, keys)


def normalize(
    images: Images, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "n h w c"]:
    """Returns (images / 255 - mean) / std in float32; one mean and std, or one a channel."""
    scaled = images.astype(jnp.float32) / 255
    return (scaled - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def _keys_for(keys: Keys, purpose: int) -> Keys:
    return jax.vmap(lambda key: jax.random.fold_in(key, purpose))(keys)
