"""Decoding, cropping and resizing on the host: Pillow in the middle, uint8 [h, w, c] at both ends.

The geometry is torchvision's (Resize, CenterCrop, RandomResizedCrop on PIL images, bilinear with
antialiasing), so a published evaluation recipe gives the published pixels.
"""

import io
import math
import os
import struct

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flaxzoo.errors import UserError

Pixels = UInt8[np.ndarray, "h w c"]
Square = UInt8[np.ndarray, "{size} {size} c"]

_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(source: bytes | str | os.PathLike, channels: int = 3, name: str | None = None) -> Pixels:
    """Decodes an image file to RGB (channels=3) or luminance (channels=1).

    EXIF orientation is applied; 16-bit grey keeps its high byte; palettes and CMYK become RGB; an
    alpha channel is dropped, as torchvision does.

    Args:
        source: a path, or the bytes of a file.
        name: what an error calls the image; the path if left out.

    Raises:
        UserError: the file is missing, truncated or no image; the message names it.
    """
    if name is None:
        name = "image" if isinstance(source, bytes) else os.fspath(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            return _array(_convert(_upright(image), "RGB" if channels == 3 else "L"))
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        raise unreadable(name, error) from error


def unreadable(name: str, error: Exception) -> UserError:
    """Returns what to raise for an image called `name`, which could not be read or decoded."""
    reason = str(error) or type(error).__name__
    if isinstance(error, Image.UnidentifiedImageError):
        reason = "not an image"
    elif isinstance(error, FileNotFoundError):
        reason = "no such file"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    return UserError(f"cannot read image {name}: {reason}")


def _upright(image: Image.Image) -> Image.Image:
    method = _TRANSPOSE.get(orientation(image.info.get("exif", b"")))
    return image if method is None else image.transpose(method)


def orientation(exif: bytes) -> int:
    """Returns the EXIF orientation 1..8, or 1 where there is none that can be read.

    Pillow's own reader warns about the broken EXIF blocks that web photographs are full of.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, offset)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, offset + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return value
    except struct.error:
        pass
    return 1


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; expected 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey, in one of Pillow's containers for it
        high_byte = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        image = Image.fromarray(high_byte.astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB, Pillow warns
    return image.convert(mode)


def _array(image: Image.Image) -> Pixels:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def resize(image: Pixels, size: int) -> Square:
    """Resizes to [size, size, c], bilinear with antialiasing; the aspect ratio is not kept."""
    if image.shape[:2] == (size, size):
        return image
    return _array(_image(image).resize((size, size), Image.Resampling.BILINEAR))


def center_crop(image: Pixels, size: int, resize: int) -> Square:
    """Resizes the short side to `resize`, then cuts the central [size, size, c].

    Raises:
        UserError: `resize` is smaller than `size`.
    """
    if resize < size:
        raise UserError(f"cannot cut {size} pixels from images resized to {resize}")
    height, width = image.shape[:2]
    short = min(height, width)
    new_height, new_width = int(resize * height / short), int(resize * width / short)
    top, left = round((new_height - size) / 2), round((new_width - size) / 2)
    if (new_height, new_width) != (height, width):
        # All of it, although only the middle is kept: resampling just that (Pillow's `box`) is 7 %
        # faster, decoding included, but rounds ties elsewhere, and the pixels are torchvision's.
        whole = _image(image).resize((new_width, new_height), Image.Resampling.BILINEAR)
        image = _array(whole)
    return image[top : top + size, left : left + size]


def random_resized_crop(
    image: Pixels,
    size: int,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Square:
    """Cuts a random box and resizes it to [size, size, c].

    Args:
        scale: range of the box's share of the image's area.
        ratio: range of the box's width / height, drawn uniformly in its logarithm.
    """
    top, left, height, width = _random_box(image.shape[0], image.shape[1], rng, scale, ratio)
    # Cut before resizing, as torchvision does: the filter must not see beyond a random box.
    box = image[top : top + height, left : left + width]
    if (height, width) == (size, size):
        return box
    box = np.ascontiguousarray(box)
    return _array(_image(box).resize((size, size), Image.Resampling.BILINEAR))


def _random_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width); the largest central box if ten draws do not fit."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.random() * (height - h + 1), rng.random() * (width - w + 1)
            return int(top), int(left), h, w
    aspect = width / height
    w = min(width, round(height * ratio[1])) if aspect > ratio[1] else width
    h = min(height, round(width / ratio[0])) if aspect < ratio[0] else height
    return (height - h) // 2, (width - w) // 2, h, w
