"""`python -m flaxzoo augmentations`: a picture of what each augmentation does."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from flaxzoo import data, picture
from flaxzoo.augment import augment, erase, mix, normalize
from flaxzoo.config import POLICIES, AugmentConfig
from flaxzoo.data.transforms import center_crop, decode

Pixels = UInt8[np.ndarray, "h w c"]

ROWS: dict[str, AugmentConfig] = {
    "flip": AugmentConfig(flip=True),
    "vertical flip": AugmentConfig(vertical_flip=True),
    "crop": AugmentConfig(crop_scale=(0.08, 1.0)),
    "brightness 0.8": AugmentConfig(brightness=0.8),
    "contrast 0.8": AugmentConfig(contrast=0.8),
    "saturation 0.8": AugmentConfig(saturation=0.8),
    "hue 0.5": AugmentConfig(hue=0.5),
    **{policy.replace("_", "\n"): AugmentConfig(policy=policy) for policy in POLICIES},
    "mixup 1": AugmentConfig(mixup=1.0, mix_mode="elem"),
    "cutmix 1": AugmentConfig(cutmix=1.0, mix_mode="elem"),
    "mixup, cutmix\n(switch)": AugmentConfig(mixup=0.8, cutmix=1.0, mix_mode="elem"),
    "erase": AugmentConfig(erase=0.8),
    "erase\n(random)": AugmentConfig(erase=0.8, erase_value="random"),
}
COLUMNS = 8  # random results a row
PHOTOGRAPH = 128  # pixels that photographs are drawn with
TILE, MARGIN, LABEL = 96, 4, 128  # pixels of the picture


def write_grid(images: Sequence[Pixels], path: Path, seed: int = 0) -> None:
    """Draws a row an augmentation: the first image as it is, then random results.

    Args:
        images: of one shape; those after the first are its partners where images are mixed, or its
            mirror image where there is none.
        path: of the picture, in a format that its ending names.

    Raises:
        UserError: the path has no ending of a picture, or cannot be written.
    """
    size = images[0].shape[0]
    rows = {"shift": AugmentConfig(shift=max(1, size // 8))} | ROWS
    height = (TILE + MARGIN) * len(rows) + MARGIN
    canvas = Image.new("RGB", (LABEL + (TILE + MARGIN) * (COLUMNS + 1), height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for row, (name, config) in enumerate(rows.items()):
        top = MARGIN + row * (TILE + MARGIN)
        draw.multiline_text((MARGIN, top + TILE // 3), name, "black", font)
        for column, pixels in enumerate([images[0], *results(images, config, seed)]):
            tile = Image.fromarray(picture.thumbnail(pixels, TILE))
            canvas.paste(tile, (LABEL + column * (TILE + MARGIN), top))
    picture.write(canvas, path)


def results(images: Sequence[Pixels], config: AugmentConfig, seed: int) -> UInt8[np.ndarray, "..."]:
    """Returns COLUMNS random results for the first image, as a train step makes them."""
    partners = images[1:] or [images[0][:, ::-1]]
    batch = jnp.asarray(
        [pixels for i in range(COLUMNS) for pixels in (images[0], partners[i % len(partners)])]
    )
    key = jax.random.key(seed)
    keys = jax.random.split(key, len(batch))

    def step(batch):
        pixels = normalize(augment(batch, keys, config), (0.5,), (0.5,))
        pixels, _ = mix(pixels, jnp.zeros((len(batch), 1)), keys, key, config)
        pixels = erase(pixels, keys, config)
        return jnp.clip(jnp.round((pixels + 1) * 127.5), 0, 255).astype(jnp.uint8)

    return np.asarray(jax.jit(step)(batch)[::2])


def read_images(paths: Sequence[str]) -> list[Pixels]:
    """Reads photographs, cut to squares; the bundled digits if there are none."""
    if not paths:
        digits = data.load("digits").train
        return [digits[i] for i in range(4)]
    return [center_crop(decode(path), PHOTOGRAPH, PHOTOGRAPH) for path in paths]
