"""`hf=NAME_OR_PATH`: Hugging Face datasets that are on disk, read without network.

As with TFDS, only what is there is opened: a folder that `save_to_disk` wrote, or what the library
keeps of a data set that it has loaded before. Asking the hub takes minutes without a network.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from flaxzoo.data import transforms
from flaxzoo.data.dataset import Dataset, EncodedSplit, Indices
from flaxzoo.data.options import SPLITS, split_columns
from flaxzoo.errors import UserError, unknown


class HubSplit(EncodedSplit):
    """Images in a column of a table, decoded on access; a table on disk is cheap to pickle."""

    def __init__(
        self,
        table: Any,
        column: str,
        indices: Int64[np.ndarray, " n"],
        labels: Int32[np.ndarray, " n"],
        channels: int,
        source: str,
    ):
        """Args:
        table: a `datasets.Dataset` that leaves its images encoded.
        source: what a message calls it.
        """
        self.table, self.column, self.source = table, column, source
        self.indices, self.labels, self.channels = indices, labels, channels

    def read(self, i: int) -> bytes:
        try:
            image = self.table[int(self.indices[i])][self.column]
            return image["bytes"] or Path(image["path"]).read_bytes()
        except Exception as error:  # pyarrow's own kinds, or no image
            raise transforms.unreadable(self.name(i), error) from error

    def name(self, i: int) -> str:
        return f"{self.source}[{self.indices[i]}]"

    def subset(self, indices: Indices) -> "HubSplit":
        rows, labels = self.indices[indices], self.labels[indices]
        return HubSplit(self.table, self.column, rows, labels, self.channels, self.source)


def load_hf(value: str) -> Dataset:
    """Loads NAME[:CONFIG] or PATH, followed by ,image=COLUMN or ,label=COLUMN if it has several.

    The column of images is of the library's feature Image, that of labels of ClassLabel, which has
    the names of the classes. Splits without labels are left out. Images are delivered as RGB, of
    any size; as luminance if the feature says so.

    Raises:
        UserError: the library or the data set is not there, or it is no image classification.
    """
    value, chosen = split_columns(value)
    splits = _open(value)
    if "train" not in splits:
        raise UserError(f"{value} has no split 'train'; it has {', '.join(splits)}")
    features = splits["train"].features
    image = _column(value, features, "image", "Image", chosen)
    label = _column(value, features, "label", "ClassLabel", chosen)
    channels = 1 if getattr(features[image], "mode", None) == "L" else 3
    parts = {}
    for part, names in SPLITS.items():
        for name in [name for name in names if name in splits][:1]:
            labels = _labels(splits[name], label)
            if (labels >= 0).any() or part == "train":  # -1: an unlabelled test set
                table = splits[name].select_columns([image])
                table = table.cast_column(image, _datasets().Image(decode=False))
                rows = np.arange(len(labels))
                source = f"{value} {name}"
                parts[part] = HubSplit(table, image, rows, labels, channels, source)
    name = os.path.basename(os.path.normpath(value))
    return Dataset(name, tuple(features[label].names), channels, **parts)


def _labels(table: Any, column: str) -> Int32[np.ndarray, " n"]:
    found = table[column][:]
    return np.array([-1 if label is None else label for label in found], np.int32)


def _column(value: str, features: Any, kind: str, feature: str, chosen: dict[str, str]) -> str:
    """Returns the column of a feature: the chosen one, the only one, or the one that is named so.

    Raises:
        UserError: there is none, or it is ambiguous.
    """
    found = [key for key, of in features.items() if isinstance(of, getattr(_datasets(), feature))]
    if kind in chosen:
        if chosen[kind] not in found:
            raise unknown(f"{feature} column of {value}:", chosen[kind], found)
        return chosen[kind]
    if not found:
        columns = ", ".join(f"{key}: {type(of).__name__}" for key, of in features.items())
        advice = ", which class_encode_column makes of others" if kind == "label" else ""
        raise UserError(f"{value} has no column of {feature}{advice}; it has {columns}")
    if len(found) > 1 and kind not in found:
        raise UserError(
            f"{value} has {len(found)} columns of {feature}; say which: "
            + " or ".join(f"hf={value},{kind}={column}" for column in found)
        )
    return kind if kind in found else found[0]


def _open(value: str) -> dict[str, Any]:
    """Returns the splits by name."""
    datasets, path = _datasets(), os.path.expanduser(value)
    if os.path.isdir(path):
        try:
            found = datasets.load_from_disk(path)
        except Exception as error:
            raise UserError(
                f"cannot read {value} as what save_to_disk of Hugging Face's datasets wrote: "
                f"{error}; for a folder of images, use folder={value}"
            ) from error
    else:
        name, _, config = value.partition(":")
        try:
            with _offline(datasets):
                found = datasets.load_dataset(name, config or None)
        except Exception as error:
            load = ", ".join(repr(part) for part in (name, config) if part)
            raise UserError(
                f"cannot load {value} from what Hugging Face's library keeps on disk "
                f"({_first_line(error)}); get it where there is a network: "
                f'python -c "import datasets; datasets.load_dataset({load})"'
            ) from error
    return {"train": found} if isinstance(found, datasets.Dataset) else dict(found)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """Has the library look on its disk alone; it reads the environment when it is imported only."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _datasets() -> Any:
    try:
        return importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        raise UserError(
            f"hf= needs the package {error.name}, which flaxzoo does not install; pip install "
            "datasets"
        ) from error
