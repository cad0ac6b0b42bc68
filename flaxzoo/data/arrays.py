"""Data sets in memory: `.npz` files in Keras's or MedMNIST's form, and the bundled digits."""

import os
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from flaxzoo.arguments import nearby
from flaxzoo.data.dataset import ArraySplit, Dataset
from flaxzoo.errors import UserError
from flaxzoo.zip_files import open_npz

# What images and labels of a part are called, and which part each split is.
FORMS = {
    ("x_{}", "y_{}"): {"train": "train", "test": "test"},  # Keras
    ("{}_images", "{}_labels"): {"train": "train", "validation": "val", "test": "test"},  # MedMNIST
}


def load_digits() -> Dataset:
    """Loads the bundled UCI optical digits: 1,437 training and 360 test images, 8x8, grey."""
    return _dataset("digits", Path(__file__).with_name("digits.npz"))


def load_npz(value: str) -> Dataset:
    """Loads a `.npz` file with x_train, y_train, x_test, y_test; the last two may both be absent.

    Or with train_images, train_labels and the same of val and test. Images are uint8 [n, h, w],
    [n, h, w, 1] or [n, h, w, 3], of one size in all splits; where h and w differ, they are resized
    to a square. Labels are whole numbers from 0, [n] or [n, 1]. There are as many classes as the
    largest training label says.

    Raises:
        UserError: the file is unreadable, a key is missing, or an array is of another kind.
    """
    return _dataset(os.path.basename(value), Path(os.path.expanduser(value)))


def _dataset(name: str, path: Path) -> Dataset:
    arrays, form = _read(path)
    x, y = form
    splits = {
        split: as_split(arrays[x.format(part)], arrays[y.format(part)], part, str(path), form)
        for split, part in FORMS[form].items()
        if x.format(part) in arrays
    }
    count = _count_classes(splits["train"].labels, f"{y.format('train')} of {path}")
    return Dataset(name, tuple(map(str, range(count))), splits["train"].channels, **splits)


def _count_classes(labels: Int32[np.ndarray, " n"], where: str) -> int:
    """Returns one more than the largest label.

    Raises:
        UserError: a label is negative, or so large that some class must lack a training image; one
            wrong label would make billions of classes.
    """
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(labels):
        raise UserError(
            f"{where} has label {low if low < 0 else high}; expected 0 to {len(labels) - 1}, since "
            f"each class needs one of the {len(labels)} training images"
        )
    return high + 1


def _read(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, str]]:
    """Reads the arrays of a form; returns them and the form."""
    try:
        if not zipfile.is_zipfile(path) and path.exists():
            raise ValueError("it is no zip archive, or an incomplete one")
        with open_npz(path) as file:
            form = max(FORMS, key=lambda form: len({*file.files} & {*_keys(form)}))
            _check_keys(file.files, form, path)
            return {key: file[key] for key in _keys(form) if key in file.files}, form
    except FileNotFoundError:
        raise UserError(f"no such file: {path}{nearby(path)}") from None
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for damaged files
        raise UserError(f"cannot read {path} as .npz: {error}") from error


def _keys(form: tuple[str, str]) -> list[str]:
    return [name.format(part) for part in FORMS[form].values() for name in form]


def _check_keys(found: list[str], form: tuple[str, str], path: Path) -> None:
    expected = _keys(form)
    missing = [key for key in expected if key not in found]
    if set(found) == set(expected[:2]):
        return  # training images only; an absence beside other keys is more likely a misspelling
    if missing:
        raise UserError(
            f"{path} lacks {', '.join(missing)}; expected {', '.join(expected)}, "
            f"the file has {', '.join(found) or 'nothing'}"
        )


def as_split(
    images: np.ndarray,
    labels: np.ndarray,
    part: str,
    source: str,
    form: tuple[str, str] = ("x_{}", "y_{}"),
) -> ArraySplit:
    """Checks a pair of arrays and makes a split of them.

    Args:
        form: how images and labels of a part are called there.

    Raises:
        UserError: the arrays are not uint8 images and as many whole-number labels.
    """
    x, y = (name.format(part) for name in form)
    where = f"{x} of {source}"
    if images.dtype != np.uint8:
        raise UserError(f"{where} is {images.dtype}; expected uint8 pixels, 0 to 255")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise UserError(
            f"{where} has shape {list(images.shape)}; expected [n, h, w], [n, h, w, 1] or "
            "[n, h, w, 3], channels last"
        )
    labels = _whole_numbers(labels, f"{y} of {source}")
    if len(images) != len(labels):
        raise UserError(f"{source} has {len(images)} images in {x}, but {len(labels)} labels")
    if not len(images):
        raise UserError(f"{where} is empty")
    return ArraySplit(images, labels, f"{source} {x}")


def _whole_numbers(labels: np.ndarray, where: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{where} is {labels.dtype} {list(labels.shape)}; expected whole-number labels, one an "
            "image: [n] or [n, 1]"
        )
    if len(labels) and not -(2**31) <= int(labels.min()) <= int(labels.max()) < 2**31:
        raise UserError(f"{where} has a label beyond 32 bits; expected class numbers from 0")
    return labels.astype(np.int32)
