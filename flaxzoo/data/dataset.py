"""What every source delivers: splits of (uint8 image, label), and the data set made of them."""

import abc
import dataclasses
import os
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Integer, UInt8

from flaxzoo.data import transforms
from flaxzoo.data.files import Files, Folder

Indices = Integer[np.ndarray, " m"]


@runtime_checkable
class Split(Protocol):
    """Random access to labelled images. Cheap to pickle, except where the pixels are in memory."""

    labels: Int32[np.ndarray, " n"]

    @property
    def channels(self) -> int:
        """1 or 3, of every image."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        """Returns image i; sizes may differ between images. Raises UserError if unreadable."""
        ...

    def name(self, i: int) -> str:
        """Returns what a message calls image i."""
        ...

    def subset(self, indices: Indices) -> "Split":
        """Returns the split of these images, in this order."""
        ...


class ArraySplit:
    """Images of one size, in memory."""

    def __init__(
        self,
        images: UInt8[np.ndarray, "n h w c"],
        labels: Int32[np.ndarray, " n"],
        source: str = "image",
    ):
        self.images = images
        self.labels = labels
        self.source = source

    @property
    def channels(self) -> int:
        return self.images.shape[3]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        return self.images[i]

    def name(self, i: int) -> str:
        return f"{self.source}[{i}]"

    def subset(self, indices: Indices) -> "ArraySplit":
        return ArraySplit(self.images[indices], self.labels[indices], self.source)


class EncodedSplit(abc.ABC):
    """Images of any size in the files of their formats, decoded on access.

    Whoever knows what a crop needs of an image reads the file, and decodes no more than that.
    """

    labels: Int32[np.ndarray, " n"]
    channels: int

    @abc.abstractmethod
    def read(self, i: int) -> bytes:
        """Returns the file of image i, still encoded. Raises UserError if it cannot be read."""

    @abc.abstractmethod
    def name(self, i: int) -> str:
        """Returns what a message calls image i."""

    @abc.abstractmethod
    def subset(self, indices: Indices) -> "EncodedSplit":
        """Returns the split of these images, in this order."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        return transforms.decode(self.read(i), self.channels, self.name(i))


class FileSplit(EncodedSplit):
    """Image files in a folder or an archive."""

    def __init__(
        self,
        paths: Sequence[str] | np.ndarray,
        labels: Int32[np.ndarray, " n"],
        files: Files | str = "",
        channels: int = 3,
    ):
        """Args:
        paths: as `files` has them, or as bytes in an array.
        files: an open archive or folder, or a folder's name.
        channels: 3 for RGB, 1 for luminance; files of the other kind are converted.
        """
        # One array of bytes: a million Python strings take seconds to send to a worker process.
        self.paths = np.array([os.fsencode(path) for path in paths], dtype=np.bytes_)
        self.labels = labels
        self.files = Folder(files) if isinstance(files, str) else files
        self.channels = channels

    def read(self, i: int) -> bytes:
        try:
            return self.files.read(self._path(i))
        except OSError as error:
            raise transforms.unreadable(self.name(i), error) from error

    def name(self, i: int) -> str:
        return os.path.join(self.files.root, self._path(i))

    def _path(self, i: int) -> str:
        return os.fsdecode(bytes(self.paths[i]))

    def subset(self, indices: Indices) -> "FileSplit":
        chosen = FileSplit([], self.labels[indices], self.files, self.channels)
        chosen.paths = self.paths[indices]
        return chosen


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled set of images.

    Attributes:
        classes: their names; label i means classes[i].
        channels: 1 or 3, of every image.
        validation: None where none was asked for (`validation=0`).
        test: None where the source has none.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    train: Split
    validation: Split | None = None
    test: Split | None = None

    @property
    def num_classes(self) -> int:
        return len(self.classes)
