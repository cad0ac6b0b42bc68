"""MNIST's own file format, idx: a big-endian header, then bytes."""

import gzip
import io
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from flaxzoo.errors import UserError

_BYTES = b"\0\0\x08"  # the only element type that MNIST and its relatives use
_MAX_SIDES = 4
MAX_BYTES = 2**30  # of one file, unpacked: EMNIST, the largest of them, has half of that


def names(file: str) -> tuple[str, ...]:
    """Returns the names that `file` (x-idx3-ubyte.gz) goes by: packed or not, with dash or dot.

    >>> names("t10k-labels-idx1-ubyte.gz")[1]
    't10k-labels-idx1-ubyte'
    """
    plain = file.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    return file, plain, f"{dotted}.gz", dotted


def read(path: Path) -> UInt8[np.ndarray, "..."]:
    """Reads an idx file of bytes, gzip-compressed or not; read-only.

    Raises:
        UserError: the file is damaged or of another kind; the message names it.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            start = file.read(4)
            if start[:3] != _BYTES or len(start) < 4 or start[3] > _MAX_SIDES:
                found = start.hex() or "nothing"
                raise UserError(f"{path} is no idx file of bytes: it starts with {found}")
            sides = file.read(4 * start[3])
            shape = struct.unpack(f">{start[3]}I", sides)
            most = min(math.prod(shape), MAX_BYTES) + 1
            content = b"".join(_pieces(file, most))
    except UserError:
        raise
    except Exception as error:  # gzip and zlib raise many kinds for damaged files
        raise UserError(f"cannot read {path}: {error}") from error
    if len(content) != math.prod(shape):
        held = f"at least {len(content)}" if len(content) == most else f"{len(content)}"
        raise UserError(f"{path} holds {held} bytes of data; its header says {list(shape)}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _pieces(file: io.BufferedIOBase, most: int) -> Iterator[bytes]:
    """Yields what is left of a file, at most so many bytes; what is claimed takes no memory."""
    while most > 0 and (piece := file.read(min(most, 2**20))):
        most -= len(piece)
        yield piece
