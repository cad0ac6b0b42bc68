"""MNIST's own file format, idx: a big-endian header, then bytes."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from flaxzoo.errors import UserError

_BYTES = b"\0\0\x08"  # the only element type that MNIST and its relatives use
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
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path} has more than {MAX_BYTES:,} bytes; expected MNIST or a relative")
    if content[:3] != _BYTES or len(content) < 4 or len(content) < 4 + 4 * content[3]:
        start = content[:4].hex() or "nothing"
        raise UserError(f"{path} is no idx file of bytes: it starts with {start}")
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    data = np.frombuffer(content, np.uint8)[4 + 4 * len(shape) :]
    if data.size != math.prod(shape) or len(shape) > 4:
        raise UserError(f"{path} holds {data.size} bytes of data; its header says {list(shape)}")
    return data.reshape(shape)
