"""Reads files of weights into NumPy arrays, without torch and without running their code.

A `.pth` file is a zip of one pickle and the raw bytes of each storage. A pickle can name any
function to call; this reader knows the handful of names that rebuild tensors and refuses every
other.
"""

import collections
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flaxzoo.errors import UserError

_STORAGE_DTYPES = {
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


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the tensors in a `.pth`/`.pt` (torch >= 1.6) or `.safetensors` file, by name.

    Raises:
        UserError: the file is not there, cannot be read, is of another kind, or holds something
            else than a flat dict of tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror or error}.") from None
    read = _read_torch_zip if magic == b"PK\x03\x04" else _read_safetensors
    if read is _read_safetensors and path.suffix != ".safetensors":
        raise UserError(
            f"{path} is neither a zip written by torch.save (torch >= 1.6) nor .safetensors."
        )
    try:
        content = read(path)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes the parsers raise
        raise UserError(f"{path} is damaged or not a file of weights: {error}") from None
    return _checked(path, content)


def _checked(path: Path, content: Any) -> dict[str, np.ndarray]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors by name.")
    if odd := [k for k, v in content.items() if not isinstance(v, np.ndarray)]:
        raise UserError(
            f"{path} holds other things than tensors: {', '.join(odd[:8])}; "
            "save the model's state_dict alone."
        )
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _read_torch_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickles = [n for n in archive.namelist() if n.endswith("data.pkl") and n.count("/") == 1]
        if len(pickles) != 1:
            raise UserError(f"{path} is a zip file, but not one that torch.save wrote.")
        root = pickles[0].removesuffix("data.pkl")
        with archive.open(pickles[0]) as file:
            return _TensorUnpickler(
                file, lambda key: archive.read(f"{root}data/{key}"), path
            ).load()


class _TensorUnpickler(pickle.Unpickler):
    """Rebuilds tensors as NumPy arrays; any other object is refused."""

    def __init__(self, file, read_storage: Callable[[str], bytes], path: Path):
        super().__init__(file, encoding="utf-8")
        self._read_storage = read_storage
        self._path = path
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _STORAGE_DTYPES:
            return np.dtype(_STORAGE_DTYPES[name])
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch", "Size"): tuple,
        }
        if (module, name) not in allowed:
            raise UserError(
                f"{self._path} asks for {module}.{name} when opened; only tensors are loaded from "
                "a file, since anything else could run code."
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, dtype, key, _location, count = pid
        if key not in self._storages:
            self._storages[key] = np.frombuffer(self._read_storage(key), dtype, count)
        return self._storages[key]


def _rebuild_tensor(
    storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> np.ndarray:
    """Returns the view of `storage` that a tensor is; refuses one that leaves the storage."""
    if any(n < 0 for n in (offset, *size, *stride)) or len(size) != len(stride):
        raise ValueError(f"a tensor of size {size}, strides {stride}, offset {offset}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.size:
        raise ValueError(f"a tensor of size {size} in a storage of {storage.size} elements")
    steps = [step * storage.itemsize for step in stride]
    return np.array(np.lib.stride_tricks.as_strided(storage[offset:], size, steps))
