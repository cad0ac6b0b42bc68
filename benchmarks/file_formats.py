"""A small file of every format that flaxzoo reads, in parts, so that each can be damaged.

benchmarks/fuzz_readers.py damages them at random, tests/test_strangers.py on purpose. What torch
writes is written here without it.
"""

import contextlib
import gzip
import io
import json
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flaxzoo.data import cifar, idx
from flaxzoo.data.arrays import load_npz
from flaxzoo.data.files import open_files
from flaxzoo.data.folder import images
from flaxzoo.data.labels_csv import load_csv
from flaxzoo.data.options import Options
from flaxzoo.data.transforms import decode
from flaxzoo.saved_model import read_config
from flaxzoo.weight_files import read_state_dict
from flaxzoo.weight_writing import write_state_dict

Parts = list[tuple[str, bytes]]  # the members of an archive; of another file, itself

WEIGHTS = {
    "fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fc.bias": np.ones(2, np.float16),
    "steps": np.array(3),
}


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        file: its name.
        parts: of a whole and small one.
        pack: makes the file of them.
        read: takes its path.
    """

    file: str
    parts: Parts
    pack: Callable[[Parts], bytes]
    read: Callable[[Path], Any]


# ------------------------------------------------------------------------------------- small files


def _written(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"w{suffix}"
        write_state_dict(path, WEIGHTS, {"": {"version": 2}})
        return path.read_bytes()


def _unzipped(content: bytes) -> Parts:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def pickled(content: Any, protocol: int = 2) -> bytes:
    """Pickles plain things, ("global", module, name) and ("call", function, *arguments), and
    ("storage", *arguments)."""
    file = io.BytesIO()
    base: Any = pickle._Pickler  # the one in Python, of which instructions can be written

    class Pickler(base):
        def save_tuple(self, value: tuple) -> None:
            kind, *rest = value or ("",)
            if kind == "global":
                self.write(pickle.GLOBAL + "\n".join(rest).encode() + b"\n")
            elif kind == "call":
                self.save(rest[0])
                self.save(tuple(rest[1:]))
                self.write(pickle.REDUCE)
            elif kind == "storage":
                super().save_tuple(value)
                self.write(pickle.BINPERSID)
            else:
                super().save_tuple(value)

        dispatch = base.dispatch | {tuple: save_tuple}

    Pickler(file, protocol).dump(content)
    return file.getvalue()


def _legacy() -> bytes:
    storage = ("storage", ("global", "torch", "FloatStorage"), "7", "cpu", 6, None)
    rebuild = ("global", "torch._utils", "_rebuild_tensor_v2")
    tensor = ("call", rebuild, storage, 0, (2, 3), (3, 1), False, {})
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"x": tensor}, ["7"]]
    data = struct.pack("<q", 6) + np.arange(6, dtype=np.float32).tobytes()
    return b"".join(map(pickled, head)) + data


def torch_tar() -> Parts:
    storage = (1000, "cpu", ("global", "torch", "FloatStorage"))
    view = (1, 1000, ("global", "torch", "FloatTensor"))
    storages = [pickled(1), pickled(storage), struct.pack("<q", 6), bytes(24), pickled([])]
    tensors = [pickled(1), pickled(view), struct.pack("<ii5q", 2, 0, 2, 3, 3, 1, 0)]
    names = pickle.PROTO + b"\2" + pickle.EMPTY_DICT + pickle.SHORT_BINSTRING + b"\1x"
    names += pickle.SHORT_BINSTRING + b"\x011" + pickle.BINPERSID + pickle.SETITEM + pickle.STOP
    return [("storages", b"".join(storages)), ("tensors", b"".join(tensors)), ("pickle", names)]


def _image(kind: str, **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _photographs() -> Parts:
    return [
        (f"{split}/{name}/{i}.png", _image("PNG"))
        for split in ("train", "test") for name in ("cat", "dog") for i in range(2)
    ]  # fmt: skip


def _npz(arrays: dict[str, Any]) -> Parts:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return _unzipped(file.getvalue())


def _cifar() -> Parts:
    pixels = ("global", "numpy._core.multiarray", "_reconstruct")
    array = ("call", pixels, ("global", "numpy", "ndarray"), (0,), b"b")
    dtype = ("call", ("global", "numpy", "dtype"), "u1", False, True)
    with_state = pickled({"data": array, "labels": [3]}, 3).replace(
        pickle.REDUCE, pickle.REDUCE + pickled((1, (1, 3072), dtype, False, bytes(3072)), 3)[2:-1]
        + pickle.BUILD, 1
    )  # fmt: skip
    parts = {f"data_batch_{i}": with_state for i in range(1, 6)} | {"test_batch": with_state}
    parts["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")}, 2)
    return [(f"cifar-10-batches-py/{name}", content) for name, content in parts.items()]


CONFIG = {
    "flaxzoo_version": "1", "model": "resnet_tiny", "num_classes": 2, "in_channels": 3,
    "options": {}, "eps": "own", "classes": ["a", "b"],
    "preparation": {"image_size": 8, "resize": 9, "interpolation": "bilinear",
                    "mean": [0.5] * 3, "std": [0.2] * 3},
}  # fmt: skip
IDX = b"\0\0\x08\x03" + struct.pack(">3I", 2, 3, 4) + bytes(24)
TABLE = (
    b"image,label,split\ntrain/cat/0.png,1,train\ntrain/cat/1.png,1,val\ntest/cat/0.png,2,train\n"
)

# ----------------------------------------------------------------------------- packing and reading


def _plain(parts: Parts) -> bytes:
    return b"".join(content for _, content in parts)


def _gzip(parts: Parts) -> bytes:
    return gzip.compress(_plain(parts), 1, mtime=0)


def make_zip(parts: Parts, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in parts:
            member = zipfile.ZipInfo(name)
            member.compress_type = method
            # Its own way for names: without one of two of one name, which it warns of.
            archive.NameToInfo.pop(name, None)
            archive.writestr(member, content)
    return file.getvalue()


def deflated_zip(parts: Parts) -> bytes:
    return make_zip(parts, zipfile.ZIP_DEFLATED)


def make_tar(parts: Parts) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in parts:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _targz(parts: Parts) -> bytes:
    return gzip.compress(make_tar(parts), 1, mtime=0)


def _read_images(path: Path) -> None:
    files = open_files(str(path))
    for name in images(files, ""):
        with contextlib.suppress(OSError):  # which a data set makes a UserError of, with the name
            files.read(name)


def _read_table(path: Path) -> None:
    root = path.parent / "photographs.zip"
    if not root.exists():
        root.write_bytes(make_zip(_photographs()))
    load_csv(str(path), Options(data_dir=root))


def _read_config(path: Path) -> None:
    read_config(path.parent)


@cache
def formats() -> dict[str, Format]:
    """Returns the formats by name."""
    zipped, arrays = _unzipped(_written(".pth")), {"x_train": np.zeros((4, 2, 2), np.uint8)}
    arrays |= {"y_train": np.arange(4) % 2}
    cifar_file = cifar.FORMS["cifar10"].archives[1]
    safetensors = [("", _written(".safetensors"))]
    return {
        "zip": Format("w.pth", zipped, make_zip, read_state_dict),
        "legacy": Format("w.pth", [("", _legacy())], _plain, read_state_dict),
        "torch_tar": Format("w.pth", torch_tar(), make_tar, read_state_dict),
        "safetensors": Format("w.safetensors", safetensors, _plain, read_state_dict),
        "npz": Format("w.npz", _npz(WEIGHTS), deflated_zip, read_state_dict),
        "npz_data": Format("x.npz", _npz(arrays), make_zip, lambda path: load_npz(str(path))),
        "idx": Format("x.gz", [("", IDX)], _gzip, idx.read),
        "cifar": Format(
            cifar_file, _cifar(), _targz, lambda path: cifar.read(path, cifar.FORMS["cifar10"])
        ),
        "images_zip": Format("x.zip", _photographs(), deflated_zip, _read_images),
        "images_tar": Format("x.tar", _photographs(), make_tar, _read_images),
        "table": Format("x.csv", [("", TABLE)], _plain, _read_table),
        "config": Format("config.json", [("", json.dumps(CONFIG).encode())], _plain, _read_config),
        "jpeg": Format("x.jpg", [("", _image("JPEG"))], _plain, decode),
        "png": Format("x.png", [("", _image("PNG"))], _plain, decode),
    }
