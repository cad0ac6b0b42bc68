"""Folders of images: ROOT/CLASS/*.jpg, or ROOT/{train,val,test}/CLASS/*.jpg."""

import os
from pathlib import Path

import numpy as np

from flaxzoo.data.dataset import Dataset, FileSplit
from flaxzoo.data.options import Options
from flaxzoo.errors import UserError, unknown

EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
SPLITS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}


def load_folder(value: str, options: Options) -> Dataset:
    """Lists a folder of images; none is opened before it is used.

    Classes are the names of the folders that hold them, sorted. Within a class, files are found at
    any depth, sorted by path. Hidden files, and files without an image's extension, are ignored.
    Images are delivered as RGB, of any size. A folder ROOT/val is the validation split.

    Raises:
        UserError: the folder is missing or empty, or a class in it is.
    """
    root = Path(value).expanduser()
    if not root.is_dir():
        raise UserError(
            f"{value} is {'not a folder' if root.exists() else 'no such folder'}; "
            "expected folder=PATH with one folder of images per class"
        )
    parts = _parts(root)
    classes = _folders(parts["train"])
    if not classes:
        raise UserError(f"{parts['train']} has no folders; expected one folder of images per class")
    splits = {name: _list_split(path, classes, name) for name, path in parts.items()}
    return Dataset(root.resolve().name, tuple(classes), 3, on_error=options.on_error, **splits)


def _parts(root: Path) -> dict[str, Path]:
    """Returns the folder of each split; the root itself is train if it has no folder `train`."""
    if not (root / "train").is_dir():
        return {"train": root}
    found = {}
    for split, names in SPLITS.items():
        paths = [root / name for name in names if (root / name).is_dir()]
        if len(paths) > 1:
            raise UserError(f"{root} has both {paths[0].name}/ and {paths[1].name}/; expected one")
        if paths:
            found[split] = paths[0]
    return found


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _list_split(path: Path, classes: list[str], split: str) -> FileSplit:
    files: list[str] = []
    counts = []
    for name in classes if split == "train" else _folders(path):
        if name not in classes:
            raise unknown(f"class in {path}, absent from train:", name, classes)
    for name in classes:
        found = sorted(_images(os.path.join(path, name), name))
        if not found and split == "train":
            raise UserError(
                f"class folder {path / name} has no images; expected files ending in "
                f"{', '.join(EXTENSIONS)}"
            )
        files += found
        counts.append(len(found))
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return FileSplit(files, labels, str(path))


def _images(path: str, relative: str) -> list[str]:
    """Returns the image files at any depth below `path`, as `relative`/..."""
    if not os.path.isdir(path):
        return []
    found = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                found += _images(entry.path, f"{relative}/{entry.name}")
            elif entry.name.lower().endswith(EXTENSIONS):
                found.append(f"{relative}/{entry.name}")
    return found
