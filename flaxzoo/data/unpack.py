"""Unpacking an archive of images into SPLIT/CLASS/FILE, in one pass that verifies it as well."""

import hashlib
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, runtime_checkable

from flaxzoo.data.archives import Remote
from flaxzoo.data.download import progress
from flaxzoo.data.folder import EXTENSIONS
from flaxzoo.data.layouts import Place
from flaxzoo.errors import UserError

_CHUNK = 1 << 20
# What images may be in all, which are packed already by their own format: so many times the
# archive, or as many bytes if that is more.
_MAX_RATIO, _MAX_FLOOR = 2, 2**26


def unpack(archive: Path, remote: Remote, place: Place, folder: Path) -> int:
    """Writes the images of a tar archive, packed or not, to `folder`; returns how many.

    Names in the archive decide nothing but the last part of a path. Until this returns, nothing is
    known of what it has written: the checksum comes with the last byte.

    Args:
        remote: what the archive must be.
        place: see `layouts`.

    Raises:
        UserError: the archive is not the expected one.
        OSError: `folder` cannot be written, or the archive not be read.
    """
    size = archive.stat().st_size
    if size != remote.size:
        raise _unexpected(archive, f"{size:,} bytes; expected {remote.size:,}")
    count, written, made, name = 0, 0, set(), ""
    with open(archive, "rb") as file, progress("unpacking", str(archive), 0, size) as advance:
        whole = _Summed(file, advance)
        try:
            for name, length, stream in _images(whole):
                if (where := place(name)) is not None:
                    target = folder.joinpath(*where)
                    written += length
                    if written > max(_MAX_RATIO * size, _MAX_FLOOR):
                        raise tarfile.TarError(f"it unpacks to more than {written:,} bytes")
                    if target not in made:
                        target.mkdir(parents=True, exist_ok=True)
                        made.add(target)
                    with open(target / PurePosixPath(name).name, "wb") as image:
                        shutil.copyfileobj(stream, image)
                    count += 1
        except (LookupError, ValueError) as error:  # of `place`
            raise _unexpected(archive, f"it holds {name}") from error
        except OSError:
            raise
        except Exception as error:  # tarfile and what decompresses raise many kinds
            raise _unexpected(archive, f"it is damaged ({error})") from error
        digest = whole.hexdigest()
    if digest != remote.sha256:
        raise _unexpected(archive, f"sha256 {digest}; expected {remote.sha256}")
    return count


@runtime_checkable
class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Summed:
    """A file that is read once, in order, and summed meanwhile."""

    def __init__(self, file: IO[bytes], advance: Callable[[int], None]):
        self._file, self._advance = file, advance
        self._digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        chunk = self._file.read(size)
        self._digest.update(chunk)
        self._advance(len(chunk))
        return chunk

    def hexdigest(self) -> str:
        """Reads what is left, the padding of the archive, and returns the sum of all."""
        while self.read(_CHUNK):
            pass
        return self._digest.hexdigest()


def _images(file: _Readable) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yields (name, bytes, content) of the images of an archive, and of the archives in it."""
    with tarfile.open(fileobj=file, mode="r|*", bufsize=_CHUNK) as archive:  # type: ignore
        for member in archive:
            plain = member.isreg() and not member.issparse()
            stream = archive.extractfile(member) if plain else None
            path = PurePosixPath(member.name)
            if stream is None or path.name.startswith("."):
                continue
            if path.suffix == ".tar":
                for name, size, inner in _images(stream):
                    yield f"{member.name}/{name}", size, inner
            elif path.suffix.lower() in EXTENSIONS:
                yield member.name, member.size, stream


def _unexpected(archive: Path, why: str) -> UserError:
    return UserError(f"{archive} is not the expected file: {why}; delete it and fetch it again")
