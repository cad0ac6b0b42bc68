"""Decoding, cropping and resizing on the host: Pillow in the middle, uint8 [h, w, c] at both ends.

The geometry is torchvision's (Resize and CenterCrop on PIL images, bilinear or bicubic, both with
antialiasing), so a published evaluation recipe gives the published pixels, to the last bit. Random
crops of training images are in flaxzoo.data.random_crop.
"""

import dataclasses
import io
import os
import struct
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageFile

from flaxzoo.errors import UserError, shown

if TYPE_CHECKING:  # it imports JAX, which processes that decode images never need
    from flaxzoo.models.info import Weights

Pixels = UInt8[np.ndarray, "h w c"]
Square = UInt8[np.ndarray, "{size} {size} c"]

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # more Pillow takes for an attack
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
        with opened(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            return _array(_convert(_upright(image), "RGB" if channels == 3 else "L"))
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        raise unreadable(name, error) from error


def opened(source: io.BytesIO | str | os.PathLike) -> ImageFile.ImageFile:
    """Opens an image of one of FORMATS: for others Pillow may run programs, like Ghostscript."""
    return Image.open(source, formats=FORMATS)


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


def resize(image: Pixels, size: int, interpolation: str = "bilinear") -> Square:
    """Resizes to [size, size, c] with antialiasing; the aspect ratio is not kept."""
    if image.shape[:2] == (size, size):
        return image
    return _resize(image, (size, size), interpolation)


def center_crop(image: Pixels, size: int, resize: int, interpolation: str = "bilinear") -> Square:
    """Resizes the short side to `resize`, then cuts the central [size, size, c].

    What is smaller than `size` is padded with black on all sides.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    new = int(resize * height / short), int(resize * width / short)
    if new != (height, width):
        # All of it, although only the middle is kept: resampling just that (Pillow's `box`) is 7 %
        # faster, decoding included, but rounds ties elsewhere, and the pixels are torchvision's.
        image = _resize(image, new, interpolation)
    if min(new) < size:
        missing = [max(size - side, 0) for side in new]
        image = np.pad(image, [*((m // 2, (m + 1) // 2) for m in missing), (0, 0)])
    top, left = (round((side - size) / 2) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def crop_box(height: int, width: int, size: int, resize: int) -> tuple[float, float, float, float]:
    """Returns (top, left, bottom, right) of what `center_crop` keeps, in pixels of the image.

    Beyond the image where that is padded.
    """
    short = min(height, width)
    edges = []
    for side in (height, width):
        new = int(resize * side / short)
        # Padding puts the odd pixel behind, where a crop is rounded.
        start = round((new - size) / 2) if new >= size else -((size - new) // 2)
        edges.append((start * side / new, (start + size) * side / new))
    (top, bottom), (left, right) = edges
    return top, left, bottom, right


def _resize(
    image: Pixels, size: tuple[int, int], interpolation: str
) -> UInt8[np.ndarray, "{size[0]} {size[1]} c"]:
    """Resizes to (height, width)."""
    return _array(_image(image).resize((size[1], size[0]), INTERPOLATIONS[interpolation]))


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What is done to an image before a model sees it.

    >>> from flaxzoo import model_info
    >>> weights = model_info("swin_t").weights[0]
    >>> prepare = evaluation(weights)
    >>> prepare.resize, prepare.image_size, prepare.interpolation
    (232, 224, 'bicubic')

    Attributes: see `flaxzoo.models.info.Weights`.
    """

    image_size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(
        self, image: Pixels | bytes | str | os.PathLike
    ) -> UInt8[np.ndarray, "{self.image_size} {self.image_size} c"]:
        """Returns the pixels that the publisher evaluated, of an image, a file or its bytes.

        Raises:
            UserError: the file is missing, truncated or no image.
        """
        pixels = image if isinstance(image, np.ndarray) else decode(image)
        return center_crop(pixels, self.image_size, self.resize, self.interpolation)

    def normalize(self, pixels: UInt8[np.ndarray, "*b c"]) -> Float32[np.ndarray, "*b c"]:
        """Returns what the model takes: pixels of 0 to 1, less the mean, divided by std."""
        unit = pixels.astype(np.float32) / 255
        return (unit - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)


def evaluation(weights: "Weights | object") -> Preparation:
    """Returns how images were prepared when published weights were evaluated.

    Raises:
        UserError: they are none of `model_info(NAME).weights`.
    """
    preparation = getattr(weights, "preparation", None)
    if not isinstance(preparation, dict):
        raise UserError(f"expected one of model_info(NAME).weights; got {shown(weights)}.")
    return Preparation(**preparation)
