"""Reads files of weights into NumPy arrays, without torch and without running their code.

torch.save has written three formats, all of them still on users' disks and on servers: a zip since
torch 1.6, before that one stream of pickles and raw bytes, and in torch 0.1 a tar archive. Each
holds a pickle, and a pickle can name any function to call; this reader knows the handful of names
that rebuild tensors and refuses every other.
"""

import collections
import json
import pickle
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flaxzoo.errors import UserError

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
_LEGACY_START = pickle.dumps(_LEGACY_MAGIC, protocol=2)

# Where a training checkpoint keeps its weights, the averaged ones first, as timm prefers them.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
SUFFIXES = (".pth", ".pt", ".safetensors", ".bin", ".tar", ".ckpt", ".th", ".npz")
METADATA_KEY = "torch_metadata"  # of safetensors' header: StateDict.metadata as JSON
_PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel and of torch.compile


class StateDict(dict[str, np.ndarray]):
    """Arrays by torch's names.

    Attributes:
        metadata: what torch stores beside them by module, {"": {"version": 2}}, or nothing.
    """

    metadata: Mapping[str, Any] = {}


def read_state_dict(path: str | Path) -> StateDict:
    """Returns the tensors in a file of weights, by name.

    Reads what any torch.save has written, `.safetensors` and `.npz`. A training checkpoint may
    hold the weights under `state_dict_ema`, `model_ema`, `state_dict` or `model`; the first of
    these that is there is taken. The prefixes `module.` and `_orig_mod.` are removed.

    Raises:
        UserError: the file is not there, cannot be read, is of another kind, or holds no dict of
            tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_LEGACY_START))
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror or error}.") from None
    if start.startswith(b"PK\x03\x04"):
        read = _read_npz if path.suffix == ".npz" else _read_zip
    elif start == _LEGACY_START:
        read = _read_legacy
    elif path.suffix == ".safetensors":
        read = _read_safetensors
    elif tarfile.is_tarfile(path):
        read = _read_tar
    else:
        raise UserError(f"{path} is neither a file that torch.save wrote nor .safetensors or .npz.")
    try:
        return _checked(path, read(path))
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes the parsers raise
        raise UserError(f"{path} is damaged or not a file of weights: {error}") from None


def without_prefixes(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Removes what DataParallel and torch.compile put before every name, and what goes with it.

    `n_averaged` is the counter of torch.optim.swa_utils.AveragedModel, which adds `module.`, too.
    """
    named = {_PREFIXES.sub("", key): value for key, value in weights.items()}
    if named.keys() != weights.keys():
        named.pop("n_averaged", None)
    return named


def _checked(path: Path, content: Any) -> StateDict:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors by name.")
    if odd := [k for k, v in content.items() if not isinstance(v, np.ndarray)]:
        raise UserError(
            f"{path} holds other things than tensors: {', '.join(odd[:8])}; expected a state_dict, "
            f"alone or under one of {', '.join(_WRAPPERS)}."
        )
    state_dict = StateDict(
        {
            key: np.ascontiguousarray(v) if v.ndim else v
            for key, v in without_prefixes(content).items()
        }
    )
    metadata = getattr(content, "_metadata", None)
    if isinstance(metadata, dict):
        state_dict.metadata = without_prefixes(
            {k: v for k, v in metadata.items() if isinstance(k, str)}
        )
    return state_dict


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        keys = file.keys()  # it cannot be iterated over itself
        content: Any = collections.OrderedDict((key, file.get_tensor(key)) for key in keys)
        text = (file.metadata() or {}).get(METADATA_KEY)
    if text:
        content._metadata = json.loads(text)
    return content


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickles = [n for n in archive.namelist() if n.endswith("data.pkl") and n.count("/") == 1]
        if len(pickles) != 1:
            raise UserError(f"{path} is a zip file, but not one that torch.save wrote.")
        root = pickles[0].removesuffix("data.pkl")
        storages: dict[str, np.ndarray] = {}

        def storage(pid: Any) -> np.ndarray:
            _, dtype, key, _location, count = pid
            if key not in storages:
                storages[key] = np.frombuffer(archive.read(f"{root}data/{key}"), dtype, count)
            return storages[key]

        with archive.open(pickles[0]) as file:
            return _Unpickler(file, path, storage).load()


def _read_legacy(path: Path) -> Any:
    """A pickle that names storages, the list of their keys, then each as its length and its bytes.

    Tensors are views of storages that are filled after them.
    """
    storages: dict[str, np.ndarray] = {}

    def storage(pid: Any) -> np.ndarray:
        _, dtype, key, _location, count, view = pid
        if key not in storages:
            if count * dtype.itemsize > size:  # before memory is taken for it
                raise ValueError(f"a storage of {count} elements in a file of {size} bytes")
            storages[key] = np.empty(count, dtype)
        if view is None:
            return storages[key]
        _, offset, length = view
        return storages[key][offset : offset + length]

    size = path.stat().st_size
    with path.open("rb") as file:
        magic, version, _system, content = (
            _Unpickler(file, path, storage).load() for _ in range(4)
        )
        if (magic, version) != (_LEGACY_MAGIC, 1001):
            raise ValueError(f"a file of version {version}; expected 1001")
        for key in _Unpickler(file, path, storage).load():
            (count,) = struct.unpack("<q", _read(file, 8))
            if count != len(storages[key]):
                raise ValueError(f"storage {key} has {count} elements, not {len(storages[key])}")
            _fill(storages[key], file)
    return content


def _read_tar(path: Path) -> Any:
    """Three members: storages, tensors that are views of them, and a pickle that names tensors."""
    objects: dict[Any, np.ndarray] = {}
    with tarfile.open(path) as archive:
        storages, tensors, names = (
            _member(archive, name) for name in ("storages", "tensors", "pickle")
        )
        for _ in range(_Unpickler(storages, path).load()):
            key, _location, dtype = _Unpickler(storages, path).load()
            (count,) = struct.unpack("<q", _read(storages, 8))
            objects[key] = np.frombuffer(_read(storages, count * dtype.itemsize), dtype)
        for target, root, offset, length in _Unpickler(storages, path).load():
            objects[target] = objects[root][offset : offset + length]
        for _ in range(_Unpickler(tensors, path).load()):
            key, storage, _kind = _Unpickler(tensors, path).load()
            ndim, _unused = struct.unpack("<ii", _read(tensors, 8))
            numbers = struct.unpack(f"<{2 * ndim + 1}q", _read(tensors, 16 * ndim + 8))
            size, stride, offset = numbers[:ndim], numbers[ndim:-1], numbers[-1]
            objects[key] = _rebuild_tensor(objects[storage], offset, size, stride)
        return _Unpickler(names, path, lambda pid: objects[int(pid)]).load()


def _member(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file


def _read(file: Any, count: int) -> bytes:
    content = file.read(count) if count >= 0 else b""
    if len(content) != count:
        raise EOFError(f"{count} bytes expected, {len(content)} left")
    return content


def _fill(storage: np.ndarray, file: Any) -> None:
    if file.readinto(storage.view(np.uint8)) != storage.nbytes:
        raise EOFError(f"{storage.nbytes} bytes expected, fewer left")


class _Inert:
    """Stands for an object that training checkpoints hold beside weights; it does nothing."""

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Rebuilds tensors as NumPy arrays; whatever could run code is refused."""

    def __init__(self, file: Any, path: Path, storage: Callable[[Any], np.ndarray] | None = None):
        super().__init__(file, encoding="utf-8")
        self._path = path
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in STORAGE_DTYPES:
            return np.dtype(STORAGE_DTYPES[name])
        if module == "torch" and name.replace("Tensor", "Storage") in STORAGE_DTYPES:
            return name  # the type of a tensor in a tar file
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch", "Size"): tuple,
            ("argparse", "Namespace"): _Inert,  # the flags of the run
            ("pathlib", "PosixPath"): _Inert,
        }
        if (module, name) not in allowed:
            raise UserError(
                f"{self._path} asks for {module}.{name} when opened; only tensors are loaded from "
                "a file, since anything else could run code."
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        if self._storage is None:
            raise ValueError("a tensor where there can be none")
        return self._storage(pid)


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
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)
