"""What pictures of images share: thumbnails, and being written or refused."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flaxzoo.arguments import check_output
from flaxzoo.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pdf")


def thumbnail(
    image: UInt8[np.ndarray, "h w c"], pixels: int
) -> UInt8[np.ndarray, "pixels pixels 3"]:
    """Returns the whole image in a grey square; small images keep sharp pixels."""
    height, width, channels = image.shape
    scale = pixels / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(image[..., 0] if channels == 1 else image).convert("RGB")
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    square = Image.new("RGB", (pixels, pixels), (235, 235, 235))
    square.paste(picture.resize(size, method), ((pixels - size[0]) // 2, (pixels - size[1]) // 2))
    return np.asarray(square)


def check_ending(path: str | Path) -> None:
    """Refuses a file that no picture can be written to, before anything is drawn.

    Raises:
        UserError: it has no ending of a picture, or there is no such folder.
    """
    endings = {end for end, kind in Image.registered_extensions().items() if kind in Image.SAVE}
    check_output(str(path), endings & set(ENDINGS))


def write(picture: Image.Image, path: Path) -> None:
    """Writes a picture in the format that the ending of `path` names.

    Raises:
        UserError: the path has no ending of a picture, or cannot be written.
    """
    try:
        picture.save(path)
    except (OSError, ValueError) as error:  # ValueError: an ending that Pillow does not know
        raise UserError(f"cannot write {path}: {error}") from None


def shorten(text: str, length: int) -> str:
    """Returns `text`, cut to so many characters.

    >>> shorten("golden retriever", 10)
    'golden re…'
    """
    return text if len(text) <= length else f"{text[: length - 1]}…"
