"""Mixup and CutMix: images and targets of neighbours in the batch are mixed, as timm's Mixup does.

Rows 2k and 2k + 1 are partners. timm pairs a batch with its reverse; the order is shuffled every
epoch, so one is as random as the other, but neighbours lie on the same device.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from flaxzoo.augment.keys import Keys, PerImage, Purpose, keys_for, uniforms, whole
from flaxzoo.config import AugmentConfig
from flaxzoo.errors import UserError

Floats = Float[Array, "n h w c"]
Targets = Float[Array, "n classes"]


def mix(
    images: Floats,
    targets: Targets,
    image_keys: Keys,
    batch_key: Key[Array, ""],
    config: AugmentConfig,
    active: bool | Bool[Array, ""] = True,
) -> tuple[Floats, Targets]:
    """Mixes each image and its target with those of its neighbour, where `active`.

    Args:
        targets: probabilities of the classes.
        batch_key: the same on all devices; `mix_mode="batch"` draws from it.
    """
    if not mixes(config):
        return images, targets
    keys = keys_for(_drawing_keys(image_keys, batch_key, config.mix_mode), Purpose.MIX)

    def mixed(images: Floats, targets: Targets) -> tuple[Floats, Targets]:
        h, w = images.shape[1:3]
        weights, share = draw_weights(keys, (h, w), config)
        return (
            _blend(images, weights[..., None].astype(images.dtype)),
            _blend(targets, share[:, None].astype(targets.dtype)),
        )

    return jax.lax.cond(active, mixed, lambda *same: same, images, targets)


def mixes(config: AugmentConfig) -> bool:
    """Whether anything is mixed at all."""
    return bool((config.mixup or config.cutmix) and config.mix_prob)


def check_mixing(config: AugmentConfig, batch_size: int, devices: int) -> None:
    """Refuses a batch in which an image has no neighbour on its device.

    Raises:
        UserError: mixing is on, and the batch is no multiple of twice the devices.
    """
    if mixes(config) and batch_size % (2 * devices):
        raise UserError(
            "config.augment.mixup and cutmix mix the images of a device in pairs: "
            f"config.batch_size must be a multiple of {2 * devices}; got {batch_size}."
        )


def _drawing_keys(image_keys: Keys, batch_key: Key[Array, ""], mode: str) -> Key[Array, " draws"]:
    """Returns one key a draw: for the batch ("batch"), each pair ("pair"), each image ("elem")."""
    if mode == "batch":
        return batch_key[None]
    if mode == "pair":
        first = image_keys.reshape(-1, 2)[:, :1]
        return jnp.broadcast_to(first, (len(first), 2)).reshape(-1)
    return image_keys


def draw_weights(
    keys: Keys, size: tuple[int, int], config: AugmentConfig
) -> tuple[Float[Array, "n h w"], PerImage]:
    """Draws an image's own weight at each pixel, and its mean, which the target gets.

    Mixup weighs all pixels by lambda, from Beta(alpha, alpha). CutMix takes a box of 1 - lambda of
    the image from the partner; what lies outside the image is cut off, and lambda corrected.
    """
    numbers = uniforms(keys, 8)
    mixed = (numbers[0] < config.mix_prob)[:, None, None]
    cut = (numbers[1] < _cutmix_share(config))[:, None, None]
    weights = jnp.ones((len(keys), *size), jnp.float32)
    if config.mixup:
        share = symmetric_beta(numbers[2], numbers[3], config.mixup)
        weights = jnp.where(mixed & ~cut, share[:, None, None], weights)
    if config.cutmix:
        share = symmetric_beta(numbers[4], numbers[5], config.cutmix)
        outside = _outside_boxes(share, numbers[6:8], size)
        weights = jnp.where(mixed & cut, outside, weights)
    return weights, jnp.mean(weights, axis=(1, 2))


def _cutmix_share(config: AugmentConfig) -> float:
    if config.mixup and config.cutmix:
        return config.mix_switch_prob
    return 1.0 if config.cutmix else 0.0


def symmetric_beta(first: PerImage, second: PerImage, alpha: float) -> PerImage:
    """Makes numbers from Beta(alpha, alpha) of two uniform ones.

    Bailey 1994 makes Student's t of them (https://doi.org/10.1090/S0025-5718-1994-1219702-8), and t
    with 2 alpha degrees of freedom makes this Beta. jax.random.beta draws until it accepts, which
    takes five times as long to compile.
    """
    direction = jnp.cos(2 * jnp.pi * second)
    squared = (first ** (-1 / alpha) - 1) * direction**2  # t^2 / (2 alpha), up to infinity
    return (1 + jnp.sign(direction) / jnp.sqrt(1 + 1 / squared)) / 2


def _outside_boxes(
    share: PerImage, places: Float[Array, "2 n"], size: tuple[int, int]
) -> Float[Array, "n h w"]:
    """Returns 0 in a box of 1 - share of the image around a uniform place, 1 elsewhere."""
    inside = jnp.ones((), bool)
    for axis, length in enumerate(size):
        cut = (length * jnp.sqrt(1 - share)).astype(jnp.int32)
        place = whole(places[axis], length)
        pixel = jnp.arange(length)
        within = (pixel >= (place - cut // 2)[:, None]) & (
            pixel < (place + (cut + 1) // 2)[:, None]
        )
        inside = inside & jnp.expand_dims(within, 2 - axis)
    return 1 - inside.astype(jnp.float32)


def _blend(rows: Float[Array, "n ..."], weight: Float[Array, "k ..."]) -> Float[Array, "n ..."]:
    """Returns weight * row + (1 - weight) * the neighbour's row."""
    pairs = rows.reshape(-1, 2, *rows.shape[1:])
    partner = pairs[:, ::-1].reshape(rows.shape)
    return weight * rows + (1 - weight) * partner
