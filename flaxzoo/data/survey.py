"""Looks at the images of a split: their sizes and pixels, how they are stored, which are equal."""

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from jaxtyping import Float64, Int64
from PIL import Image

from flaxzoo.data import transforms
from flaxzoo.data.dataset import EncodedSplit, Indices, Split
from flaxzoo.errors import UserError

T = TypeVar("T")
Place = tuple[str, int]  # of an image: its split, and its index there

# Pillow's modes in words; those of 16-bit grey are recognised by their bits.
_MODES = {
    "RGB": "RGB",
    "L": "grey",
    "1": "black and white",
    "P": "palette",
    "PA": "palette",
    "CMYK": "CMYK",
    "RGBA": "alpha",
    "LA": "alpha",
    "F": "floating point",
}


@dataclass(frozen=True, eq=False)
class Survey:
    """What some images of a split are like.

    Attributes:
        looked_at: their indices, ascending.
        shapes: height and width of those that can be read.
        mean, std: of their pixels in 0..1, by channel; each image counts alike.
        stored: how many files are RGB, grey, CMYK, ...; nothing for arrays.
        special: how many of them are turned by EXIF, have 16 bits a channel, or several frames.
        unreadable: why, for each that cannot be read.
        digests: of the pixels of those that can, by index.
    """

    looked_at: Int64[np.ndarray, " m"]
    shapes: Int64[np.ndarray, "k 2"]
    mean: Float64[np.ndarray, " c"]
    std: Float64[np.ndarray, " c"]
    stored: Counter[str]
    special: Counter[str]
    unreadable: list[str]
    digests: dict[int, bytes]


@dataclass(frozen=True)
class _Seen:
    """One image; or why it cannot be read."""

    index: int
    shape: tuple[int, int] = (0, 0)
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    mean_square: np.ndarray = field(default_factory=lambda: np.zeros(0))
    digest: bytes = b""
    stored: str = ""
    special: tuple[str, ...] = ()
    error: str = ""


def spread(n: int, limit: int) -> Int64[np.ndarray, " m"]:
    """Returns `limit` of the indices 0 .. n - 1, evenly spread; all of them if there are no more.

    >>> spread(10, 4)
    array([0, 3, 6, 9])
    """
    return np.arange(n) if n <= limit else np.linspace(0, n - 1, limit).round().astype(np.int64)


def survey(split: Split, indices: Indices) -> Survey:
    """Reads and decodes these images, in as many threads as there are cores."""
    seen = _in_threads(lambda i: _look(split, i), indices)
    readable = [image for image in seen if not image.error]
    nothing = np.full((1, split.channels), np.nan)
    mean = np.mean([image.mean for image in readable] or nothing, axis=0)
    mean_square = np.mean([image.mean_square for image in readable] or nothing, axis=0)
    return Survey(
        looked_at=np.asarray(indices, np.int64),
        shapes=np.array([image.shape for image in readable], np.int64).reshape(-1, 2),
        mean=mean,
        std=np.sqrt(np.maximum(mean_square - mean**2, 0)),
        stored=Counter(image.stored for image in seen if image.stored),
        special=Counter(word for image in seen for word in image.special),
        unreadable=[image.error for image in seen if image.error],
        digests={image.index: image.digest for image in readable},
    )


def file_digests(split: EncodedSplit, indices: Indices) -> dict[int, bytes]:
    """Returns digests of the encoded images, by index, without those that cannot be read."""

    def digest(i: int) -> bytes:
        try:
            return _digest(split.read(i))
        except UserError:
            return b""

    found = zip(indices.tolist(), _in_threads(digest, indices), strict=True)
    return {i: value for i, value in found if value}


def copies(digests: Mapping[str, Mapping[int, bytes]]) -> list[list[Place]]:
    """Returns the groups of equal images, in the order of their first ones.

    Args:
        digests: by split and index.
    """
    groups: dict[bytes, list[Place]] = {}
    for split, by_index in digests.items():
        for i, value in by_index.items():
            groups.setdefault(value, []).append((split, i))
    return [group for group in groups.values() if len(group) > 1]


def _in_threads(function: Callable[[int], T], indices: Indices) -> list[T]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(function, indices.tolist()))


def _look(split: Split, i: int) -> _Seen:
    stored, special = "", ()
    try:
        if isinstance(split, EncodedSplit):
            encoded = split.read(i)
            pixels = transforms.decode(encoded, split.channels, split.name(i))
            stored, special = _how_stored(encoded)
        else:
            pixels = split[i]
    except UserError as error:
        return _Seen(i, error=str(error))
    height, width, channels = pixels.shape
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    # Of 256 levels: as numbers, the pixels of a photograph would take hundreds of megabytes.
    shares = np.array(image.histogram()).reshape(channels, 256) / (height * width)
    levels = np.arange(256) / 255
    return _Seen(
        index=i,
        shape=(height, width),
        mean=shares @ levels,
        mean_square=shares @ levels**2,
        digest=_digest(f"{height}x{width}x{channels}:".encode() + pixels.tobytes()),
        stored=stored,
        special=special,
    )


def _how_stored(encoded: bytes) -> tuple[str, tuple[str, ...]]:
    """Returns the colours of an image file, and what else is unusual about it."""
    with transforms.opened(io.BytesIO(encoded)) as image:
        deep = image.mode.startswith("I") or any(";16" in str(tile) for tile in image.tile)
        turned = transforms.orientation(image.info.get("exif", b"")) != 1
        several = getattr(image, "n_frames", 1) > 1
        stored = "grey" if image.mode.startswith("I") else _MODES.get(image.mode, image.mode)
    words = {"turned by EXIF": turned, "16 bits a channel": deep, "several frames": several}
    return stored, tuple(word for word, applies in words.items() if applies)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
