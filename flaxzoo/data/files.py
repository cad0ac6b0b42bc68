"""Where image files lie: in a folder, or in a zip or tar archive that is read without unpacking it.

A path is relative, with "/" between its parts. That of a folder ends with "/", as zip files have
it, and "" is the whole. Hidden names do not exist here, nor does what macOS adds to its zip files.
"""

import bisect
import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from flaxzoo.arguments import nearby
from flaxzoo.errors import UserError

MAX_UNCOMPRESSED = 2**30  # bytes of a compressed tar, which is kept in memory
MAX_INFLATED = 2**28  # bytes of one file in a zip: images are packed already, by their own format

_MAX_NAMES = 2**30  # bytes of all names of an archive
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's member: signature, two lengths
_TAR = -1  # a member's method: its bytes as they are, without a header
# Where a member lies. One array of all: a million Python objects take seconds to send to a worker.
_MEMBER = np.dtype(
    [("start", "i8"), ("stored", "i8"), ("size", "i8"), ("crc", "u4"), ("method", "i2")]
)
_DECOMPRESS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


@runtime_checkable
class Files(Protocol):
    """Files in one place. Cheap to pickle; any number of threads may read."""

    root: str

    def entries(self, at: str) -> list[str]:
        """Returns the names in folder `at`, in any order; those of folders end with "/"."""
        ...

    def read(self, path: str) -> bytes:
        """Returns the content of a file. Raises OSError."""
        ...


def open_files(root: str) -> "Folder | Archive":
    """Opens a folder, a zip (stored or deflated), or a tar.

    A compressed tar can only be read from its beginning. One of less than `MAX_UNCOMPRESSED` is
    kept in memory, and in that of every worker process.

    Raises:
        UserError: there is nothing, it is something else, damaged or incomplete; or an archive has
            links or is stored in a way that cannot be read.
    """
    try:
        if os.path.isdir(root):
            return Folder(root)
        with open(root, "rb") as file:
            magic = file.read(6)
            if magic.startswith(b"PK"):
                return _archive(root, _zip_members(file))
            content = _uncompressed(root, magic)
            tar = file if content is None else io.BytesIO(content)
            return _archive(root, _tar_members(tar), content)
    except FileNotFoundError:
        raise UserError(f"no such folder or archive: {root}{nearby(root)}") from None
    except UserError:
        raise
    except Exception as error:  # zipfile and tarfile raise many kinds for damaged files
        raise UserError(
            f"cannot read {root}: {error}; expected a folder, or a complete zip or tar of one"
        ) from error


class Folder:
    """The files below `root`. Links are followed, except to a folder that holds the link."""

    def __init__(self, root: str):
        self.root = root

    def entries(self, at: str) -> list[str]:
        """See `Files`. Raises UserError if the folder cannot be listed."""
        path = os.path.join(self.root, at).rstrip("/") or "/"
        try:
            with os.scandir(path) as found:
                visible = [entry for entry in found if not _hidden(entry.name)]
                folders = [entry for entry in visible if _is_folder(entry)]
                back = [e.name for e in folders if e.is_symlink() and self._leads_back(e.path, at)]
        except OSError as error:
            raise UserError(
                f"cannot list folder {error.filename or path}: {error.strerror}; "
                "expected a folder that this user may read"
            ) from error
        names = {entry.name for entry in visible} - {entry.name for entry in folders}
        return [*names, *(f"{entry.name}/" for entry in folders if entry.name not in back)]

    def _leads_back(self, link: str, at: str) -> bool:
        """Whether a link in folder `at` is to one of the folders on the way there, or above one."""
        real = os.path.join(os.path.realpath(link), "")
        parts = at.split("/")
        on_the_way = (os.path.join(self.root, *parts[:i]) for i in range(len(parts)))
        return any(os.path.join(os.path.realpath(path), "").startswith(real) for path in on_the_way)

    def read(self, path: str) -> bytes:
        with open(os.path.join(self.root, path), "rb", buffering=0, opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "a pipe or a device, no file", path)
            return file.read()


class Archive:
    """The files in a zip or tar archive: each is read from where it lies, and none is unpacked.

    Names that lead out of the archive ("../", "/") mean nothing special, as nothing is written.
    """

    def __init__(self, root: str, names: np.ndarray, members: np.ndarray, content: bytes | None):
        """Args:
        root: the archive's own path.
        names: paths as bytes, sorted.
        members: of `_MEMBER`, for each name.
        content: the archive uncompressed; None to read `root`.
        """
        self.root, self.names, self.members, self.content = root, names, members, content

    def entries(self, at: str) -> list[str]:
        key = os.fsencode(at)
        first = bisect.bisect_left(self.names, key)
        # "0" comes right after "/", so that before "at0" are all that begin with "at/".
        last = bisect.bisect_left(self.names, key[:-1] + b"0") if key else len(self.names)
        below = (name[len(key) :] for name in self.names[first:last].tolist())
        heads = {name.partition(b"/")[:2] for name in below if name}
        return [os.fsdecode(head + slash) for head, slash in heads]

    def read(self, path: str) -> bytes:
        key = os.fsencode(path)
        i = bisect.bisect_left(self.names, key)
        if i == len(self.names) or self.names[i] != key:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        start, stored, size, crc, method = self.members[i].tolist()
        if method == zipfile.ZIP_DEFLATED and size > MAX_INFLATED:
            raise OSError(f"{stored:,} bytes in the archive claim to hold {size:,}")
        # Opened for each file, as in a folder: nothing is shared between threads or processes.
        with open(self.root, "rb") if self.content is None else io.BytesIO(self.content) as file:
            file.seek(start if method == _TAR else start + _header_size(file, start))
            data = file.read(stored)
        try:
            if method == zipfile.ZIP_DEFLATED:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
        except zlib.error as error:
            raise OSError(f"damaged in the archive: {error}") from error
        if len(data) != size or (method != _TAR and zlib.crc32(data) != crc):
            raise OSError("damaged in the archive, or the archive has changed")
        return data


def _archive(
    root: str, members: Iterable[tuple[str, bool, tuple]], content: bytes | None = None
) -> Archive:
    """Makes an archive of (name, is folder, member); of two of one name, the last counts."""
    found = {}
    for name, is_folder, member in members:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if parts and not any(map(_hidden, parts)):
            found[os.fsencode("/".join(parts) + "/" * is_folder)] = member
    names = sorted(found)
    if len(names) * max(map(len, names), default=0) > _MAX_NAMES:  # in an array, all are as long
        raise ValueError(f"a name of {max(map(len, names)):,} bytes among {len(names):,}")
    where = np.array([found[name] for name in names], _MEMBER)
    if content is None and (where["stored"] > os.path.getsize(root) - where["start"]).any():
        raise ValueError("incomplete or damaged")
    return Archive(root, np.array(names, np.bytes_), where, content)


def _zip_members(file: Any) -> Iterator[tuple[str, bool, tuple]]:
    for info in zipfile.ZipFile(file).infolist():
        if stat.S_ISLNK(info.external_attr >> 16):
            raise _link(info.filename)
        if info.flag_bits & 1:
            raise ValueError(f"{info.filename} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename} is neither stored nor deflated")
        where = info.header_offset, info.compress_size, info.file_size, info.CRC
        yield info.filename, info.is_dir(), (*where, info.compress_type)


def _tar_members(file: Any) -> Iterator[tuple[str, bool, tuple]]:
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as opened:
        tar: Any = opened
        while (info := tar.next()) is not None:
            tar.members.clear()  # else it keeps a kilobyte of each
            if info.issym() or info.islnk() or info.issparse():
                raise _link(info.name)
            if info.isfile() or info.isdir():
                yield info.name, info.isdir(), (info.offset_data, info.size, info.size, 0, _TAR)
        # It takes anything that is no header for the end, which is a block of zeros.
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError(f"incomplete or damaged at byte {tar.offset:,}")


def _link(name: str) -> ValueError:
    return ValueError(
        f"{name} is a link or sparse, where tar --dereference --hard-dereference, and zip "
        "without -y, would have the file itself"
    )


def _uncompressed(root: str, magic: bytes) -> bytes | None:
    """Returns all of a compressed file, None of one that is not."""
    for start, decompress in _DECOMPRESS.items():
        if magic.startswith(start):
            with decompress(root) as file:
                content = file.read(MAX_UNCOMPRESSED + 1)
            if len(content) > MAX_UNCOMPRESSED:
                raise UserError(
                    f"{root} is compressed and can only be read from its beginning, which is done "
                    f"for at most {MAX_UNCOMPRESSED / 2**30:g} GiB; expected a plain tar, which "
                    "gunzip (bunzip2, unxz) makes of it"
                )
            return content
    return None


def _header_size(file: Any, start: int) -> int:
    """Returns how long the header before a zip's member is; its directory does not say."""
    file.seek(start)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\3\4":
        raise OSError("damaged in the archive, or the archive has changed")
    _, name, extra = _LOCAL_HEADER.unpack(header)
    return _LOCAL_HEADER.size + name + extra


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # or else a pipe is waited for


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself is as good as a dangling one
            return False
        raise
