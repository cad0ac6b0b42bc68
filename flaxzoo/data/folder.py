"""Folders of images: ROOT/CLASS/*.jpg, or ROOT/{train,val,test}/CLASS/*.jpg."""

import errno
import os
from pathlib import Path

import numpy as np

from flaxzoo.data.dataset import Dataset, FileSplit
from flaxzoo.errors import UserError, unknown

EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
SPLITS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}


def load_folder(value: str) -> Dataset:
    """Lists a folder of images; none is opened before it is used.

    Classes are the names of the folders that hold them, sorted. Within a class, files are found at
    any depth, sorted by path. Hidden files, and files without an image's extension, are ignored.
    Links are followed, except to a folder that holds the link. Images are delivered as RGB, of any
    size. A folder ROOT/val is the validation split.

    Raises:
        UserError: the folder is missing or empty, or a class in it is; or one cannot be listed.
    """
    root = Path(os.path.expanduser(value))
    if not os.path.isdir(root):
        raise UserError(
            f"{value} is {'not a folder' if os.path.exists(root) else 'no such folder'}; "
            "expected folder=PATH with one folder of images per class"
        )
    parts = _parts(root)
    classes = _folders(parts["train"])
    if not classes:
        raise UserError(f"{parts['train']} has no folders; expected one folder of images per class")
    splits = {name: _list_split(path, classes, name) for name, path in parts.items()}
    return Dataset(root.resolve().name, tuple(classes), 3, **splits)


def _parts(root: Path) -> dict[str, Path]:
    """Returns the folder of each split; the root itself is train if it has no folder `train`."""
    if not os.path.isdir(root / "train"):
        return {"train": root}
    found = {}
    for split, names in SPLITS.items():
        paths = [root / name for name in names if os.path.isdir(root / name)]
        if len(paths) > 1:
            raise UserError(f"{root} has both {paths[0].name}/ and {paths[1].name}/; expected one")
        if paths:
            found[split] = paths[0]
    return found


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry, is_folder in _entries(path) if is_folder)


def _list_split(path: Path, classes: list[str], split: str) -> FileSplit:
    files: list[str] = []
    counts = []
    present = set(classes if split == "train" else _folders(path))
    for name in sorted(present - set(classes)):
        raise unknown(f"class in {path}, absent from train:", name, classes)
    above = (os.path.realpath(path),)
    for name in classes:
        found = sorted(_images(path / name, name, above)) if name in present else []
        if not found and split == "train":
            raise UserError(
                f"class folder {path / name} has no images; expected files ending in "
                f"{', '.join(EXTENSIONS)}"
            )
        files += found
        counts.append(len(found))
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return FileSplit(files, labels, str(path))


def _images(path: str | os.PathLike[str], relative: str, above: tuple[str, ...]) -> list[str]:
    """Returns the image files at any depth below `path`, as `relative`/...

    There are none if `path` leads back: to one of `above`, the real paths of the folders on the way
    here, or to a folder that holds one of them.
    """
    real = os.path.realpath(path)
    if any(os.path.join(folder, "").startswith(os.path.join(real, "")) for folder in above):
        return []
    found = []
    for entry, is_folder in _entries(path):
        if is_folder:
            found += _images(entry.path, f"{relative}/{entry.name}", (*above, real))
        elif entry.name.lower().endswith(EXTENSIONS):
            found.append(f"{relative}/{entry.name}")
    return found


def _entries(path: str | os.PathLike[str]) -> list[tuple[os.DirEntry[str], bool]]:
    """Returns what is in a folder and not hidden, each with whether it is a folder."""
    try:
        with os.scandir(path) as entries:
            return [(entry, _is_folder(entry)) for entry in entries if entry.name[0] != "."]
    except OSError as error:
        raise UserError(
            f"cannot list folder {error.filename or path}: {error.strerror}; "
            "expected a folder that this user may read"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself is as good as a dangling one
            return False
        raise
