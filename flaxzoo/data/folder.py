"""Folders of images, also in a zip or tar: ROOT/CLASS/*.jpg, or ROOT/{train,val,test}/CLASS/*.jpg.

ImageNet's validation images, which lie in one folder, get their labels from `imagenet_labels`.
"""

import os

import numpy as np

from flaxzoo.data.dataset import Dataset, FileSplit
from flaxzoo.data.files import Files, open_files
from flaxzoo.data.imagenet_labels import validation_labels
from flaxzoo.data.options import SPLITS
from flaxzoo.errors import UserError, unknown

EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
)  # fmt: skip
_NAMES = {name for names in SPLITS.values() for name in names}


def load_folder(value: str) -> Dataset:
    """Lists a folder, zip or tar of images; no image is read before it is used.

    Classes are the names of the folders that hold them, sorted. Within a class, files are found at
    any depth, sorted by path. Hidden files, and files without an image's extension, are ignored.
    Links are followed, except to a folder that holds the link. Images are delivered as RGB, of any
    size. A folder ROOT/val is the validation split (`options.SPLITS` has the names). Images in
    ROOT/test without folders of classes have no labels, and are left out. Where all is in one
    folder, that is ROOT.

    Raises:
        UserError: the folder is missing or empty, or a class in it is; or one cannot be listed.
    """
    root = os.path.expanduser(value)
    files = open_files(root)
    parts = _parts(files, _top(files))
    classes = _folders(files, parts["train"])
    if not classes:
        raise UserError(
            f"{os.path.join(root, parts['train'])} has no folders; expected one folder of images "
            "per class, or labels in a file: csv=PATH"
        )
    splits = {name: _list_split(files, at, classes, name) for name, at in parts.items()}
    return Dataset(os.path.basename(os.path.realpath(root)), tuple(classes), 3, **splits)


def images(files: Files, at: str) -> list[str]:
    """Returns the paths of the image files at any depth below folder `at`, sorted."""
    return sorted(_images(files, at))


def _images(files: Files, at: str) -> list[str]:
    found = []
    for name in files.entries(at):
        if name.endswith("/"):
            found += _images(files, at + name)
        elif name.lower().endswith(EXTENSIONS):
            found.append(at + name)
    return found


def _folders(files: Files, at: str) -> list[str]:
    return sorted(name[:-1] for name in files.entries(at) if name.endswith("/"))


def _top(files: Files) -> str:
    """Returns the folder of the splits or the classes: the first that is not alone there."""
    at = ""
    while True:
        found = _folders(files, at)
        if "Data" in found and "CLS-LOC" in _folders(files, f"{at}Data/"):
            return f"{at}Data/CLS-LOC/"  # ImageNet as Kaggle has it
        if len(found) != 1 or found[0] in _NAMES or not _folders(files, f"{at}{found[0]}/"):
            return at
        at = f"{at}{found[0]}/"


def _parts(files: Files, at: str) -> dict[str, str]:
    """Returns the folder of each split; `at` itself is train if it has no folder of that name."""
    present = _folders(files, at)
    if not set(SPLITS["train"]) & set(present):
        return {"train": at}
    found = {}
    for split, names in SPLITS.items():
        folders = [name for name in names if name in present]
        if len(folders) > 1:
            where = os.path.join(files.root, at)
            raise UserError(f"{where} has both {folders[0]}/ and {folders[1]}/; expected one")
        if folders and (split != "test" or _folders(files, f"{at}{folders[0]}/")):
            found[split] = f"{at}{folders[0]}/"
    return found


def _list_split(files: Files, at: str, classes: list[str], split: str) -> FileSplit:
    where = os.path.join(files.root, at)
    present = set(_folders(files, at))
    if not present:
        return _flat_split(files, at, classes)
    for name in sorted(present - set(classes)):
        raise unknown(f"class in {where}, absent from train:", name, classes)
    paths, counts = [], []
    for name in classes:
        found = images(files, f"{at}{name}/") if name in present else []
        if not found and split == "train":
            raise UserError(
                f"class folder {where}{name} has no images; expected files ending in "
                f"{', '.join(EXTENSIONS)}"
            )
        paths += found
        counts.append(len(found))
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return FileSplit(paths, labels, files)


def _flat_split(files: Files, at: str, classes: list[str]) -> FileSplit:
    """Returns the split of images in one folder, if they are ImageNet's."""
    where, by_name = os.path.join(files.root, at), validation_labels(files, at)
    if by_name is None:
        raise UserError(
            f"{where} has no folders; expected one folder of images per class, or with ImageNet's "
            "images, LOC_val_solution.csv or the development kit beside it"
        )
    paths, labels = images(files, at), []
    index = {name: i for i, name in enumerate(classes)}
    for path in paths:
        name = os.path.splitext(os.path.basename(path))[0]
        if name not in by_name:
            raise UserError(f"no label of {os.path.join(files.root, path)} in ImageNet's list")
        if by_name[name] not in index:
            raise unknown(f"class in {where}, absent from train:", by_name[name], classes)
        labels.append(index[by_name[name]])
    return FileSplit(paths, np.array(labels, np.int32), files)
