"""Random boxes of training images, resized: as fast as a host can, and torchvision's pixels nearly.

On photographs of 500 x 375 pixels, decoding with simplejpeg (libjpeg-turbo without the detour
through Pillow's memory) and resizing with cykooz-resizer (SIMD) takes two thirds of the processor
time that Pillow takes for both. Boxes, filters and decoded pixels are those of torchvision's
RandomResizedCrop; resized ones differ by at most one grey level.

Rows below the box are not decoded: a sixth of the image on average, and as much of the time. Of a
box that is at least twice as large as what is made of it, libjpeg decodes a half, a quarter or an
eighth. That takes less time, and pixels differ by 3 to 5 of 255 grey levels on average. Evaluation
does none of this: see flaxzoo.data.transforms.
"""

import math
import threading
from typing import Any

import numpy as np
import simplejpeg

from flaxzoo.data import jpeg, transforms
from flaxzoo.data.transforms import Pixels, Square

try:
    import cykooz_resizer as simd
except ModuleNotFoundError:  # there are no wheels for Linux on ARM; Pillow does the same, slower
    simd = None

Box = tuple[int, int, int, int]  # top, left, height, width

_SCALE, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
_TRIES = 10
_KEPT = 2**24  # bytes of memory that a thread keeps for the next image
_local = threading.local()


def random_resized_crop(
    image: Pixels,
    size: int,
    rng: np.random.Generator,
    scale: tuple[float, float] = _SCALE,
    ratio: tuple[float, float] = _RATIO,
    interpolation: str = "bilinear",
) -> Square:
    """Cuts a random box and resizes it to [size, size, c].

    Args:
        scale: range of the box's share of the image's area.
        ratio: range of the box's width / height, drawn uniformly in its logarithm.
    """
    height, width, _ = image.shape
    return _cut(image, random_box(height, width, rng, scale, ratio), size, interpolation)


def random_resized_crop_of_file(
    encoded: bytes,
    size: int,
    rng: np.random.Generator,
    channels: int = 3,
    name: str = "image",
    interpolation: str = "bilinear",
) -> Square:
    """Returns `random_resized_crop` of an image file, of which no more than needed is decoded.

    The box is that of the whole image with the same `rng`.

    Args:
        channels, name: see `transforms.decode`.

    Raises:
        UserError: the file is truncated or no image.
    """
    header = jpeg.read_header(encoded)
    shape = None if header is None else _plain_jpeg(encoded, header, channels)
    if header is None or shape is None:
        image = transforms.decode(encoded, channels, name)
        return random_resized_crop(image, size, rng, interpolation=interpolation)
    box = random_box(*shape, rng, _SCALE, _RATIO)
    n = _reduction(box, size)
    # Colours of subsampled files are interpolated between rows: two more than the box has.
    rows = -(-(box[0] + box[2]) // n) * n + 2 * n
    try:
        if rows < shape[0] and encoded.endswith(jpeg.END):
            image = _decode(header.first_rows(encoded, rows), channels, (rows, shape[1]), n, False)
            shape = rows, shape[1]
        else:
            image = _decode(encoded, channels, shape, n)
    except ValueError:  # it refuses what libjpeg only warns of, and Pillow judges
        image = transforms.decode(encoded, channels, name)
    return _cut(image, _rescaled(box, shape, image.shape[:2]), size, interpolation)


def random_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Box:
    """Returns (top, left, height, width); the largest central box if ten draws do not fit."""
    drawn = iter(rng.random(2 * _TRIES + 2).tolist())  # one call, not one for each number
    for _ in range(_TRIES):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * next(drawn))
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + (high - low) * next(drawn))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = next(drawn) * (height - h + 1), next(drawn) * (width - w + 1)
            return int(top), int(left), h, w
    aspect = width / height
    w = min(width, round(height * ratio[1])) if aspect > ratio[1] else width
    h = min(height, round(width / ratio[0])) if aspect < ratio[0] else height
    return (height - h) // 2, (width - w) // 2, h, w


def _plain_jpeg(encoded: bytes, header: jpeg.Header, channels: int) -> tuple[int, int] | None:
    """Returns (height, width) of a JPEG that simplejpeg decodes to what Pillow would, or None.

    Not so CMYK, photographs that are to be turned, luminance taken from colours, and sizes that
    Pillow refuses.
    """
    if transforms.orientation(header.exif) != 1:
        return None
    try:
        *shape, colours, _ = simplejpeg.decode_jpeg_header(encoded)
    except ValueError:
        return None
    height, width = map(int, shape)
    plain = colours == "Gray" or (colours, channels) == ("YCbCr", 3)
    return (height, width) if plain and height * width <= transforms.MOST_PIXELS else None


def _reduction(box: Box, size: int) -> int:
    """Returns by what libjpeg may divide the image: 8, 4, 2 or 1; the box keeps `size` pixels."""
    return next((n for n in (8, 4, 2) if min(box[2:]) >= n * size), 1)


def _decode(
    encoded: bytes | bytearray,
    channels: int,
    shape: tuple[int, int],
    reduction: int,
    strict: bool = True,
) -> Pixels:
    """Returns pixels that lie in memory of this thread, which its next call writes over.

    Fresh memory for every image would cost a tenth of the time, in page faults.
    """
    height, width = (-(-side // reduction) for side in shape)
    count = height * width * channels
    buffer = _local.__dict__.get("buffer")
    if buffer is None or len(buffer) < count:
        buffer = np.empty(count, np.uint8)
        if count <= _KEPT:
            _local.buffer = buffer
    # Without a size simplejpeg decodes all pixels; with one, the fewest of libjpeg's scales.
    least: Any = {"min_height": height, "min_width": width} if reduction > 1 else {}
    kind = "RGB" if channels == 3 else "GRAY"
    return simplejpeg.decode_jpeg(encoded, kind, buffer=buffer, strict=strict, **least)


def _rescaled(box: Box, old: tuple[int, int], new: tuple[int, ...]) -> Box:
    """Returns the box of an image of another size."""
    if new == old:
        return box
    edges = np.array([box[:2], (box[0] + box[2], box[1] + box[3])])
    (top, left), (bottom, right) = np.floor(edges * new / old + 0.5).astype(int).tolist()
    return top, left, bottom - top, right - left


def _cut(image: Pixels, box: Box, size: int, interpolation: str) -> Square:
    """Cuts before it resizes, as torchvision does: the filter must not see beyond the box."""
    top, left, height, width = box
    part = image[top : top + height, left : left + width]
    return part.copy() if (height, width) == (size, size) else _resize(part, size, interpolation)


def _resize(image: Pixels, size: int, interpolation: str) -> Square:
    if simd is None:
        return transforms.resize(np.ascontiguousarray(image), size, interpolation)
    tools = _local.__dict__  # a resizer serves one thread at a time
    if interpolation not in tools:
        filters = {"bilinear": simd.FilterType.bilinear, "bicubic": simd.FilterType.catmull_rom}
        kind = simd.ResizeAlg.convolution(filters[interpolation])
        tools[interpolation] = simd.Resizer(), simd.ResizeOptions(resize_alg=kind, use_alpha=False)
    resizer, options = tools[interpolation]
    height, width, channels = image.shape
    kind = simd.PixelType.U8x3 if channels == 3 else simd.PixelType.U8
    target = simd.ImageData(size, size, kind)
    resizer.resize(simd.ImageData(width, height, kind, image.tobytes()), target, options)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size, size, channels)
