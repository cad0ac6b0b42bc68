"""The sums of a folder's files, in a file beside them that `sha256sum -c SHA256SUMS` reads as well.

What reads checkpoints notices a file that is missing or cut short, with an error about something
else, but not a flipped byte: their arrays are stored without sums.
"""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

SUMS_FILE = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Writes the sums of all files in `folder`, whole or not at all.

    Raises:
        OSError: a file cannot be read, or the sums cannot be written.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{_sum(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    temporary = folder / f".{SUMS_FILE}.tmp"
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())  # or it could be empty after a power cut
    os.replace(temporary, folder / SUMS_FILE)


def damage(folder: Path) -> str | None:
    """Returns what is wrong with the files in `folder`, in a few words; None if nothing is.

    Nothing is known to be wrong where there are no sums, and files that have none do not matter.
    """
    try:
        text = (folder / SUMS_FILE).read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{SUMS_FILE} cannot be read ({error.strerror})"
    lines = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in text.splitlines()]
    if not lines or not text.endswith("\n"):
        return f"{SUMS_FILE} is cut short"
    for match in lines:
        # A file of somebody else's is not to make us read /dev/zero.
        if match is None or {"/", ".."} & {*PurePosixPath(match[2]).parts}:
            return f"{SUMS_FILE} has a line that is no sum"
        if not (folder / match[2]).is_file():
            return f"{match[2]} is missing"
        try:
            if _sum(folder / match[2]) != match[1]:
                return f"{match[2]} is not as it was saved"
        except OSError as error:
            return f"{match[2]} cannot be read ({error.strerror})"
    return None


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
