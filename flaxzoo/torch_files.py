"""Reads what torch.save wrote, without torch and without running its code.

It has written three formats, all of them still on users' disks and on servers: a zip since torch
1.6, before that one stream of pickles and raw bytes, and in torch 0.1 a tar archive. Each holds a
pickle, which can name any function to call; the reader here knows the handful of names that rebuild
tensors, and refuses every other.
"""

import math
import pickle
import struct
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flaxzoo.errors import UserError
from flaxzoo.pickles import MAX_PICKLE, SafeUnpickler
from flaxzoo.zip_files import open_zip

STORAGE_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first object of a file of torch 0.2 to 1.5
LEGACY_START = pickle.dumps(_LEGACY_MAGIC, protocol=2)
TAR_START = 257, b"ustar"  # where in a tar file, and what


def read_zip(path: Path) -> Any:
    """Returns what is in a file of torch 1.6 or newer, with arrays for tensors.

    Raises:
        Exception: of many kinds, where the file is damaged; UserError: where it is another's.
    """
    with open_zip(path, compressed=False) as archive:
        names = archive.namelist()
        pickles = [n for n in names if n.endswith("data.pkl") and n.count("/") == 1]
        if len(pickles) != 1:
            raise UserError(f"{path} is a zip file, but not one that torch.save wrote.")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise UserError(f"{path} has its numbers' bytes in another order than little-endian.")
        storages: dict[str, np.ndarray] = {}

        def storage(pid: Any) -> np.ndarray:
            dtype, key, count = _storage_of(pid[:5])
            if key not in storages:
                storages[key] = np.frombuffer(archive.read(f"{root}data/{key}"), dtype, count)
            return _as(storages[key], dtype)

        with archive.open(pickles[0]) as file:
            head = BytesIO(file.read(MAX_PICKLE))  # a member of a zip is slow byte by byte
        return _Unpickler(head, path, storage).load()


def read_legacy(path: Path) -> Any:
    """The same of torch 0.2 to 1.5: a pickle that names storages, the list of their keys, then each
    as its length and its bytes.

    Tensors are views of storages that are filled after them.
    """
    storages: dict[str, np.ndarray] = {}

    def storage(pid: Any) -> np.ndarray:
        *pid, view = pid
        dtype, key, count = _storage_of(pid)
        if key not in storages:
            claimed = sum(s.nbytes for s in storages.values()) + count * dtype.itemsize
            if claimed > size:  # before memory is taken for it
                raise ValueError(f"storages of {claimed} bytes in a file of {size} bytes")
            storages[key] = np.empty(count, dtype)
        whole = _as(storages[key], dtype)
        if view is None:
            return whole
        _, offset, length = view
        return _part(whole, offset, length)

    size = path.stat().st_size
    with path.open("rb") as file:
        magic, version, _system, content = (
            _Unpickler(file, path, storage).load() for _ in range(4)
        )
        if (magic, version) != (_LEGACY_MAGIC, 1001):
            raise ValueError("a file of another version than 1001")
        keys = _Unpickler(file, path).load()
        if sorted(keys) != sorted(storages):
            raise ValueError("its storages are others than those of its tensors")
        for key in keys:
            (count,) = struct.unpack("<q", _read(file, 8))
            if count != len(storages[key]):
                raise ValueError(f"storage {key} has {count} elements, not {len(storages[key])}")
            memory: Any = storages[key].view(np.uint8)
            if file.readinto(memory) != memory.nbytes:
                raise EOFError(f"{memory.nbytes} bytes expected, fewer left")
    return content


def read_tar(path: Path) -> Any:
    """The same of torch 0.1: three members, which are storages, tensors that are views of them, and
    a pickle that names tensors."""
    objects: dict[int, np.ndarray] = {}
    with tarfile.open(path, "r:") as archive:
        storages, tensors, names = (
            _member(archive, name) for name in ("storages", "tensors", "pickle")
        )
        for _ in range(_Unpickler(storages, path).load()):
            key, _location, dtype = _Unpickler(storages, path).load()
            (count,) = struct.unpack("<q", _read(storages, 8))
            content = _read(storages, _whole(count) * dtype.itemsize)
            objects[_whole(key)] = np.frombuffer(content, dtype)
        for target, root, offset, length in _Unpickler(storages, path).load():
            objects[_whole(target)] = _part(objects[_whole(root)], offset, length)
        for _ in range(_Unpickler(tensors, path).load()):
            key, storage, _kind = _Unpickler(tensors, path).load()
            ndim, _unused = struct.unpack("<ii", _read(tensors, 8))
            numbers = struct.unpack(f"<{2 * _whole(ndim) + 1}q", _read(tensors, 16 * ndim + 8))
            size, stride, offset = numbers[:ndim], numbers[ndim:-1], numbers[-1]
            tensor = _rebuild_tensor(objects[_whole(storage)], offset, size, stride)
            objects[_whole(key)] = tensor
        return _Unpickler(names, path, lambda pid: objects[int(pid)]).load()


def _member(archive: tarfile.TarFile, name: str) -> BytesIO:
    member = archive.getmember(name)
    file = archive.extractfile(member) if member.isreg() and not member.issparse() else None
    if file is None:
        raise ValueError(f"{name} is no file")
    return BytesIO(file.read())


def _read(file: Any, count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise EOFError(f"{count} bytes expected, {len(content)} left")
    return content


def _whole(number: Any) -> int:
    """Raises ValueError unless it is a whole number that a size, a place or a key can be."""
    if type(number) is not int or not 0 <= number < 2**48:
        raise ValueError("a size, a place or a key is no whole number from 0, or far too large")
    return number


def _storage_of(pid: Any) -> tuple[np.dtype, str, int]:
    """Returns the type, the key and the number of elements of a storage."""
    _, dtype, key, _location, count = pid
    if not isinstance(dtype, np.dtype) or type(key) is not str:
        raise ValueError("a storage without a type or a key")
    return dtype, key, _whole(count)


def _as(storage: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if storage.dtype != dtype:
        raise ValueError(f"one storage of both {storage.dtype} and {dtype}")
    return storage


def _part(storage: np.ndarray, offset: Any, length: Any) -> np.ndarray:
    if _whole(offset) + _whole(length) > storage.size:
        raise ValueError(f"elements {offset} to {offset + length} of {storage.size}")
    return storage[offset : offset + length]


def _rebuild_tensor(
    storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> np.ndarray:
    """Returns the view of `storage` that a tensor is; refuses one that leaves the storage."""
    for number in (offset, *size, *stride):
        _whole(number)
    if len(size) != len(stride):
        raise ValueError(f"a tensor of size {size}, strides {stride}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= storage.size:
        raise ValueError(f"a tensor of size {size} in a storage of {storage.size} elements")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _size(sides: Any) -> tuple:
    if type(sides) is not tuple:
        raise ValueError("a size that is no tuple")
    return sides


class _Inert:
    """Stands for an object that training checkpoints hold beside weights; it does nothing."""

    def __init__(self, *_: Any):
        pass


class _Unpickler(SafeUnpickler):
    """Rebuilds tensors as NumPy arrays; whatever could run code is refused."""

    def __init__(self, file: Any, path: Path, storage: Callable[[Any], np.ndarray] | None = None):
        super().__init__(file, encoding="utf-8")
        self._path = path
        self._storage = storage
        self._pairs = 0  # that OrderedDicts were made of

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in STORAGE_DTYPES:
            return np.dtype(STORAGE_DTYPES[name])
        if module == "torch" and name.replace("Tensor", "Storage") in STORAGE_DTYPES:
            return name  # the type of a tensor in a tar file
        allowed = {
            ("collections", "OrderedDict"): self._ordered,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch", "Size"): _size,
            ("argparse", "Namespace"): _Inert,  # the flags of the run
            ("pathlib", "PosixPath"): _Inert,
        }
        if (module, name) not in allowed:
            raise UserError(
                f"{self._path} asks for {ascii(f'{module}.{name}')[1:-1]} when opened; only "
                "tensors are loaded from a file, since anything else could run code."
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        if self._storage is None:
            raise ValueError("a tensor where there can be none")
        return self._storage(pid)

    def _ordered(self, pairs: Any = ()) -> OrderedDict:
        """As Python 2 pickled it, whole; Python 3 makes an empty one and sets its items."""
        self._pairs += len(pairs)
        if self._pairs > MAX_PICKLE // 8:  # one list may be named again and again
            raise ValueError("a pickle that makes too much of one list")
        made: OrderedDict = OrderedDict()
        self.put(made, [part for key, value in pairs for part in (key, value)])
        return made

    def new(self, kind: Any) -> Any:
        return _Inert() if kind is _Inert else super().new(kind)

    def set_state(self, made: Any, state: Any) -> None:
        if isinstance(made, OrderedDict) and isinstance(state, dict):
            made._metadata = state.get("_metadata")  # type: ignore
        elif not isinstance(made, _Inert):
            super().set_state(made, state)
