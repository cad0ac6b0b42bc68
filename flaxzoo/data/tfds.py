"""TensorFlow Datasets' prepared sets, read as array_record without TensorFlow and without network.

Only sets that are on disk are opened: TFDS itself would try to download and prepare the others,
which needs TensorFlow, and takes minutes to notice that there is no network.
"""

import functools
import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from flaxzoo.data import transforms
from flaxzoo.data.archives import REMOTES
from flaxzoo.data.dataset import Dataset, EncodedSplit, Indices
from flaxzoo.data.options import Options, cache_dir
from flaxzoo.errors import UserError, unknown

_MANY = 10_000  # images; with more, labels are kept in a file of our own, since reading takes long


class TfdsSplit(EncodedSplit):
    """Images of a prepared set, read on access; each process opens the files itself."""

    def __init__(
        self,
        directory: str,
        split: str,
        indices: Int64[np.ndarray, " n"],
        labels: Int32[np.ndarray, " n"],
        channels: int,
    ):
        self.directory = directory
        self.split = split
        self.indices = indices
        self.labels = labels
        self.channels = channels

    def read(self, i: int) -> bytes:
        try:
            return _source(self.directory, self.split)[int(self.indices[i])]["image"]
        except Exception as error:  # array_record's and protobuf's own kinds
            raise transforms.unreadable(self.name(i), error) from error

    def name(self, i: int) -> str:
        return f"{self.directory} {self.split}[{self.indices[i]}]"

    def subset(self, indices: Indices) -> "TfdsSplit":
        chosen = self.indices[indices], self.labels[indices]
        return TfdsSplit(self.directory, self.split, *chosen, self.channels)


def load_tfds(value: str, options: Options) -> Dataset:
    """Loads the prepared set NAME or NAME:CONFIG, of the newest version on disk.

    It must have a split `train`, and features `image` and `label`. Splits `validation` and `test`
    are used if they have labels.

    Raises:
        UserError: the set is unknown, not prepared as array_record, or no image classification.
    """
    return _load(value, {"train": "train", "validation": "validation", "test": "test"}, options)


def load_imagenet(options: Options) -> Dataset:
    """Loads TFDS's imagenet2012. Its public validation split, on which results are reported, is
    `test` here, so that the split for choosing a checkpoint is held out of train.

    Raises:
        UserError: it is not prepared as array_record; the message says how to.
    """
    return _load("imagenet2012", {"train": "train", "test": "validation"}, options)


def _load(value: str, splits: dict[str, str], options: Options) -> Dataset:
    name, _, config = value.replace(":", "/", 1).partition("/")
    root = options.data_dir or Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    directory = _prepared(root.expanduser(), name, config)
    _check_format(directory)
    info = _builder(str(directory)).info
    channels, classes = _image_and_label(value, info.features)
    if "train" not in info.splits:
        raise UserError(f"TFDS's {value} has no split 'train'; it has {', '.join(info.splits)}")
    parts = {}
    for part, split in splits.items():
        if split in info.splits:
            labels = _labels(directory, split, info.splits[split].num_examples)
            if (labels >= 0).any() or part == "train":  # TFDS's -1: an unlabelled test set
                indices = np.arange(len(labels))
                parts[part] = TfdsSplit(str(directory), split, indices, labels, channels)
    return Dataset(value, classes, channels, **parts)


def _prepared(root: Path, name: str, config: str) -> Path:
    """Returns the folder of the newest version of NAME[/CONFIG] below `root`."""
    base = root / name / config
    versions = {path.parent for path in base.glob("*/dataset_info.json")}
    if not versions and not config:
        configs = sorted({path.parents[1].name for path in base.glob("*/*/dataset_info.json")})
        if len(configs) > 1:
            raise UserError(
                f"TFDS's {name} is prepared in {len(configs)} configurations; expected one of "
                + ", ".join(f"tfds={name}:{config}" for config in configs)
            )
        if configs:
            return _prepared(root, name, configs[0])
    if not versions:
        raise _not_prepared(root, name, config)
    return max(versions, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])


def _not_prepared(root: Path, name: str, config: str) -> UserError:
    found = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    known = set(_tfds().list_builders(with_community_datasets=False)) | set(REMOTES)
    if name not in known | {"imagenet2012", *found}:
        return unknown("TFDS data set", name, known | {*found} - {"downloads"})
    full = f"{name}/{config}" if config else name
    instead = {
        "imagenet2012": "; or use folder=PATH, with train/ and val/ that hold a folder per class"
    }
    return UserError(
        f"TFDS's {full} is not prepared in {root}; prepare it in an environment with TensorFlow "
        f"(pip install tensorflow tensorflow-datasets array_record): tfds build {full} "
        f"--file_format=array_record --data_dir={root}"
        + instead.get(name, f"; or use {name} without tfds=" if name in REMOTES else "")
    )


def _check_format(directory: Path) -> None:
    try:
        info = json.loads((directory / "dataset_info.json").read_text())
        formats = [info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", [])]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {directory / 'dataset_info.json'}: {error}") from error
    if "array_record" not in formats:
        raise UserError(
            f"{directory} is prepared as {formats[0]}, which needs TensorFlow to read; convert it "
            "where TensorFlow is installed: python -m tensorflow_datasets.scripts.convert_format "
            f"--dataset_version_dir={directory} --out_file_format=array_record"
        )


def _image_and_label(value: str, features: Any) -> tuple[int, tuple[str, ...]]:
    """Returns (channels, class names)."""
    kinds = _tfds().features
    found = dict(features.items()) if isinstance(features, kinds.FeaturesDict) else {}
    image: Any = found.get("image")
    label: Any = found.get("label")
    if not isinstance(image, kinds.Image) or not isinstance(label, kinds.ClassLabel):
        names = ", ".join(f"{key}: {type(kind).__name__}" for key, kind in found.items())
        raise UserError(
            f"TFDS's {value} is no image classification; expected image: Image and "
            f"label: ClassLabel, it has {names or features}"
        )
    return (1 if image.shape[-1] == 1 else 3), tuple(label.names)


def _labels(directory: Path, split: str, count: int) -> Int32[np.ndarray, " n"]:
    """Reads all labels: from the records, or from where an earlier call has kept them."""
    if count < _MANY:
        return _read_labels(directory, split, count)
    identity = str(directory.resolve()).encode() + (directory / "dataset_info.json").read_bytes()
    digest = hashlib.sha256(identity).hexdigest()[:16]
    kept = cache_dir() / "tfds_labels" / f"{directory.parent.name}-{split}-{digest}.npy"
    if kept.exists():
        labels = np.load(kept)
        if labels.shape == (count,):
            return labels
    print(f"reading the labels of {count:,} images in {directory}, once", file=sys.stderr)
    labels = _read_labels(directory, split, count)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}.part")
        with open(part, "wb") as file:
            np.save(file, labels)
        os.replace(part, kept)
    except OSError:
        pass  # a read-only home: they are read again next time
    return labels


def _read_labels(directory: Path, split: str, count: int) -> Int32[np.ndarray, " n"]:
    source, labels = _source(str(directory), split), []
    try:
        for start in range(0, count, 256):
            records = source.__getitems__(range(start, min(start + 256, count)))
            labels += [record["label"] for record in records]
    except Exception as error:  # array_record's and protobuf's own kinds
        raise UserError(f"cannot read the {split} split of {directory}: {error}") from error
    return np.array(labels, np.int32)


@functools.lru_cache(maxsize=8)
def _source(directory: str, split: str) -> Any:
    """Returns random access to the records of a split, images still encoded."""
    decoders = {"image": _tfds().decode.SkipDecoding()}
    try:
        return _builder(directory).as_data_source(
            split, decoders=decoders, file_format="array_record"
        )
    except Exception as error:
        raise UserError(f"cannot open the {split} split of {directory}: {error}") from error


@functools.lru_cache(maxsize=8)
def _builder(directory: str) -> Any:
    try:
        return _tfds().builder_from_directory(directory)
    except Exception as error:
        raise UserError(f"cannot read the TFDS set in {directory}: {error}") from error


def _tfds() -> Any:
    try:
        import array_record  # noqa: F401  imported by TFDS later, with a stack trace
        import importlib_resources  # noqa: F401  the same, and TFDS does not install it
        import tensorflow_datasets
    except ModuleNotFoundError as error:
        raise UserError(
            f"TFDS sets need the package {error.name}; "
            "pip install tensorflow-datasets array_record importlib_resources"
        ) from error
    return tensorflow_datasets
