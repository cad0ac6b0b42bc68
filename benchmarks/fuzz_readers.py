"""Damages small files of every format that flaxzoo reads, at random, and has them read.

    python -m benchmarks.fuzz_readers --minutes 15       all formats in turn; --formats zip legacy

The property: a result or a UserError of one line, in bounded memory and time. What breaks it is
shrunk by hypothesis and printed with its traceback; --found FOLDER keeps it.
tests/test_strangers.py runs a hundred examples of each format, always the same ones.
"""

import argparse
import collections
import contextlib
import gzip
import io
import json
import os
import pickle
import resource
import signal
import struct
import tarfile
import tempfile
import time
import traceback
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flaxzoo.data import cifar, idx
from flaxzoo.data.arrays import load_npz
from flaxzoo.data.files import open_files
from flaxzoo.data.folder import images
from flaxzoo.data.labels_csv import load_csv
from flaxzoo.data.options import Options
from flaxzoo.data.transforms import decode
from flaxzoo.errors import UserError
from flaxzoo.saved_model import read_config
from flaxzoo.weight_files import read_state_dict
from flaxzoo.weight_writing import write_state_dict

MOST_MEMORY = 2**28  # bytes that a reader may take for a file of kilobytes
MOST_SECONDS = 30
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


def _pickled(content: Any, protocol: int = 2) -> bytes:
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
    return b"".join(map(_pickled, head)) + data


def _torch_tar() -> Parts:
    storage = (1000, "cpu", ("global", "torch", "FloatStorage"))
    view = (1, 1000, ("global", "torch", "FloatTensor"))
    storages = [_pickled(1), _pickled(storage), struct.pack("<q", 6), bytes(24), _pickled([])]
    tensors = [_pickled(1), _pickled(view), struct.pack("<ii5q", 2, 0, 2, 3, 3, 1, 0)]
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
    with_state = _pickled({"data": array, "labels": [3]}, 3).replace(
        pickle.REDUCE, pickle.REDUCE + _pickled((1, (1, 3072), dtype, False, bytes(3072)), 3)[2:-1]
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


def _zip(parts: Parts, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in parts:
            member = zipfile.ZipInfo(name)
            member.compress_type = method
            # Its own way for names: without one of two of one name, which it warns of.
            archive.NameToInfo.pop(name, None)
            archive.writestr(member, content)
    return file.getvalue()


def _deflated(parts: Parts) -> bytes:
    return _zip(parts, zipfile.ZIP_DEFLATED)


def _tar(parts: Parts) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in parts:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _targz(parts: Parts) -> bytes:
    return gzip.compress(_tar(parts), 1, mtime=0)


def _read_images(path: Path) -> None:
    files = open_files(str(path))
    for name in images(files, ""):
        with contextlib.suppress(OSError):  # which a data set makes a UserError of, with the name
            files.read(name)


def _read_table(path: Path) -> None:
    root = path.parent / "photographs.zip"
    if not root.exists():
        root.write_bytes(_zip(_photographs()))
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
        "zip": Format("w.pth", zipped, _zip, read_state_dict),
        "legacy": Format("w.pth", [("", _legacy())], _plain, read_state_dict),
        "torch_tar": Format("w.pth", _torch_tar(), _tar, read_state_dict),
        "safetensors": Format("w.safetensors", safetensors, _plain, read_state_dict),
        "npz": Format("w.npz", _npz(WEIGHTS), _deflated, read_state_dict),
        "npz_data": Format("x.npz", _npz(arrays), _zip, lambda path: load_npz(str(path))),
        "idx": Format("x.gz", [("", IDX)], _gzip, idx.read),
        "cifar": Format(
            cifar_file, _cifar(), _targz, lambda path: cifar.read(path, cifar.FORMS["cifar10"])
        ),
        "images_zip": Format("x.zip", _photographs(), _deflated, _read_images),
        "images_tar": Format("x.tar", _photographs(), _tar, _read_images),
        "table": Format("x.csv", [("", TABLE)], _plain, _read_table),
        "config": Format("config.json", [("", json.dumps(CONFIG).encode())], _plain, _read_config),
        "jpeg": Format("x.jpg", [("", _image("JPEG"))], _plain, decode),
        "png": Format("x.png", [("", _image("PNG"))], _plain, decode),
    }


# ------------------------------------------------------------------------------------------ damage

NUMBERS = [0, 1, -1, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1]
TOKENS = [
    *(bytes([op]) for op in range(40, 128)), b"\x00", b"\xff" * 4, b"PK\1\2", b"PK\3\4", b"PK\5\6",
    b"[" * 3000, b'{"a":' * 3000, b"(" * 3000, b"NaN", b"1e999", b"null", b"-1", b"1" * 5000,
    b'"dtype"', b"cos\nsystem\n", b"r\xff\xff\xff\x0f", b"\xed\xa0\x80", b"|O", b"\x1f\x8b\x08",
]  # fmt: skip
NAMES = ["../x", "/etc/x", "", "a" * 300, "..", ".x", "x/", "\x1b[2J", "\u202ex", "archive/data/0"]


@st.composite
def edited(draw: st.DrawFn, content: bytes) -> bytes:
    """Returns some bytes with one place changed."""
    at = draw(st.integers(0, len(content)))
    kind = draw(st.sampled_from(["flip", "number", "token", "insert", "delete", "cut", "repeat"]))
    if kind == "flip" and at < len(content):
        return (
            content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :]
        )
    if kind == "number":
        size, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
        number = draw(st.sampled_from(NUMBERS)) % 256**size
        return content[:at] + number.to_bytes(size, order) + content[at + size :]
    if kind == "token":
        return content[:at] + draw(st.sampled_from(TOKENS)) + content[at:]
    if kind == "insert":
        return content[:at] + draw(st.binary(min_size=1, max_size=12)) + content[at:]
    end = at + draw(st.integers(1, 64))
    if kind == "repeat":
        return content[:end] + content[at:end] * draw(st.integers(1, 8)) + content[end:]
    return content[:at] + (content[end:] if kind == "delete" else b"")


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """Returns a file of the format of this name, damaged inside, as a whole, or both."""
    form = formats()[name]
    parts = list(form.parts)
    for _ in range(draw(st.integers(0, 3))):
        if not parts:
            break
        i = draw(st.integers(0, len(parts) - 1))
        what = draw(st.sampled_from(["edit"] * 5 + ["drop", "twice", "rename", "last"]))
        label, content = parts[i]
        if what == "edit":
            parts[i] = label, draw(edited(content))
        elif what == "rename":
            parts[i] = draw(st.sampled_from(NAMES)), content
        elif what == "drop":
            del parts[i]
        elif what == "twice":
            parts.insert(draw(st.integers(0, len(parts))), parts[i])
        else:
            parts.append(parts.pop(i))
    whole = form.pack(parts)
    return draw(edited(whole)) if draw(st.booleans()) else whole


# ---------------------------------------------------------------------------------------- property


def check(name: str, content: bytes, folder: Path, *, measure: bool = True) -> bool:
    """Has a file read; returns whether it was, and not refused.

    Args:
        measure: whether memory is, which doubles the time.

    Raises:
        AssertionError: the refusal is no printable line, or too much memory was taken.
        Exception: whatever else than UserError the reader raises.
    """
    form = formats()[name]
    path = folder / form.file
    path.write_bytes(content)
    peak = 0
    if measure:
        tracemalloc.start()
    try:
        form.read(path)
        read = True
    except UserError as error:
        message, read = str(error), False
        assert message.encode(), "a refusal without a word"
        assert "\n" not in message, message
        assert len(message) < 4000, message
    finally:
        if measure:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peak < MOST_MEMORY + 4 * len(content), f"{peak:,} bytes for {len(content):,}"
    return read


def fuzz(
    name: str, count: int, folder: Path, *, measure: bool = True, **options: Any
) -> dict[str, int]:
    """Checks `count` damaged files; returns how many were read and how many refused.

    Args:
        measure: see `check`.
        options: of hypothesis.settings.
    """
    seen: collections.Counter[str] = collections.Counter()

    @settings(
        max_examples=count, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], **options,
    )  # fmt: skip
    @given(damaged(name))
    def run(content: bytes) -> None:
        signal.alarm(MOST_SECONDS)
        try:
            read = check(name, content, folder, measure=measure)
            seen["read" if read else "refused"] += 1
        except BaseException:
            seen["broken"] += 1
            (folder / f"{name}.broken").write_bytes(content)  # the last is the smallest
            raise
        finally:
            signal.alarm(0)

    run()
    return dict(seen)


def _too_slow(*_: Any) -> None:
    raise AssertionError(f"more than {MOST_SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--formats", nargs="*", default=list(formats()), choices=list(formats()))
    parser.add_argument("--found", type=Path, help="a folder for what breaks a reader")
    parsed = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_slow)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    most = used + 4 * MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    end, total = time.monotonic() + 60 * parsed.minutes, collections.Counter()
    while time.monotonic() < end:
        for name in parsed.formats:
            if time.monotonic() > end:
                break
            with tempfile.TemporaryDirectory() as folder:
                try:
                    for what, number in fuzz(name, 50, Path(folder)).items():
                        total[name, what] += number
                except (Exception, BaseExceptionGroup) as error:
                    total[name, "broken"] += 1
                    traceback.print_exc(limit=-4)
                    broken = (Path(folder) / f"{name}.broken").read_bytes()
                    print(f"{name}: {type(error).__name__}, a file of {len(broken)} bytes")
                    if parsed.found:
                        parsed.found.mkdir(parents=True, exist_ok=True)
                        (parsed.found / f"{name}.{abs(hash(broken)):x}").write_bytes(broken)
    for (name, what), number in sorted(total.items()):
        print(f"{name:12s} {what:8s} {number:7,d}")


if __name__ == "__main__":
    main()
