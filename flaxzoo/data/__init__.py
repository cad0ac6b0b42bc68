"""Data sets by name: `load("digits")`, `load("folder=PATH")`, `load("npz=PATH")`, ...

>>> from flaxzoo import data
>>> digits = data.load("digits")
>>> digits.num_classes, digits.train[0].shape
(10, (8, 8, 1))
"""

import functools
import os
from collections.abc import Callable

from flaxzoo.arguments import flag, integer, one_of, path, text
from flaxzoo.data import archives, arrays, folder, hub, labels_csv, originals, tfds
from flaxzoo.data.dataset import ArraySplit, Dataset, EncodedSplit, FileSplit, Split
from flaxzoo.data.options import Options
from flaxzoo.data.validation import check, hold_out
from flaxzoo.errors import UserError, shown, unknown

__all__ = [
    "KINDS",
    "SOURCES",
    "ArraySplit",
    "Dataset",
    "EncodedSplit",
    "FileSplit",
    "Split",
    "load",
]


def load(
    spec: str | object,
    *,
    data_dir: str | os.PathLike | object | None = None,
    validation: float | int | object = 0.1,
    seed: int | object = 0,
    download: bool | object = True,
    on_error: str | object = "raise",
) -> Dataset:
    """Loads and checks a data set.

    Args:
        spec: a name in `SOURCES`, or a kind in `KINDS` with its value: "folder=PATH".
        data_dir: where archives are looked for and downloaded to (default: $FLAXZOO_DATA, or
            ~/.cache/flaxzoo/data) and prepared; TFDS's data directory (default: its own); or where
            the images are that a csv file names (default: its folder).
        validation: the fraction of the training images, of each class alike, that is held out as
            `Dataset.validation`. With 0 there is no validation split, and nothing to select a
            checkpoint by. Unused where the source has a validation split of its own.
        seed: of the choice of the held-out images.
        download: False: a missing archive is an error at once.
        on_error: of a record without which not even a label is known, in a set of TFDS: "raise", or
            "skip", which reports it in the log and leaves it out.

    Raises:
        UserError: the name is unknown, or the files are missing, unreadable or inconsistent.
    """
    spec = text("a data set", spec, "named by a string, like 'digits' or 'folder=PATH'")
    validation = _fraction(validation)
    seed = integer("seed", seed, 0)
    options = Options(
        None if data_dir is None else path("data_dir", data_dir),
        flag("download", download),
        one_of("on_error", on_error, ("raise", "skip")),
    )
    dataset = _source(spec)(options)
    check(dataset)
    if dataset.validation is None and validation:
        dataset = hold_out(dataset, validation, seed)
    return dataset


def _fraction(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
        return float(value)
    raise UserError(
        f"validation is a fraction of the training images; expected 0 <= fraction < 1, got "
        f"{shown(value)}"
    )


SOURCES: dict[str, Callable[[Options], Dataset]] = {
    "digits": lambda _: arrays.load_digits(),
    "mnist": lambda options: archives.load_idx("mnist", options),
    "fashion_mnist": lambda options: archives.load_idx("fashion_mnist", options),
    "cifar10": lambda options: archives.load_cifar("cifar10", options),
    "cifar100": lambda options: archives.load_cifar("cifar100", options),
    **{name: functools.partial(tfds.load_original, name) for name in originals.ORIGINALS},
}

KINDS: dict[str, Callable[[str, Options], Dataset]] = {
    "folder": lambda value, _: folder.load_folder(value),
    "csv": labels_csv.load_csv,
    "npz": lambda value, _: arrays.load_npz(value),
    "hf": lambda value, _: hub.load_hf(value),
    "tfds": tfds.load_tfds,
}


def _source(spec: str) -> Callable[[Options], Dataset]:
    kind, equals, value = spec.partition("=")
    if equals and kind in KINDS and value:
        return lambda options: KINDS[kind](value, options)
    if spec in SOURCES:
        return SOURCES[spec]
    if not equals and os.path.isdir(os.path.expanduser(spec)):
        raise UserError(f"data set {spec!r} is a folder; expected folder={spec}")
    if not equals and os.path.isfile(os.path.expanduser(spec)):
        kind = {".npz": "npz", ".csv": "csv"}.get(os.path.splitext(spec)[1].lower(), "folder")
        raise UserError(f"data set {spec!r} is a file; expected {kind}={spec}")
    if equals and kind not in KINDS:
        raise unknown("kind of data set", f"{kind}=", [f"{kind}=" for kind in KINDS])
    forms = [f"{kind}={'NAME' if kind in ('hf', 'tfds') else 'PATH'}" for kind in KINDS]
    raise unknown("data set", spec, [*SOURCES, *forms])
