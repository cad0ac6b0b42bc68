"""TensorFlow Datasets' prepared sets, read as array_record without TensorFlow and without network.

Only sets that are on disk are opened: TFDS itself would try to download and prepare the others,
which needs TensorFlow, and takes minutes to notice that there is no network.
"""

import functools
import hashlib
import json
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from flaxzoo.data import originals, transforms
from flaxzoo.data.archives import REMOTES
from flaxzoo.data.dataset import Dataset, EncodedSplit, Indices
from flaxzoo.data.options import Options, cache_dir
from flaxzoo.errors import UserError, unknown

_MANY = 10_000  # images; with more, labels are kept in a file of our own, since reading takes long
_UNREADABLE = -2  # the label of a damaged record; -1 is TFDS's own, of one without a label
_log = logging.getLogger(__name__)

# Which split is which. Where a public validation split is what results are reported on, it is
# `test` here, so that the split for choosing a checkpoint is held out of train.
_SPLITS = {"train": "train", "validation": "validation", "test": "test"}
_REPORTED = {"train": "train", "test": "validation"}
_SPLITS_OF = {"imagenet2012": _REPORTED, "imagenette": _REPORTED}


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


def load_tfds(value: str, options: Options, name: str | None = None) -> Dataset:
    """Loads the prepared set NAME or NAME:CONFIG, of the newest version on disk.

    It must have a split `train`, and features `image` and `label`. Splits `validation` and `test`
    are used if they have labels. Of ImageNet and Imagenette, the public validation split, on which
    results are reported, is `test`. A set of `originals` that `flaxzoo data prepare` has unpacked
    is as good, where TFDS has prepared none.

    Args:
        name: of the data set, if not `value`.

    Raises:
        UserError: the set is unknown, not prepared as array_record, or no image classification; or
            a record is damaged, and `options` do not say to skip it.
    """
    original = originals.named(value)
    directory = prepared_folder(value, options)
    if directory is None and original and originals.images_folder(original, options).is_dir():
        return originals.load(original, options)
    if directory is None:
        raise _not_prepared(value, options)
    check_format(directory)
    info = _builder(str(directory)).info
    channels, classes = _image_and_label(value, info.features)
    if "train" not in info.splits:
        raise UserError(f"TFDS's {value} has no split 'train'; it has {', '.join(info.splits)}")
    parts = {}
    for part, split in _SPLITS_OF.get(parse_name(value)[0], _SPLITS).items():
        if split in info.splits:
            labels = _labels(directory, split, info.splits[split].num_examples, options.on_error)
            indices = np.flatnonzero(labels != _UNREADABLE)
            labels = labels[indices]
            if (labels >= 0).any() or part == "train":  # TFDS's -1: an unlabelled test set
                parts[part] = TfdsSplit(str(directory), split, indices, labels, channels)
    return Dataset(name or value, classes, channels, **parts)


def load_original(name: str, options: Options) -> Dataset:
    """Loads a set of `originals` by our name for it: see `load_tfds`."""
    return load_tfds(originals.ORIGINALS[name].tfds, options, name)


def parse_name(value: str) -> tuple[str, str]:
    """Splits "NAME", "NAME:CONFIG" or "NAME/CONFIG"."""
    name, _, config = value.replace(":", "/", 1).partition("/")
    return name, config


def data_root(options: Options) -> Path:
    """Returns TFDS's data directory."""
    root = options.data_dir or Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    return root.expanduser()


def prepared_folder(value: str, options: Options) -> Path | None:
    """Returns the folder of the newest version of NAME[:CONFIG] on disk, if there is any."""
    name, config = parse_name(value)
    base = data_root(options) / name / config
    versions = _versions(base)
    if not versions and not config:
        configs = {path: _versions(path) for path in sorted(base.glob("*/")) if _versions(path)}
        if len(configs) > 1:
            raise UserError(
                f"TFDS's {name} is prepared in {len(configs)} configurations; expected one of "
                + ", ".join(f"tfds={name}:{path.name}" for path in configs)
            )
        versions = next(iter(configs.values()), [])
    return max(versions, key=lambda path: [int(n) for n in path.name.split(".")], default=None)


def _versions(base: Path) -> list[Path]:
    """Returns the folders 1.2.3 of a set; "incomplete.ABCDEF_1.2.3" is what TFDS did not finish."""
    found = [path.parent for path in base.glob("*/dataset_info.json")]
    return [path for path in found if re.fullmatch(r"\d+(\.\d+)*", path.name)]


def _not_prepared(value: str, options: Options) -> UserError:
    root, (name, config) = data_root(options), parse_name(value)
    original = originals.named(value)
    if original:
        instead = originals.ORIGINALS[original].instead
        return UserError(
            f"{original} is not prepared in {options.root}; "
            f"{originals.advice(original, options)}{instead and '; or '}{instead}"
        )
    found = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    known = set(library().list_builders(with_community_datasets=False)) | set(REMOTES)
    if name not in known | {*found}:
        return unknown("TFDS data set", name, known | {*found} - {"downloads"})
    if name in REMOTES:
        return UserError(f"TFDS's {name} is not prepared in {root}; use {name} without tfds=")
    full = f"{name}:{config}" if config else name
    return UserError(
        f"TFDS's {full} is not prepared in {root}; {originals.command(full, options)} does it, "
        "most often with TensorFlow (pip install tensorflow), which training does not need"
    )


def check_format(directory: Path) -> None:
    """Raises UserError unless a prepared set is stored as array_record."""
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
    kinds = library().features
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


def _labels(directory: Path, split: str, count: int, on_error: str) -> Int32[np.ndarray, " n"]:
    """Reads all labels: from the records, or from where an earlier call has kept them.

    The label of a damaged record, if they are to be skipped, is _UNREADABLE.
    """
    if count < _MANY:
        return _read_labels(directory, split, count, on_error)
    identity = str(directory.resolve()).encode() + (directory / "dataset_info.json").read_bytes()
    digest = hashlib.sha256(identity).hexdigest()[:16]
    kept = cache_dir() / "tfds_labels" / f"{directory.parent.name}-{split}-{digest}.npy"
    if kept.exists():
        labels = np.load(kept)
        if labels.shape == (count,):
            return labels
    print(f"reading the labels of {count:,} images in {directory}, once", file=sys.stderr)
    labels = _read_labels(directory, split, count, on_error)
    if (labels == _UNREADABLE).any():
        return labels  # the files may be mended
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}.part")
        with open(part, "wb") as file:
            np.save(file, labels)
        os.replace(part, kept)
    except OSError:
        pass  # a read-only home: they are read again next time
    return labels


def _read_labels(directory: Path, split: str, count: int, on_error: str) -> Int32[np.ndarray, " n"]:
    source, labels = _source(str(directory), split), np.empty(count, np.int32)
    unreadable: list[str] = []
    for start in range(0, count, 256):
        numbers = range(start, min(start + 256, count))
        try:
            labels[numbers] = [record["label"] for record in source.__getitems__(numbers)]
        except Exception:  # array_record's and protobuf's own kinds, which do not say which record
            for i in numbers:
                labels[i], why = _read_label(source, i)
                if why and on_error == "raise":
                    raise UserError(
                        f"cannot read record {i} of {directory} {split}: {why}; prepare the set "
                        "again, or leave such records out with --config.data.on_error=skip"
                    ) from None
                unreadable += [f"{i} ({why})"] if why else []
    if len(unreadable) == count:
        raise UserError(f"cannot read any record of {directory} {split}: {unreadable[0]}")
    if unreadable:
        skipped = ", ".join(unreadable[:3]) + (", ..." if len(unreadable) > 3 else "")
        _log.warning(
            "skipped: %d of %d records of %s %s cannot be read: %s",
            len(unreadable), count, directory, split, skipped,
        )  # fmt: skip
    return labels


def _read_label(source: Any, i: int) -> tuple[int, str]:
    """Returns (label, "") of a record, or (_UNREADABLE, why)."""
    try:
        return source[i]["label"], ""
    except Exception as error:
        return _UNREADABLE, " ".join(str(error).split())


@functools.lru_cache(maxsize=8)
def _source(directory: str, split: str) -> Any:
    """Returns random access to the records of a split, images still encoded."""
    decoders = {"image": library().decode.SkipDecoding()}
    try:
        return _builder(directory).as_data_source(
            split, decoders=decoders, file_format="array_record"
        )
    except Exception as error:
        raise UserError(f"cannot open the {split} split of {directory}: {error}") from error


@functools.lru_cache(maxsize=8)
def _builder(directory: str) -> Any:
    try:
        return library().builder_from_directory(directory)
    except Exception as error:
        raise UserError(f"cannot read the TFDS set in {directory}: {error}") from error


def library() -> Any:
    """Returns the module tensorflow_datasets, or raises UserError with what is to be installed."""
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
