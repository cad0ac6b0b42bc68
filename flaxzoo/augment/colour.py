"""Operations on grey levels, one parameter an image: uint8 in, uint8 out, torchvision's arithmetic.

Each is the function of its name in torchvision.transforms.v2.functional, truncation and all, so a
published recipe gives the published pixels, to within one grey level where the two libraries round
a product differently. On images of one channel `saturation` and `hue` change nothing, as there.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxzoo.augment.keys import Images, PerImage

Levels = Float[Array, "n h w c"]


def brightness(images: Images, factor: PerImage) -> Images:
    """Fades to black at 0, leaves as it is at 1, brightens above."""
    return _blend(_levels(images), jnp.float32(0), factor)


def contrast(images: Images, factor: PerImage) -> Images:
    """Fades at 0 to the mean of the grey image."""
    mean = jnp.mean(_grey(images), axis=(1, 2, 3), keepdims=True)
    return _blend(_levels(images), mean, factor)


def saturation(images: Images, factor: PerImage) -> Images:
    """Fades at 0 to the grey image."""
    if images.shape[3] == 1:
        return images
    return _blend(_levels(images), _grey(images), factor)


def hue(images: Images, turn: PerImage) -> Images:
    """Turns the hue of each pixel by `turn`, -0.5 to 0.5 of a full circle."""
    if images.shape[3] == 1:
        return images
    levels = _levels(images)
    # By levels, which are exact: a product may be rounded or not, as the compiler fuses it.
    largest = jnp.argmax(levels, axis=3)
    rgb = levels * jnp.float32(1 / 255)
    value, low = jnp.max(rgb, axis=3), jnp.min(rgb, axis=3)
    spread = value - low
    grey = spread == 0
    chroma = spread / jnp.where(grey, 1, value)
    r, g, b = jnp.moveaxis((value[..., None] - rgb) / jnp.where(grey, 1, spread)[..., None], 3, 0)
    # In sixths of the circle from that of the largest channel.
    sixths = jnp.select([largest == 0, largest == 1], [b - g, 2 + r - b], 4 + g - r)
    angle = jnp.fmod(jnp.where(grey, 0, sixths) * jnp.float32(1 / 6) + 1, 1)
    angle = jnp.remainder(angle + turn[:, None, None], 1) * 6
    whole = jnp.floor(angle)
    part, sector = angle - whole, whole.astype(jnp.int32) % 6

    least = value * (1 - chroma)
    falling = value * (1 - chroma * part)
    rising = value * (1 - chroma + chroma * part)

    def channel(*by_sector: Array) -> Array:
        return jnp.select([sector == i for i in range(5)], by_sector[:5], by_sector[5])

    turned = jnp.stack(
        [
            channel(value, falling, least, least, rising, value),
            channel(rising, value, value, falling, least, least),
            channel(least, least, rising, value, value, falling),
        ],
        axis=3,
    )
    return (jnp.clip(turned, 0, 1) * jnp.float32(255.999)).astype(jnp.uint8)


def sharpness(images: Images, factor: PerImage) -> Images:
    """Fades at 0 to a 3x3 blur with weight 5 in the middle and 1 around; the border stays."""
    h, w = images.shape[1:3]
    if h <= 2 or w <= 2:
        return images
    levels = _levels(images)
    inner = levels[:, 1:-1, 1:-1]
    columns = levels[:, :, :-2] + levels[:, :, 1:-1] + levels[:, :, 2:]
    around = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:]
    blurred = jnp.round((around + 4 * inner) / 13)
    inner = inner + (blurred - inner) * (1 - _per_image(factor))
    return jax.lax.dynamic_update_slice(images, _truncate(inner), (0, 1, 1, 0))


def posterize(images: Images, bits: PerImage) -> Images:
    """Keeps the upper `bits` (0 to 8, fractions dropped) of each level."""
    lost = 8 - _per_image(bits).astype(jnp.int32)
    return ((images.astype(jnp.int32) >> lost) << lost).astype(jnp.uint8)


def solarize(images: Images, threshold: PerImage) -> Images:
    """Inverts the levels from `threshold` (0 to 255) on."""
    return jnp.where(_levels(images) >= _per_image(threshold), 255 - images, images)


def autocontrast(images: Images) -> Images:
    """Stretches each channel to the whole range, if it has more than one level."""
    levels = _levels(images)
    low = jnp.min(levels, axis=(1, 2), keepdims=True)
    spread = jnp.max(levels, axis=(1, 2), keepdims=True) - low
    stretched = (levels - low) / jnp.where(spread == 0, 1, spread * jnp.float32(1 / 255))
    return jnp.where(spread == 0, images, _truncate(stretched))


def equalize(images: Images) -> Images:
    """Makes the levels of each channel equally frequent, by Pillow's table."""
    n, h, w, c = images.shape
    # One table of 256 c entries an image, so that no channel has to be moved.
    index = (images.astype(jnp.int32) + 256 * jnp.arange(c, dtype=jnp.int32)).reshape(n, -1)
    histogram = jax.vmap(lambda index: jnp.zeros(256 * c, jnp.int32).at[index].add(1))(index)
    histogram = histogram.reshape(n, c, 256)
    highest = 255 - jnp.argmax(histogram[:, :, ::-1] > 0, axis=2, keepdims=True)
    step = (h * w - jnp.take_along_axis(histogram, highest, axis=2)) // 255
    below = jnp.cumsum(histogram, axis=2, dtype=jnp.int32) - histogram
    table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
    table = jnp.where(step == 0, jnp.arange(256), table).astype(jnp.uint8)
    equal = jnp.take_along_axis(table.reshape(n, -1), index, axis=1)
    return equal.reshape(images.shape)


def invert(images: Images) -> Images:
    """Returns 255 minus each level."""
    return 255 - images


def _levels(images: Images) -> Levels:
    return images.astype(jnp.float32)


def _per_image(values: PerImage) -> Float[Array, "n 1 1 1"]:
    return values[:, None, None, None]


def _grey(images: Images) -> Float[Array, "n h w 1"]:
    """Returns the luminance as torchvision weighs it, in whole levels."""
    if images.shape[3] == 1:
        return _levels(images)
    r, g, b = jnp.moveaxis(_levels(images), 3, 0)
    grey = jnp.float32(0.2989) * r + jnp.float32(0.587) * g + jnp.float32(0.114) * b
    return jnp.floor(grey)[..., None]


def _blend(levels: Array, other: Array, factor: PerImage) -> Images:
    """Returns `levels` at factor 1, `other` at 0, and goes on beyond both."""
    share = _per_image(factor)
    return _truncate(levels * share + other * (1 - share))


def _truncate(levels: Array) -> Images:
    return jnp.clip(levels, 0, 255).astype(jnp.uint8)
