"""Zip files of strangers, opened so that they take memory in proportion to their size.

A zip of kilobytes may say that it holds gigabytes, and hold them; a header of NumPy's in it may ask
for more still. What a file claims is compared with what it can hold before memory is taken for it.
"""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# What members may inflate to, in all: photographs and weights shrink to a half at best, drawings
# and labels to a hundredth. Up to the floor, in bytes, no ratio is too large.
MAX_RATIO = 100
MAX_FLOOR = 2**28
_CHUNK = 2**20
_SUFFIX = ".npy"


@contextlib.contextmanager
def open_zip(path: Path, *, compressed: bool) -> Iterator[zipfile.ZipFile]:
    """Opens a zip whose members may be read whole, all of them.

    Args:
        compressed: whether its members may be so.

    Raises:
        ValueError: two members have one name, one is packed in a rare way, or they claim more than
            the file can hold or than it should.
        zipfile.BadZipFile: it is none, or a damaged one.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        if len(names) < len(members):
            raise ValueError("two of its members have one name")
        methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[: 1 + compressed]
        for member in members:
            if member.compress_type not in methods or member.flag_bits & 1:
                how = "neither stored nor deflated" if compressed else "not stored as it is"
                raise ValueError(f"its member {member.filename!r} is {how}")
        if sum(member.compress_size for member in members) > size:
            raise ValueError(f"its members claim more than its {size:,} bytes")
        whole = sum(member.file_size for member in members)
        if whole > (max(MAX_FLOOR, MAX_RATIO * size) if compressed else size):
            raise ValueError(f"its {size:,} bytes claim to hold {whole:,}")
        yield archive


class Npz:
    """The arrays of an .npz file, each read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        self.files = [name.removesuffix(_SUFFIX) for name in archive.namelist()]

    def __getitem__(self, name: str) -> np.ndarray:
        """Raises ValueError or zipfile.BadZipFile where it is no array, or a damaged one."""
        member = self._archive.getinfo(name + _SUFFIX)
        with self._archive.open(member) as file:
            return _read_npy(file, name, member.file_size)


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[Npz]:
    """Opens an .npz file as np.load(path, allow_pickle=False) does; see `open_zip` for errors."""
    with open_zip(path, compressed=True) as archive:
        yield Npz(archive)


def _read_npy(file, name: str, size: int) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, columns_first, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"{name} is of version {version} of NumPy's format; expected 1 or 2")
    if dtype.kind not in "biufcSUV" or dtype.hasobject:
        raise ValueError(f"{name} holds {dtype}; expected numbers")
    held = size - file.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != held:
        raise ValueError(f"{name} says that it is {dtype} {list(shape)}; it has {held:,} bytes")
    content = np.empty(held, np.uint8)
    for at in range(0, held, _CHUNK):
        if file.readinto(content[at : at + _CHUNK]) != min(_CHUNK, held - at):
            raise EOFError(f"{name} is incomplete")
    return content.view(dtype).reshape(shape, order="F" if columns_first else "C")
