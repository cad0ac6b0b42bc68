"""`flaxzoo data SPEC` looks at a data set; `flaxzoo data prepare NAME` gets one."""

from collections.abc import Sequence
from pathlib import Path

from flaxzoo.commands import common
from flaxzoo.data import archives, load, originals
from flaxzoo.data.look import SAMPLE, look
from flaxzoo.data.options import Options
from flaxzoo.data.prepare import prepare
from flaxzoo.picture import check_ending


def run(arguments: Sequence[str]) -> None:
    """Looks at a data set, or prepares one."""
    if arguments[:1] == ["prepare"]:
        _prepare(arguments[1:])
    else:
        _look(arguments)


def _look(arguments: Sequence[str]) -> None:
    parser = common.parser(
        "data",
        "Prints splits, classes, sizes and pixel statistics of a data set, warns of what looks "
        "wrong, and draws some images of each class. `flaxzoo data prepare NAME` gets a set.",
        ["digits", "folder=photos --all --output photos.png", "prepare oxford_flowers102"],
    )
    parser.add_argument("spec", metavar="SPEC", help="as in configs: digits, folder=PATH, ...")
    parser.add_argument("--data_dir", metavar="DIR", help="where archives and prepared sets lie")
    parser.add_argument("--output", default="data.png", metavar="FILE.png", help="the picture")
    parser.add_argument(
        "--all", action="store_true", help=f"decode every image, not {SAMPLE:,} of each split"
    )
    parsed = parser.parse_args(arguments)
    check_ending(parsed.output)
    dataset = load(parsed.spec, data_dir=parsed.data_dir, validation=0)
    look(dataset, Path(parsed.output), decode_all=parsed.all)


def _prepare(arguments: Sequence[str]) -> None:
    parser = common.parser(
        "data prepare",
        "Downloads, verifies and unpacks a data set, or has TensorFlow Datasets prepare it. What "
        "is prepared needs no network any more.",
        ["cifar10", "imagenet2012 --data_dir /data"],
    )
    parser.add_argument(
        "name", help=f"{', '.join([*archives.REMOTES, *originals.ORIGINALS])}, or a name of TFDS"
    )
    parser.add_argument(
        "--data_dir", metavar="DIR",
        help="where to (default: $FLAXZOO_DATA or ~/.cache/flaxzoo/data; for a set that TFDS "
        "prepares, $TFDS_DATA_DIR or ~/tensorflow_datasets)",
    )  # fmt: skip
    parsed = parser.parse_args(arguments)
    print(prepare(parsed.name, Options(Path(parsed.data_dir) if parsed.data_dir else None)))
