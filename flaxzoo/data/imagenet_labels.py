"""Which class each of ImageNet's validation images is of, as the challenge of 2012 published it."""

import csv
import io
import os
import posixpath

from flaxzoo.data.files import Files, open_files
from flaxzoo.errors import UserError

KAGGLE = "LOC_val_solution.csv"
DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def validation_labels(files: Files, at: str) -> dict[str, str] | None:
    """Returns the WordNet id by the name of the image without ".JPEG".

    Looks into folder `at` and those above, up to four, for Kaggle's `LOC_val_solution.csv`, or for
    the development kit: unpacked, its two files alone (the other is `meta.mat`), or as it came.

    Returns:
        None if there is neither.

    Raises:
        UserError: a file is damaged.
    """
    for up in range(5):
        above = posixpath.join(posixpath.normpath(at + "../" * up), "").removeprefix("./")
        if (content := _read(files, above + KAGGLE)) is not None:
            return _of_kaggle(content, files, above)
        for folder in (above, f"{above}{DEVKIT}/data/", f"{above}data/"):
            if _read(files, folder + TRUTH) is not None:
                return devkit_labels(files, folder)
        packed = os.path.join(files.root, f"{above}{DEVKIT}.tar.gz")
        if os.path.isfile(packed):
            return devkit_labels(open_files(packed), f"{DEVKIT}/data/")
    return None


def devkit_labels(files: Files, at: str) -> dict[str, str]:
    """Reads the development kit's folder `at`, where line i is of image i and is a number of its
    own, and `meta.mat` says which WordNet id that is.

    Raises:
        UserError: a file is missing or damaged.
    """
    from scipy import io as scipy_io  # jax depends on it

    try:
        truth = files.read(at + TRUTH).split()
        meta = scipy_io.loadmat(io.BytesIO(files.read(at + "meta.mat")), squeeze_me=True)
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in meta["synsets"]}
        return {f"ILSVRC2012_val_{i:08}": wnids[int(n)] for i, n in enumerate(truth, start=1)}
    except Exception as error:  # SciPy raises many kinds for damaged files
        where = os.path.join(files.root, at)
        raise UserError(
            f"cannot read ImageNet's development kit in {where} ({type(error).__name__}: {error}); "
            f"expected {TRUTH} and meta.mat as they were published"
        ) from error


def _of_kaggle(content: bytes, files: Files, at: str) -> dict[str, str]:
    try:
        rows = csv.DictReader(io.StringIO(content.decode()))
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    except (ValueError, KeyError, IndexError, AttributeError, csv.Error) as error:
        raise UserError(
            f"cannot read {os.path.join(files.root, at)}{KAGGLE}; expected Kaggle's, with ImageId "
            "and PredictionString in its header"
        ) from error


def _read(files: Files, path: str) -> bytes | None:
    try:
        return files.read(path)
    except OSError:
        return None
