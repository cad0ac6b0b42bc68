"""`flaxzoo augmentations`: a picture of each augmentation."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flaxzoo.augment.grid import read_images, write_grid
from flaxzoo.cli import prepare_jax
from flaxzoo.commands import common
from flaxzoo.picture import check_ending


def run(arguments: Sequence[str]) -> None:
    """Draws what each augmentation makes of an image."""
    parser = common.parser(
        "augmentations",
        "Writes a picture with a row an augmentation: the first image, and what random numbers "
        "make of it. The other images are what it is mixed with.",
        ["", "--image cat.jpg dog.jpg --out cat.png"],
    )
    parser.add_argument(
        "--image", nargs="+", default=[], metavar="FILE", help="default: the bundled digits"
    )
    parser.add_argument("--out", default="augmentations.png", metavar="FILE")
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args(arguments)
    check_ending(parsed.out)
    prepare_jax()
    write_grid(read_images(parsed.image), Path(parsed.out), parsed.seed)
    Console(soft_wrap=True).print(f"wrote {parsed.out}")
