"""ColorJitter: brightness, contrast, saturation and hue by random amounts, in a random order."""

import jax
import jax.numpy as jnp

from flaxzoo.augment import colour
from flaxzoo.augment.keys import Images, Keys, PerImage, Whole, between, uniforms

JITTER = {
    "brightness": colour.brightness,
    "contrast": colour.contrast,
    "saturation": colour.saturation,
    "hue": colour.hue,
}


def random_jitter(images: Images, keys: Keys, strength: dict[str, float]) -> Images:
    """Changes colours as torchvision's ColorJitter does, each image in an order of its own.

    Args:
        strength: of the functions of `JITTER` to use. Factors are drawn from 1 - strength (at
            least 0) to 1 + strength, and the turn of the hue from -strength to strength.
    """
    numbers = uniforms(keys, 2 * len(JITTER))
    amounts = {
        name: draw_amount(numbers[i], name, strength[name])
        for i, name in enumerate(JITTER)
        if name in strength
    }
    # The function with the least of these numbers is the first: each order is equally likely.
    ranks = [numbers[len(JITTER) + i] for i, name in enumerate(JITTER) if name in strength]
    turns = jnp.argsort(jnp.stack(ranks), axis=0).astype(jnp.int32)

    def one_turn(images: Images, function: Whole) -> tuple[Images, None]:
        result = images  # all are computed for all images: see flaxzoo.augment.policies.apply
        for i, (name, amount) in enumerate(amounts.items()):
            chosen = (function == i)[:, None, None, None]
            result = jnp.where(chosen, JITTER[name](images, amount), result)
        return result, None

    return jax.lax.scan(one_turn, images, turns)[0]


def draw_amount(numbers: PerImage, name: str, strength: float) -> PerImage:
    """Makes factors, or turns of the hue, of numbers from [0, 1)."""
    if name == "hue":
        return between(numbers, -strength, strength)
    return between(numbers, max(0.0, 1 - strength), 1 + strength)
