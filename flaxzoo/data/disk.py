"""What a folder must give before something large is written: room, and nobody else at work."""

import contextlib
import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from flaxzoo.errors import UserError

# A full disk, a full quota, and a limit on the size of a file (ulimit -f).
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def exclusive(path: Path, what: str, *, wait: bool = True) -> Iterator[None]:
    """Holds the file `path`, made for this and deleted in the end, against other processes.

    Waits for one that holds it, and says so. The lock is the system's: it goes with its process,
    however that ends, and a file that is left over locks nothing. A file system without locks
    (some that are shared by network) lets everybody in.

    Args:
        what: what is done meanwhile, as in "another process downloads x".
        wait: False refuses instead.

    Raises:
        BlockingIOError: another process holds it, and is not waited for.
        OSError: `path` cannot be made.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, what, wait)
            ours = _is_at(handle, path)  # or else its holder has deleted it before letting go
        except BaseException:
            os.close(handle)
            raise
        if ours:
            break
        os.close(handle)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _lock(handle: int, what: str, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise
        print(f"waiting: another process {what}", file=sys.stderr)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        pass  # no locks here


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def check_space(folder: Path, needed: int, what: str, elsewhere: str) -> None:
    """Raises UserError unless `folder` has room for `needed` bytes.

    Args:
        what: needs them, as in "unpacking x".
        elsewhere: what to do instead of making room.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} needs {as_size(needed)} in {folder}, which has {as_size(free)} free; make "
            f"room, or {elsewhere}"
        )


def is_full(error: Exception) -> bool:
    """Returns whether an error says that the disk, or this user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def full(folder: Path, needed: int | None, what: str, elsewhere: str) -> UserError:
    """Returns the error for a disk that became full meanwhile; for the arguments see `check_space`.

    Args:
        needed: in bytes, in all; None: unknown.
    """
    size = "more" if needed is None else as_size(needed)
    return UserError(
        f"the disk of {folder} is full: {what} needs {size} there, in all; make room and ask "
        f"again, or {elsewhere}"
    )


def as_size(count: int) -> str:
    """Returns a number of bytes as people say it.

    >>> as_size(14_989), as_size(99_003_388), as_size(147_897_477_120)
    ('15.0 kB', '99.0 MB', '147.9 GB')
    """
    unit, name = (1e9, "GB") if count >= 1e9 else (1e6, "MB") if count >= 1e5 else (1e3, "kB")
    return f"{count / unit:.1f} {name}"
