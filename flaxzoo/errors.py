"""The exception that means "the user can fix this", and the wording its messages share."""

import difflib
from collections.abc import Iterable

_LONGEST = 100  # characters of a value in a message
_LONGEST_MESSAGE = 3000  # which names in a stranger's file can exceed


class UserError(ValueError):
    """A slip in a name, value, file or flag: the command line prints it and exits with 2.

    Its message is a sentence or two: what was got, what was expected, what exists. A very long one
    is cut in the middle, since what was expected stands at the end.
    """

    def __init__(self, message: str):
        half = _LONGEST_MESSAGE // 2
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:half]} ... {message[-half:]}"
        super().__init__(message)


class InputError(UserError):
    """In the middle of a run, the next images cannot be had; everything before them was whole."""


def unknown(
    kind: str, got: object, known: Iterable[str], near: list[str] | None = None
) -> UserError:
    """Returns the error for a name that is not in a table, with the nearest names that are.

    Args:
        near: the nearest names, where something better than their spelling finds them.

    >>> unknown("model", "resnet5", ["resnet50", "vgg11"])
    UserError("unknown model 'resnet5'; did you mean 'resnet50'? known: resnet50, vgg11")
    """
    known = sorted(known)
    near = near or difflib.get_close_matches(str(got), known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    listed = known if len(known) <= 12 else [*known[:12], f"... ({len(known)} in all)"]
    return UserError(f"unknown {kind} {shown(got)}{hint} known: {', '.join(listed) or 'none'}")


def shown(value: object) -> str:
    """Returns what a message says of a value that was got: its repr, in one line, cut where long.

    >>> shown([1.5, "a"])
    "[1.5, 'a']"
    """
    line = " ".join(repr(value).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
