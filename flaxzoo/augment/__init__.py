"""Regularisation by augmentation, on the device, inside the train step.

    images = augment(images, image_keys, config, active)           uint8 to uint8
    images = normalize(images, mean, std)                          to float32
    images, targets = mix(images, targets, image_keys, batch_key, config, active)
    images = erase(images, image_keys, config, active)

Everything random follows from keys, one an image (see flaxzoo.augment.keys), so the images are the
same on one device and on many. `active` says whether the strong augmentations are on: what changes
colours, mixes or erases. Flips, shifts and crops, after which an image is still a photograph of its
class, always are. It may change from step to step without compiling again, and costs nothing where
it is False.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flaxzoo.augment.erase import erase
from flaxzoo.augment.geometry import (
    random_flip,
    random_resized_crop,
    random_shift,
    random_vertical_flip,
)
from flaxzoo.augment.jitter import JITTER, random_jitter
from flaxzoo.augment.keys import Images, Keys, Purpose, keys_for
from flaxzoo.augment.mix import check_mixing, mix, mixes
from flaxzoo.augment.policies import random_policy
from flaxzoo.config import AugmentConfig

__all__ = [
    "augment",
    "check_mixing",
    "erase",
    "mix",
    "mixes",
    "normalize",
    "random_flip",
    "random_jitter",
    "random_policy",
    "random_resized_crop",
    "random_shift",
    "random_vertical_flip",
]


def augment(
    images: Images, keys: Keys, config: AugmentConfig, active: bool | Bool[Array, ""] = True
) -> Images:
    """Does to each image what `config` asks for; colours and policies only where `active`."""
    if config.crop_scale:
        images = random_resized_crop(
            images, keys_for(keys, Purpose.CROP), config.crop_scale, config.crop_ratio
        )
    if config.flip:
        images = random_flip(images, keys_for(keys, Purpose.FLIP))
    if config.vertical_flip:
        images = random_vertical_flip(images, keys_for(keys, Purpose.VERTICAL_FLIP))
    if config.shift:
        images = random_shift(images, keys_for(keys, Purpose.SHIFT), config.shift)
    strength = {name: getattr(config, name) for name in JITTER if getattr(config, name)}
    if not strength and not config.policy:
        return images

    def strong(images: Images) -> Images:
        if strength:
            images = random_jitter(images, keys_for(keys, Purpose.JITTER), strength)
        if config.policy:
            images = random_policy(
                images,
                keys_for(keys, Purpose.POLICY),
                config.policy,
                config.policy_ops,
                config.policy_magnitude,
            )
        return images

    return jax.lax.cond(active, strong, lambda images: images, images)


def normalize(
    images: Images, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "n h w c"]:
    """Returns (images / 255 - mean) / std in float32; one mean and std, or one a channel."""
    scaled = images.astype(jnp.float32) / 255
    return (scaled - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
