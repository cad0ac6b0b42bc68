"""Where pixels go: flips, shifts, random resized crops and one sampler for all affine maps."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from flaxzoo.augment.keys import Images, Keys, PerImage, Whole, between, uniforms, whole

Box = tuple[Whole, Whole, Whole, Whole]  # top, left, height, width
Matrix = Float[Array, "n 2 3"]
ATTEMPTS = 10  # to draw a box that fits, as torchvision has it
BOX_NUMBERS = 2 * ATTEMPTS + 2  # uniform numbers that random_boxes takes


def random_flip(images: Images, keys: Keys) -> Images:
    """Mirrors each image, left to right, with probability 1/2."""
    return jnp.where(_coin(keys), images[:, :, ::-1], images)


def random_vertical_flip(images: Images, keys: Keys) -> Images:
    """Turns each image upside down, as in a pond, with probability 1/2."""
    return jnp.where(_coin(keys), images[:, ::-1], images)


def _coin(keys: Keys) -> Bool[Array, "n 1 1 1"]:
    return (uniforms(keys, 1)[0] < 0.5)[:, None, None, None]


def random_shift(images: Images, keys: Keys, pixels: int) -> Images:
    """Pads with `pixels` of zeros on each side and crops back at a random place (RandomCrop)."""
    h, w, c = images.shape[1:]
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))

    def crop(image, top, left):
        return jax.lax.dynamic_slice(image, (top, left, jnp.zeros_like(top)), (h, w, c))

    return jax.vmap(crop)(padded, *whole(uniforms(keys, 2), 2 * pixels + 1))


def random_resized_crop(
    images: Images, keys: Keys, scale: tuple[float, ...], ratio: tuple[float, ...]
) -> Images:
    """Cuts a random box and resizes it to the size of the image, bilinear with antialiasing.

    Args:
        scale: range of the box's share of the image's area.
        ratio: range of the box's width / height, drawn uniformly in its logarithm.
    """
    h, w = images.shape[1:3]
    return resized_crop(images, random_crop_boxes(keys, (h, w), scale, ratio))


def random_crop_boxes(
    keys: Keys, size: tuple[int, int], scale: tuple[float, ...], ratio: tuple[float, ...]
) -> Box:
    """Returns boxes as torchvision's RandomResizedCrop draws them: the middle if ten do not fit."""
    h, w = size
    middle_w = min(w, round(h * ratio[1]))
    middle_h = min(h, round(w / ratio[0]))
    middle = ((h - middle_h) // 2, (w - middle_w) // 2, middle_h, middle_w)

    def fits(heights, widths):
        return (heights > 0) & (heights <= h) & (widths > 0) & (widths <= w)

    numbers = uniforms(keys, BOX_NUMBERS)
    found, (top, left, height, width) = random_boxes(numbers, size, scale, ratio, fits)
    return (
        jnp.where(found, top, middle[0]),
        jnp.where(found, left, middle[1]),
        jnp.where(found, height, middle[2]),
        jnp.where(found, width, middle[3]),
    )


def random_boxes(
    numbers: Float[Array, "numbers n"],
    size: tuple[int, int],
    scale: tuple[float, ...],
    ratio: tuple[float, ...],
    fits: Callable[[Array, Array], Array],
) -> tuple[Bool[Array, " n"], Box]:
    """Makes boxes of uniform numbers; returns whether one of ten did fit, and the first that did.

    Args:
        scale: range of the box's share of the area.
        ratio: range of width / height, drawn uniformly in its logarithm.
        fits: tells from heights and widths which of the boxes will do.
    """
    h, w = size
    area = between(numbers[:ATTEMPTS], *scale) * (h * w)
    low, high = (math.log(r) for r in ratio)
    aspect = jnp.exp(between(numbers[ATTEMPTS : 2 * ATTEMPTS], low, high))
    widths = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    heights = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    valid = fits(heights, widths)
    first = jnp.argmax(valid, axis=0)[None]
    found, height, width = (
        jnp.take_along_axis(of_attempts, first, axis=0)[0]
        for of_attempts in (valid, heights, widths)
    )
    top = whole(numbers[-2], h - height + 1)
    left = whole(numbers[-1], w - width + 1)
    return found, (top, left, height, width)


def resized_crop(images: Images, boxes: Box) -> Images:
    """Cuts one box an image and resizes it to the size of the image, as torchvision does.

    Two products with matrices of weights, which accelerators do faster than they gather pixels.
    """
    h, w = images.shape[1:3]
    top, left, height, width = boxes
    levels = images.astype(jnp.float32)
    # In full precision: in bfloat16, a TPU's default, 255 and 254 are the same.
    rows = jnp.einsum("nyh,nhwc->nywc", _resampling(top, height, h), levels, precision="highest")
    both = jnp.einsum("nxw,nywc->nyxc", _resampling(left, width, w), rows, precision="highest")
    return jnp.clip(jnp.round(both), 0, 255).astype(jnp.uint8)


def _resampling(
    start: Int32[Array, " n"], length: Int32[Array, " n"], size: int
) -> Float[Array, "n {size} {size}"]:
    """Returns the weight of each input pixel (last axis) in each of `size` output pixels.

    A triangle over two input pixels where the box is enlarged, over two output pixels where it is
    reduced (which a box of the image is not). Pixels beyond the box count for nothing.
    """
    start, length = start[:, None, None], length[:, None, None]
    step = length.astype(jnp.float32) / size
    pixel = jnp.arange(size)
    centre = (pixel[:, None] + 0.5).astype(jnp.float32) * step + start
    distance = jnp.abs((pixel + 0.5).astype(jnp.float32) - centre) / jnp.maximum(step, 1)
    inside = (pixel >= start) & (pixel < start + length)
    weight = jnp.where(inside, jnp.maximum(0, 1 - distance), 0)
    return weight / jnp.sum(weight, axis=2, keepdims=True)


# Maps from output to input pixels about the middle of the image, x to the right and y down, for
# images of (h, w): ((xx, xy, x0), (yx, yy, y0)). They are torchvision's as its policies call them.


def shear_x(slope: PerImage, h: int, w: int) -> Matrix:
    """Moves each row to the left by `slope` times its distance from the top edge."""
    return _matrix((1, slope, slope * (h / 2)), (0, 1, 0))


def shear_y(slope: PerImage, h: int, w: int) -> Matrix:
    """Moves each column up by `slope` times its distance from the left edge."""
    return _matrix((1, 0, 0), (slope, 1, slope * (w / 2)))


def translate_x(pixels: PerImage, h: int, w: int) -> Matrix:
    """Moves to the right; fractions of a pixel are dropped."""
    return _matrix((1, 0, -jnp.trunc(pixels)), (0, 1, 0))


def translate_y(pixels: PerImage, h: int, w: int) -> Matrix:
    """Moves down; fractions of a pixel are dropped."""
    return _matrix((1, 0, 0), (0, 1, -jnp.trunc(pixels)))


def rotate(degrees: PerImage, h: int, w: int) -> Matrix:
    """Turns counterclockwise."""
    angle = degrees * jnp.float32(math.pi / 180)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrix((cos, -sin, 0), (sin, cos, 0))


def _matrix(*rows: tuple) -> Matrix:
    numbers = [jnp.asarray(number, jnp.float32) for row in rows for number in row]
    return jnp.stack(jnp.broadcast_arrays(*numbers), axis=-1).reshape(-1, 2, 3)


def affine(images: Images, matrices: Matrix) -> Images:
    """Takes each output pixel from the nearest input pixel, or black from beyond the image."""
    n, h, w, c = images.shape
    x = jnp.arange(w, dtype=jnp.float32) - (w - 1) / 2
    y = jnp.arange(h, dtype=jnp.float32)[:, None] - (h - 1) / 2

    def source(row: Float[Array, "n 3"], size: int) -> Int32[Array, "n h w"]:
        along_x, along_y, offset = (row[:, i, None, None] for i in range(3))
        place = along_x * x + along_y * y + offset + (size - 1) / 2
        return jnp.round(place).astype(jnp.int32)

    column, row = source(matrices[:, 0], w), source(matrices[:, 1], h)
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    index = jnp.where(inside, row * w + column, 0).reshape(n, h * w, 1)
    moved = jnp.take_along_axis(images.reshape(n, h * w, c), index, axis=1)
    return jnp.where(inside[..., None], moved.reshape(images.shape), 0)
