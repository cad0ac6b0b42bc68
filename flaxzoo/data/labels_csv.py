"""`csv=PATH`: a table of images and labels, as Kaggle's competitions have it, images beside it."""

import csv
import io
import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flaxzoo.arguments import nearby
from flaxzoo.data.dataset import Dataset, FileSplit
from flaxzoo.data.files import Files, open_files
from flaxzoo.data.folder import images
from flaxzoo.data.options import COLUMNS, SPLITS, Options, split_columns
from flaxzoo.errors import UserError, unknown

# Names of columns, in lower case with "_" for what is no letter. Of several, those before the bar
# are meant: a table with a file's name has its id as well.
IMAGE_NAMES = (
    "image images img filename filenames file_name file files filepath filepaths file_path path "
    "paths image_path img_path image_name img_name image_file | image_id img_id imageid id name"
)
LABEL_NAMES = (
    "label labels class classes class_name classname category target y label_name "
    "| class_id label_id category_id class_index class_idx label_idx"
)
SPLIT_NAMES = "split set subset dataset data_set"
Table = dict[str, list[str]]  # the fields of each column


def load_csv(value: str, options: Options) -> Dataset:
    """Loads PATH[,image=COLUMN][,label=COLUMN]: a csv file with a header, or the only one in PATH.

    Images are found below `data_dir`, a folder, zip or tar, by default the folder of the csv file,
    by the end of their path; the extension may be missing in the table. A column that is named
    split, and says train, val or test, splits the images. Classes are the labels, sorted; whole
    numbers by their value. Images are delivered as RGB, of any size.

    Raises:
        UserError: the file is missing or damaged, its columns are ambiguous, a label is missing, or
            images are not found or found twice.
    """
    value, chosen = split_columns(value)
    path = _find(Path(os.path.expanduser(value)))
    table = _read(path)
    columns = _columns(path, list(table), chosen)
    names, labels = table[columns["image"]], table[columns["label"]]
    _check(path, names, labels, columns["label"])
    files = open_files(str((options.data_dir or path.parent).expanduser()))
    classes = sorted(set(labels), key=_by_value)
    index = {name: i for i, name in enumerate(classes)}
    numbers = np.array([index[label] for label in labels], np.int32)
    split = FileSplit(_locate(path, names, files), numbers, files)
    parts = {part: split.subset(rows) for part, rows in _parts(path, table).items()}
    return Dataset(path.name, tuple(classes), 3, **parts)


def _by_value(label: str) -> tuple[int, str]:
    # No number has as many digits as Python refuses to convert.
    return int(label) if label.isdecimal() and len(label) < 1000 else -1, label


def _find(path: Path) -> Path:
    """Returns `path`, or the csv file in that folder."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.csv"))
    if len(found) != 1:
        raise UserError(
            f"{path} has {len(found)} csv files; expected "
            + (" or ".join(f"csv={file}" for file in found) or "csv=PATH of a file")
        )
    return found[0]


def _read(path: Path) -> Table:
    try:
        text = path.read_text("utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row
        ]
    except FileNotFoundError:
        raise UserError(f"no such file: {path}{nearby(path)}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"cannot read {path} as csv in UTF-8: {error}") from error
    if len(rows) < 2:
        raise UserError(f"{path} is empty; expected a header, then an image and its label a row")
    header = [name.strip() for name in rows[0]]
    if len(set(header)) < len(header):
        raise UserError(f"{path} has two columns of one name in its header: {', '.join(header)}")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise UserError(
                f"row {number} of {path} has {len(row)} fields; expected {len(header)}, as in its "
                f"header: {', '.join(header)}"
            )
    columns = zip(*rows[1:], strict=True)
    return {name: list(map(str.strip, c)) for name, c in zip(header, columns, strict=True)}


def _columns(path: Path, header: list[str], chosen: dict[str, str]) -> dict[str, str]:
    """Returns which column is "image" and which is "label"."""
    for column in chosen.values():
        if column not in header:
            raise unknown(f"column of {path}:", column, header)
    columns = dict(chosen)
    named = {}
    for kind, known in (("image", IMAGE_NAMES), ("label", LABEL_NAMES)):
        named[kind] = _named([name for name in header if name not in columns.values()], known)
        if kind not in columns and len(named[kind]) == 1:
            columns[kind] = named[kind][0]
    taken = {*columns.values(), *_named(header, SPLIT_NAMES)}
    rest = [name for name in header if name not in taken]
    if len(columns) == len(rest) == 1:  # what is known tells what the other column is
        columns[({*COLUMNS} - {*columns}).pop()] = rest[0]
    for kind in COLUMNS:
        if kind not in columns:
            raise UserError(
                f"{path} has {' and '.join(named[kind]) or 'no column known'} for the {kind}s; say "
                f"which with csv={path},{kind}=COLUMN, of its first row: {', '.join(header)}"
            )
    return columns


def _named(header: list[str], known: str) -> list[str]:
    """Returns the columns that have a known name, one of the first group that there is."""
    for names in known.split("|"):
        if found := [c for c in header if re.sub(r"\W", "_", c.lower()) in names.split()]:
            return found
    return []


def _check(path: Path, names: list[str], labels: list[str], column: str) -> None:
    """Raises UserError unless there is a label for each image, and one of a class."""
    seen: dict[str, str] = {}
    for row, (name, label) in enumerate(zip(names, labels, strict=True), start=2):
        if not name or not label:
            raise UserError(f"row {row} of {path} has no {'label' if name else 'image'}")
        if seen.setdefault(name, label) != label:
            raise UserError(
                f"{path} gives {name} the labels {seen[name]} and {label}; expected one an image"
            )
    if len(set(labels)) == len(labels):
        raise UserError(
            f"column {column} of {path} is another in every row; expected classes, with several "
            f"images each (or say which it is with csv={path},label=COLUMN)"
        )


def _parts(path: Path, table: Table) -> dict[str, np.ndarray]:
    """Returns the rows of each split."""
    split_of = {name: split for split, names in SPLITS.items() for name in names}
    for column in _named(list(table), SPLIT_NAMES):
        values = [value.lower() for value in table[column]]
        if not split_of.keys() & set(values):
            continue  # something else, such as the set that the images came from
        for value in sorted(set(values) - split_of.keys()):
            raise unknown(f"split in column {column} of {path}:", value, split_of)
        splits = np.array([split_of[value] for value in values])
        if "train" not in splits:
            raise UserError(f"column {column} of {path} has no row to train on")
        return {split: np.flatnonzero(splits == split) for split in SPLITS if split in splits}
    return {"train": np.arange(len(next(iter(table.values()))))}


def _locate(table: Path, wanted: Sequence[str], files: Files) -> list[str]:
    """Returns the path in `files` of each image that the table names: the one that ends so.

    Where several do, one folder must have all images of the table: its own, or else the only one.
    """
    by_name: dict[str, list[str]] = {}
    for path in images(files, ""):
        name = posixpath.basename(path)
        for key in (name, posixpath.splitext(name)[0]):
            by_name.setdefault(key, []).append(path)
    found = [_ending_in(_relative(name, files.root), by_name) for name in wanted]
    missing = [name for name, pairs in zip(wanted, found, strict=True) if not pairs]
    if missing:
        raise UserError(
            f"{len(missing):,} of the {len(wanted):,} images in {table} are not below {files.root},"
            f" such as {missing[0]}; expected data_dir to be the folder, zip or tar with the images"
        )
    if any(len(pairs) > 1 for pairs in found):
        common = set.intersection(*({folder for folder, _ in pairs} for pairs in found))
        common = {""} & common or common
        found = [[(f, path) for f, path in pairs if f in common] or pairs for pairs in found]
    for name, pairs in zip(wanted, found, strict=True):
        if len(pairs) > 1:
            raise UserError(
                f"{files.root} has several files for {name} in {table}: "
                f"{', '.join(path for _, path in pairs[:5])}; expected data_dir to be the folder "
                "with the images"
            )
    return [path for ((_, path),) in found]


def _relative(name: str, root: str) -> str:
    """Returns a path in a table as it is below `root`, or the end of one that leads elsewhere."""
    root, name = os.path.join(os.path.abspath(root), ""), name.replace("\\", "/")
    path = posixpath.normpath(root + name if name[:1] != "/" else name)
    if path.startswith(root):
        return path.removeprefix(root)
    return re.sub(r"^(\.\./|/)+", "", posixpath.normpath(name))


def _ending_in(name: str, by_name: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Returns (what comes before, path) of the paths that end in `name`, with or without one more
    extension; those without first."""
    paths = by_name.get(posixpath.basename(name), [])
    for ends in (paths, [posixpath.splitext(path)[0] for path in paths]):
        pairs = zip(ends, paths, strict=True)
        found = [(e.removesuffix(name), p) for e, p in pairs if f"/{e}".endswith(f"/{name}")]
        if found:
            return found
    return []
