"""Writes weights to files, whole or not at all: for torch, as safetensors, or for NumPy.

torch is not needed, not even for its own format: that is a zip of raw storages and of one pickle,
which names a handful of torch's functions by text (flaxzoo.torch_files reads the same).
"""

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flaxzoo.errors import UserError, unknown
from flaxzoo.torch_files import STORAGE_DTYPES
from flaxzoo.weight_files import METADATA_KEY

_STORAGES = {np.dtype(dtype).name: name for name, dtype in STORAGE_DTYPES.items()}
_ALIGNMENT = 64  # of storages in a file, as torch's own, so that they can be mapped into memory


def write_state_dict(
    path: str | Path, weights: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None
) -> None:
    """Writes arrays by torch's names to a file of the kind that its suffix says.

    `.pth` and `.pt` are read by torch.load(weights_only=True), `.safetensors` by whatever reads
    such, `.npz` by numpy.load; all of them by `flaxzoo.weight_files.read_state_dict`. bfloat16,
    which NumPy's format does not know, becomes float32 in an .npz.

    Args:
        metadata: what torch keeps beside the weights by module: {"": {"version": 1}}. Not in .npz.

    Raises:
        UserError: another suffix, an array of a type that the format does not know, or a file that
            cannot be written. What was at `path` before is then still there, and nothing else.
    """
    with staged_state_dict(Path(path), weights, metadata):
        pass


@contextlib.contextmanager
def staged_state_dict(
    path: Path, weights: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Has everything written when it is entered; the file takes its place in the end.

    For the arguments and errors see `write_state_dict`.
    """
    write = check_suffix(path)
    # 0-d arrays stay such, which np.ascontiguousarray would not let them.
    arrays = {
        key: np.require(value, requirements="C").astype(value.dtype.newbyteorder("="), copy=False)
        for key, value in weights.items()
    }
    for key, array in arrays.items():
        if array.dtype.name not in _STORAGES:
            raise UserError(
                f"cannot write {path}: {key} is of {array.dtype}, which torch does not know."
            )
    with written(path) as part:
        write(part, arrays, dict(metadata or {}))
        yield


def check_suffix(path: Path) -> Callable[[Path, dict[str, np.ndarray], dict[str, Any]], None]:
    """Returns what writes files of this suffix.

    Raises:
        UserError: it is none of `WRITERS`.
    """
    if path.suffix.lower() not in WRITERS:
        raise unknown("suffix of a file of weights", path.suffix or path.name, WRITERS)
    return WRITERS[path.suffix.lower()]


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yields a path beside `path`; what was written there takes its place, unless that failed.

    Raises:
        UserError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _write_safetensors(
    path: Path, weights: dict[str, np.ndarray], metadata: dict[str, Any]
) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    text = {"format": "pt"}  # as torch's users write it; transformers refuses files without
    if metadata:
        text[METADATA_KEY] = json.dumps(metadata)
    try:
        save_file(weights, path, metadata=text)
    except SafetensorError as error:  # what it makes of an OSError
        raise OSError(str(error)) from error


def _write_npz(path: Path, weights: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {
        key: value.astype(np.float32) if value.dtype == ml_dtypes.bfloat16 else value
        for key, value in weights.items()
    }
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _write_torch(path: Path, weights: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Writes what torch.save writes since torch 1.6."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def put(name: str, content: Any) -> None:
            member = zipfile.ZipInfo(f"archive/{name}", date_time=(1980, 1, 1, 0, 0, 0))
            # A local header has 30 bytes, the name and the extra field, which fills up the rest.
            assert archive.fp is not None
            start = archive.fp.tell() + 30 + len(member.filename) + 4
            fill = -start % _ALIGNMENT
            member.extra = struct.pack("<2sH", b"FB", fill) + b"Z" * fill
            archive.writestr(member, content)

        put("data.pkl", _pickled(weights, metadata))
        put("byteorder", b"little")
        for number, value in enumerate(weights.values()):
            put(f"data/{number}", value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
        put("version", b"3\n")


def _pickled(weights: dict[str, np.ndarray], metadata: dict[str, Any]) -> bytes:
    """Returns the pickle of an OrderedDict of tensors, each of a storage of its own.

    It is put together from pickle's opcodes, since a Pickler names nothing that it cannot import.
    """
    out = io.BytesIO()
    out.write(pickle.PROTO + b"\x02" + _EMPTY_DICT + pickle.MARK)
    for number, (key, value) in enumerate(weights.items()):
        storage = f"{_STORAGES[value.dtype.name]}"
        strides = tuple(step // value.itemsize for step in _strides(value))
        out.write(_plain(key))
        out.write(_named("torch._utils", "_rebuild_tensor_v2") + pickle.MARK)
        out.write(pickle.MARK + _plain("storage") + _named("torch", storage))
        out.write(_plain(str(number)) + _plain("cpu") + _plain(value.size))
        out.write(pickle.TUPLE + pickle.BINPERSID)
        out.write(_plain(0) + _plain(value.shape) + _plain(strides) + _plain(False) + _EMPTY_DICT)
        out.write(pickle.TUPLE + pickle.REDUCE)
    out.write(pickle.SETITEMS)
    if metadata:
        out.write(_plain({"_metadata": metadata}) + pickle.BUILD)
    out.write(pickle.STOP)
    return out.getvalue()


def _strides(value: np.ndarray) -> tuple[int, ...]:
    """Returns the strides of a contiguous array; those of NumPy say nothing about sides of 1."""
    return np.empty(value.shape, value.dtype).strides


def _plain(value: Any) -> bytes:
    """Returns the opcodes that make numbers, texts, and tuples and dicts of them."""
    whole = pickle.dumps(value, protocol=2)
    return whole[2:-1]  # without PROTO and STOP


def _named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


_EMPTY_DICT = _named("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE

WRITERS = {
    ".pth": _write_torch,
    ".pt": _write_torch,
    ".safetensors": _write_safetensors,
    ".npz": _write_npz,
}
