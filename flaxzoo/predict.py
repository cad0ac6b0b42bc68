"""What a trained model takes image files for, in a list and on a contact sheet."""

import concurrent.futures
import glob
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from flaxzoo.augment import normalize
from flaxzoo.data.files import Folder
from flaxzoo.data.folder import images
from flaxzoo.data.transforms import decode
from flaxzoo.errors import UserError
from flaxzoo.evaluation import log_probabilities
from flaxzoo.picture import shorten, thumbnail
from flaxzoo.trained import Trained
from flaxzoo.training.state import split_model

COLUMNS, TILE, GAP, LINE, LINES = 6, 160, 12, 17, 3  # of the sheet: pixels, predictions a tile
SHEET = 120  # images on a sheet at most


@dataclass(frozen=True)
class Prediction:
    """What a model takes an image for, the likeliest class first.

    Attributes:
        path: of the image.
        indices: of the classes.
        classes: their names, or their numbers where nobody kept names.
        probabilities: theirs, among all classes.
    """

    path: Path
    indices: tuple[int, ...]
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def find_images(patterns: Sequence[str]) -> list[Path]:
    """Returns the files that paths, folders and shell patterns stand for, in their order.

    Of a folder that is every image at any depth, sorted by path. A path of a file is taken as it
    is, whatever it holds.

    Raises:
        UserError: nothing matches one of them.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            matched = [path / name for name in images(Folder(str(path)), "")]
        elif path.exists() or not glob.has_magic(pattern):
            matched = [path]
        else:
            matched = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
        if not matched:
            raise UserError(f"{pattern} has no images.")
        found += matched
    return found


def predict_files(
    trained: Trained, paths: Sequence[Path], *, top: int = 5, batch_size: int = 32
) -> tuple[list[Prediction], list[UserError]]:
    """Predicts the classes of image files, prepared as the model was evaluated.

    Args:
        top: how many classes of each; all, where the model has fewer.
        batch_size: images at once. The last batch is filled up, so that one program is compiled.

    Returns:
        One prediction for each image that can be read, in the order of `paths`, and what is wrong
        with each of the others.
    """
    model_def, params, batch_stats = split_model(trained.model)
    source, top = trained.config.data, min(top, trained.model.num_classes)

    @jax.jit
    def likeliest(params, batch_stats, pixels):
        model = model_def.bind(params, batch_stats)
        model.eval()
        log_p = log_probabilities(model, normalize(pixels, source.mean, source.std))
        values, indices = jax.lax.top_k(log_p, top)
        return jnp.exp(values), indices

    size = max(1, min(batch_size, len(paths)))
    predictions: list[Prediction] = []
    refused: list[UserError] = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), size):
            chunk = paths[start : start + size]
            pixels = list(pool.map(lambda path: _pixels(trained, path), chunk))
            refused += [error for error in pixels if isinstance(error, UserError)]
            read = [(p, x) for p, x in zip(chunk, pixels, strict=True) if isinstance(x, np.ndarray)]
            if not read:
                continue
            batch = np.zeros((size, *read[0][1].shape), np.uint8)
            batch[: len(read)] = [x for _, x in read]
            values, indices = jax.device_get(likeliest(params, batch_stats, batch))
            predictions += [
                _prediction(trained, path, at, p)
                for (path, _), at, p in zip(read, indices, values, strict=False)
            ]
    return predictions, refused


def _pixels(trained: Trained, path: Path) -> UInt8[np.ndarray, "s s c"] | UserError:
    """Returns the pixels that the model sees, or why there are none."""
    try:
        return trained.preparation(decode(path, trained.model.in_channels))
    except UserError as error:
        return error


def _prediction(trained: Trained, path: Path, at: np.ndarray, p: np.ndarray) -> Prediction:
    indices = tuple(at.tolist())
    names = tuple(map(trained.class_name, indices))
    return Prediction(path, indices, names, tuple(p.astype(float).tolist()))


def draw_sheet(predictions: Sequence[Prediction]) -> Image.Image:
    """Returns a picture of images with what each was taken for; of more than `SHEET`, the first."""
    shown = predictions[:SHEET]
    columns = max(1, min(COLUMNS, len(shown)))
    width, height = TILE + GAP, TILE + LINES * LINE + 2 * GAP
    size = (columns * width + GAP, math.ceil(len(shown) / columns) * height + GAP)
    picture = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for i, prediction in enumerate(shown):
        left, top = GAP + i % columns * width, GAP + i // columns * height
        tile = Image.fromarray(thumbnail(decode(prediction.path), TILE))
        picture.paste(tile, (left, top))
        lines = itertools.islice(
            zip(prediction.classes, prediction.probabilities, strict=True), LINES
        )
        for row, (name, p) in enumerate(lines):
            y = top + TILE + 4 + row * LINE
            # As long as the class is likely, behind its name.
            pen.rectangle((left, y, left + round(p * (TILE - 1)), y + LINE - 3), "#cfe3f7")
            pen.text((left + 3, y - 1), shorten(name, 17), "black" if row == 0 else "#555", font)
            pen.text((left + TILE - 3, y - 1), f"{p:.0%}", "#333", font, anchor="ra")
    return picture
