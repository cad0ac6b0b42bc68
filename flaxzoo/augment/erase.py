"""Random erasing (Zhong et al. 2017, https://arxiv.org/abs/1708.04896), after normalisation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flaxzoo.augment.geometry import BOX_NUMBERS, random_boxes
from flaxzoo.augment.keys import Keys, Purpose, Whole, keys_for, uniforms
from flaxzoo.config import AugmentConfig

Floats = Float[Array, "n h w c"]


def erase(
    images: Floats,
    image_keys: Keys,
    config: AugmentConfig,
    active: bool | Bool[Array, ""] = True,
) -> Floats:
    """Erases a random box of some of the images, where `active`, as torchvision's RandomErasing.

    The box becomes 0, the mean of the data, or normal noise (`erase_value`).
    """
    if not config.erase:
        return images
    keys = keys_for(image_keys, Purpose.ERASE)
    return jax.lax.cond(
        active, lambda images: _erased(images, keys, config), lambda images: images, images
    )


def _erased(images: Floats, keys: Keys, config: AugmentConfig) -> Floats:
    h, w, c = images.shape[1:]
    boxes = erased_boxes(keys_for(keys, 0), (h, w), config)
    if config.erase_value == "mean":
        return jnp.where(boxes[..., None], 0, images)
    noise = jax.vmap(lambda key: jax.random.normal(key, (h, w, c), images.dtype))(keys_for(keys, 1))
    return jnp.where(boxes[..., None], noise, images)


def erased_boxes(keys: Keys, size: tuple[int, int], config: AugmentConfig) -> Bool[Array, "n h w"]:
    """Returns where images are erased: nowhere, or in a box less high and less wide than they."""
    h, w = size
    numbers = uniforms(keys, BOX_NUMBERS + 1)
    # torchvision's ratio is height / width here, and width / height in RandomResizedCrop.
    ratio = (1 / config.erase_ratio[1], 1 / config.erase_ratio[0])
    found, (top, left, height, width) = random_boxes(
        numbers[1:],
        size,
        config.erase_scale,
        ratio,
        lambda height, width: (height < h) & (width < w),
    )
    erased = found & (numbers[0] < config.erase)
    rows = _from_to(top, height, h) & erased[:, None]
    return rows[:, :, None] & _from_to(left, width, w)[:, None]


def _from_to(start: Whole, length: Whole, size: int) -> Bool[Array, "n {size}"]:
    place = jnp.arange(size) - start[:, None]
    return (place >= 0) & (place < length[:, None])
