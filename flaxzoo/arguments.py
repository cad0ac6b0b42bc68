"""What functions ask of their arguments: each check returns the value, or raises UserError."""

import contextlib
import math
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from flaxzoo.errors import UserError, shown, unknown


def integer(name: str, value: object, least: int) -> int:
    """Returns `value`, which the user gave for `name`, as an int; numbers like 10.0 are none.

    Raises:
        UserError: not an integer, or below `least`.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise UserError(f"{name} must be an integer of at least {least}; got {shown(value)}.")


def number(name: str, value: object, least: float = -math.inf) -> float:
    """Returns a finite number of at least `least`.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # of an integer beyond all floats
            if math.isfinite(real := float(value)) and real >= least:
                return real
    limit = f" of at least {least:g}" if math.isfinite(least) else ""
    raise UserError(f"{name} must be a finite number{limit}; got {shown(value)}.")


def flag(name: str, value: object) -> bool:
    """Returns True or False; a string like "no" or an array is neither.

    Raises:
        UserError: it is something else.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise UserError(f"{name} must be True or False; got {shown(value)}.")


def text(name: str, value: object, expected: str = "a string") -> str:
    """Returns a string.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, str):
        return value
    raise UserError(f"{name} must be {expected}; got {shown(value)}.")


def one_of(kind: str, value: object, known: Collection[str]) -> str:
    """Returns a name that is in a table.

    Raises:
        UserError: it is not, with the nearest names that are.
    """
    if isinstance(value, str) and value in known:
        return value
    raise unknown(kind, value, known)


def path(name: str, value: object) -> Path:
    """Returns a path, which need not exist, with ~ for the home folder expanded.

    Raises:
        UserError: it is no path, or one that the file system cannot have.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise UserError(f"{name} must be a path, as a string or a Path; got {shown(value)}.")
    if not os.fspath(value):
        raise UserError(f"{name} must be a path; got an empty string.")
    try:
        found = Path(value).expanduser()
        os.stat(found)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, no such ~user
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{name} must be a path; got {shown(value)}: {why}.") from None
    return found
