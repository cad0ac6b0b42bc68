"""A picture of a data set: some images of each class, with the name of the class."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flaxzoo.data.dataset import Split
from flaxzoo.data.survey import spread
from flaxzoo.errors import UserError
from flaxzoo.picture import shorten, thumbnail

CLASSES, IMAGES = 24, 8  # at most: rows, and images in a row
TILE, GAP, LABEL = 96, 4, 160  # pixels


def draw(split: Split, classes: tuple[str, ...]) -> Image.Image:
    """Returns a picture with a row for each class, or for `CLASSES` of more, evenly spread.

    Images are evenly spread over those of the class; unreadable ones are left out.
    """
    rows = spread(len(classes), CLASSES)
    width, height = LABEL + IMAGES * (TILE + GAP), GAP + len(rows) * (TILE + GAP)
    picture = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for row, label in enumerate(rows.tolist()):
        top = GAP + row * (TILE + GAP)
        members = np.flatnonzero(split.labels == label)
        caption = f"{shorten(classes[label], 18)}\n{len(members):,} images"
        pen.multiline_text((2 * GAP, top + TILE // 3), caption, "black", font)
        for column, i in enumerate(members[spread(len(members), IMAGES)].tolist()):
            try:
                tile = thumbnail(split[i], TILE)
            except UserError:
                continue
            picture.paste(Image.fromarray(tile), (LABEL + column * (TILE + GAP), top))
    return picture
