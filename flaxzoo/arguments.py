"""What functions ask of their arguments: each check returns the value, or raises UserError."""

import contextlib
import difflib
import math
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np

from flaxzoo.errors import UserError, shown, unknown

_NAMED = 8  # files in a message


def integer(name: str, value: object, least: int) -> int:
    """Returns `value`, which the user gave for `name`, as an int; numbers like 10.0 are none.

    Raises:
        UserError: not an integer, or below `least`.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least:
        return int(value)
    raise UserError(f"{name} must be an integer of at least {least}; got {shown(value)}.")


def number(name: str, value: object, least: float | int = -math.inf) -> float:
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


def is_utf8(name: str) -> bool:
    """Says whether a name of the file system is text; in others Python keeps the raw bytes."""
    return name == name.encode(errors="ignore").decode()


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


def nearby(absent: str | os.PathLike) -> str:
    """Returns the end of a sentence about a path that does not exist: what there is near it."""
    here = Path(absent).expanduser()
    try:
        names = sorted(entry.name for entry in here.parent.iterdir())
    except OSError:
        return f"; there is no folder {here.parent} either."
    near = [str(here.parent / name) for name in difflib.get_close_matches(here.name, names, 3)]
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    more = f", ... ({len(names)} in all)" if len(names) > _NAMED else ""
    return f"; {here.parent} has {', '.join(names[:_NAMED]) or 'nothing'}{more}."


def check_output(text: str, endings: Collection[str] = ()) -> None:
    """Refuses a file to write whose folder does not exist, before the work that it is to hold.

    Args:
        endings: of which it has to have one, in lower case; empty for any.

    Raises:
        UserError: there is no such folder, it is a folder itself, or ends otherwise.
    """
    target = path("a file to write", text)
    if target.is_dir():
        raise UserError(f"cannot write {text}: it is a folder; expected the name of a file.")
    if endings and target.suffix.lower() not in endings:
        raise UserError(f"cannot write {text}: its name must end in {', '.join(sorted(endings))}.")
    if not target.parent.is_dir():
        raise UserError(f"cannot write {text}: no such folder{nearby(target.parent)}")
