"""Files made to harm who opens them: each is refused in one sentence, before it takes memory.

benchmarks/file_formats.py has the formats, benchmarks/fuzz_readers.py the random damage and the
property. What it has found and what is known of others' readers stands here, made by code.
"""

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks import file_formats, fuzz_readers
from benchmarks.file_formats import formats
from benchmarks.fuzz_readers import check
from flaxzoo import UserError, create_model, load_torch, to_torch
from flaxzoo.data import files, idx
from flaxzoo.data.unpack import unpack
from flaxzoo.weight_files import read_state_dict

TORCH_ZIP = dict(formats()["zip"].parts)
PICKLE = TORCH_ZIP["archive/data.pkl"]


def with_pickle(content: bytes) -> bytes:
    return file_formats.make_zip([*(TORCH_ZIP | {"archive/data.pkl": content}).items()])


def safetensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + data


def npz(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    return file_formats.make_zip(list(members), method)


def claiming(content: bytes, size: int) -> bytes:
    """Returns a zip of one member with another size in its directory."""
    at = content.index(b"PK\1\2") + 24
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def plain_pickle(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


LAUGHS = b"(t" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
ORDERED = b"ccollections\nOrderedDict\n"
MANY = b"]q\0(" + (text("x") + b"N\x86") * 600 + b"e0](" + (ORDERED + b"h\0\x85R") * 450 + b"e"
ZEROS = bytes(2**20)

ATTACKS = {
    # Pickles: whatever they call, announce or make is refused before it is done.
    "a function": ("zip", with_pickle(plain_pickle(b"cos\nsystem\n" + text("id") + b"\x85R"))),
    "a method": ("zip", with_pickle(plain_pickle(b"cbuiltins\ngetattr\n"))),
    "a memo of gigabytes": ("zip", with_pickle(plain_pickle(b"}r\xff\xff\xff\x0f"))),
    "a text of gigabytes": ("zip", with_pickle(plain_pickle(b"X\xff\xff\xff\x7f"))),
    "a long text": ("zip", with_pickle(plain_pickle(b"\x8d" + struct.pack("<Q", 2**60)))),
    "a byte array": ("zip", with_pickle(plain_pickle(b"\x96" + struct.pack("<Q", 2**33)))),
    "a frame": ("zip", with_pickle(b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b".")),
    "nested lists": ("zip", with_pickle(plain_pickle(b"]" * 2000 + b"a" * 1999))),
    "a key that takes ages to hash": ("zip", with_pickle(plain_pickle(b"}" + LAUGHS + b"Ns"))),
    "a text for it": ("zip", with_pickle(plain_pickle(ORDERED + LAUGHS + b"R"))),
    "one list again and again": ("zip", with_pickle(plain_pickle(MANY))),
    "a name twice": ("zip", with_pickle(plain_pickle(b"}" + (text("x") + b"Ns") * 2))),
    "a state for an array's type": ("zip", with_pickle(plain_pickle(b"ctorch\nFloatStorage\n}b"))),
    "a name that is no Unicode": (
        "zip",
        with_pickle(PICKLE.replace(b"fc.weight", b"fc\xed\xa0\x80ight")),
    ),
    "a name that moves the cursor": ("zip", with_pickle(PICKLE.replace(b"fc.weig", b"\x1b[2Jabc"))),
    # Storages and shapes.
    "a storage of gigabytes": (
        "legacy",
        formats()["legacy"].parts[0][1].replace(b"K\x06N", b"J\xff\xff\xff\x7fN"),
    ),
    "an announced length": (
        "torch_tar",
        file_formats.make_tar(
            [("storages", file_formats.pickled(2**40)), *file_formats.torch_tar()[1:]]
        ),
    ),
    "another byte order": (
        "zip",
        file_formats.make_zip([*(TORCH_ZIP | {"archive/byteorder": b"big"}).items()]),
    ),
    # Zip files.
    "a deflated pickle": ("zip", file_formats.deflated_zip(formats()["zip"].parts)),
    "a member twice": ("zip", file_formats.make_zip([*formats()["zip"].parts, *TORCH_ZIP.items()])),
    "a bomb": ("npz", claiming(npz(("x.npy", ZEROS), method=zipfile.ZIP_DEFLATED), 2**32 - 2)),
    "a bomb that claims nothing": (
        "npz",
        claiming(npz(("x.npy", ZEROS), method=zipfile.ZIP_DEFLATED), 200),
    ),
    "packed in a rare way": ("npz", npz(("x.npy", ZEROS), method=zipfile.ZIP_BZIP2)),
    "an image of gigabytes": (
        "images_zip",
        claiming(npz(("a/x.png", ZEROS), method=zipfile.ZIP_DEFLATED), 2**32 - 2),
    ),
    # NumPy's headers.
    "objects": ("npz", npz(("x.npy", npy("{'descr':'|O','fortran_order':False,'shape':(1,)}")))),
    "2^60 elements": (
        "npz",
        npz(("x.npy", npy(f"{{'descr':'<f4','fortran_order':False,'shape':({2**60},)}}"))),
    ),
    "fewer than none": (
        "npz",
        npz(("x.npy", npy("{'descr':'<f4','fortran_order':False,'shape':(-1,)}", bytes(4)))),
    ),
    "nested brackets": ("npz", npz(("x.npy", npy("(" * 900)))),
    # safetensors.
    "elements without data": ("safetensors", safetensors({"x": entry([2**60], 4)})),
    "a size that wraps around": ("safetensors", safetensors({"x": entry([2**62, 4], 0)})),
    "an end beyond the end": ("safetensors", safetensors({"x": entry([2**40], 2**42)}, bytes(8))),
    "a start behind the end": (
        "safetensors",
        safetensors({"x": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}, bytes(8)),
    ),
    "fewer than none elements": ("safetensors", safetensors({"x": entry([-1], 4)}, bytes(4))),
    "an unknown type": ("safetensors", safetensors({"x": entry([1], 4, "X9")}, bytes(4))),
    "the same bytes twice": (
        "safetensors",
        safetensors({"x": entry([1], 4), "y": entry([1], 4)}, bytes(4)),
    ),
    "one name twice": (
        "safetensors",
        safetensors(b'{"x":%s,"x":%s}' % ((json.dumps(entry([1], 4)).encode(),) * 2), bytes(4)),
    ),
    "a header of gigabytes": ("safetensors", struct.pack("<Q", 2**60) + b"{}"),
    "a nested header": ("safetensors", safetensors(b"[" * 100_000)),
    "a name of other bytes": ("safetensors", safetensors(b'{"\xff":{}}')),
    "metadata that is nested": (
        "safetensors",
        safetensors({"__metadata__": {"torch_metadata": "[" * 100_000}}),
    ),
    # Data sets.
    "an idx of 2^96 bytes": ("idx", gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12)),
    "an idx that wraps around": (
        "idx",
        gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**31, 4)),
    ),
    "a bomb of an idx": ("idx", gzip.compress(b"\0\0\x08\x01\0\0\0\7" + 20 * ZEROS, 1)),
    "no idx": ("idx", gzip.compress(bytes(20))),
    "a number of 5000 digits": (
        "table",
        b"image,label\ntrain/cat/0.png,%s\ntrain/cat/1.png,2\ntest/cat/0.png,2\n" % (b"1" * 5000),
    ),
    "a name of 5000 digits": (
        "table",
        b"image,label\n%s,1\ntrain/cat/1.png,1\ntest/cat/0.png,2\n" % (b"1" * 5000),
    ),
    "nested JSON": ("config", b"[" * 100_000),
    "nested objects": ("config", b'{"a":' * 100_000),
    "another size of images": (
        "config",
        json.dumps(
            file_formats.CONFIG
            | {"preparation": file_formats.CONFIG["preparation"] | {"resize": -1}}
        ).encode(),
    ),
    "a png of 65535 x 65535": (
        "png",
        formats()["png"]
        .parts[0][1]
        .replace(struct.pack(">II", 11, 9), struct.pack(">II", 65535, 65535)),
    ),
    "a jpeg of 65535 x 65535": (
        "jpeg",
        formats()["jpeg"].parts[0][1].replace(b"\x08\x00\x09\x00\x0b", b"\x08\xff\xff\xff\xff"),
    ),
}
# What is no harm: a text of digits, a dict with nothing in it; and a zip, of which an image is not.
READ = {"a number of 5000 digits", "a memo of gigabytes", "an image of gigabytes"}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_in_bounded_memory(tmp_path, name):
    kind, content = ATTACKS[name]
    whole = formats()[kind]
    assert content != whole.pack(whole.parts), "the attack is the file itself"
    assert check(kind, content, tmp_path) == (name in READ)


@pytest.mark.parametrize("name", formats())
def test_what_is_whole_is_read(tmp_path, name):
    form = formats()[name]
    assert check(name, form.pack(form.parts), tmp_path)


@pytest.mark.parametrize("name", formats())
def test_damage_is_read_or_refused(tmp_path, name):
    seen = fuzz_readers.fuzz(name, 100, tmp_path, measure=False, derandomize=True)
    assert seen["refused"] > 3


@pytest.mark.parametrize("name", ["safetensors", "legacy"])
def test_every_cut_is_refused(tmp_path, name):
    form = formats()[name]
    content, path = form.pack(form.parts), tmp_path / form.file
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(UserError):
            read_state_dict(path)


def test_an_expanded_tensor_of_gigabytes_is_refused(tmp_path):
    """A legal view, of one element again and again: it is what a copy would be."""
    storage = ("storage", ("global", "torch", "FloatStorage"), "7", "cpu", 6, None)
    rebuild = ("global", "torch._utils", "_rebuild_tensor_v2")
    tensor = ("call", rebuild, storage, 0, (2**20, 2**12), (0, 0), False, {})
    path = tmp_path / "w.pth"
    head = [0x1950A86A20F9469CFC6C, 1001, {}, {"x": tensor}, ["7"]]
    data = b"".join(map(file_formats.pickled, head)) + struct.pack("<q", 6) + bytes(24)
    path.write_bytes(data)
    with pytest.raises(UserError, match="far smaller than the 17,179,869,184 bytes"):
        read_state_dict(path)


def test_a_pickle_that_makes_object_after_object_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("flaxzoo.pickles.MAX_PICKLE", 2**12)
    assert not check("zip", with_pickle(plain_pickle(b"]" * 2**12)), tmp_path)
    assert check("zip", with_pickle(PICKLE), tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(UserError, match="a pipe or a device, no file"):
        read_state_dict(tmp_path / "w.pth")
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(OSError, match="a pipe or a device, no file"):
        files.open_files(str(tmp_path)).read("x.jpg")


def test_what_an_archive_claims_is_not_believed(tmp_path, monkeypatch):
    (tmp_path / "x.zip").write_bytes(ATTACKS["an image of gigabytes"][1])
    with pytest.raises(OSError, match="bytes in the archive claim to hold 4,294,967,294"):
        files.open_files(str(tmp_path / "x.zip")).read("a/x.png")
    monkeypatch.setattr(files, "_MAX_NAMES", 1000)
    (tmp_path / "x.zip").write_bytes(npz(*((name, b"") for name in ("a", "b", "x" * 900))))
    with pytest.raises(UserError, match="a name of 900 bytes among 3"):
        files.open_files(str(tmp_path / "x.zip"))


def test_two_weights_of_one_name_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", **{"fc.bias": np.ones(2), "module.fc.bias": np.ones(2)})
    with pytest.raises(UserError, match=r"fc\.bias twice, with and without module\."):
        read_state_dict(tmp_path / "w.npz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_and_named(value):
    weights = to_torch(create_model("resnet_tiny"))
    weights["fc.bias"][1] = value
    model = create_model("resnet_tiny", seed=1)
    before = to_torch(model)["fc.weight"]
    with pytest.raises(UserError, match=r"not finite: fc\.bias has NaN or infinity"):
        load_torch(model, weights)
    np.testing.assert_array_equal(to_torch(model)["fc.weight"], before)


# ------------------------------------------------------------------------------------ tar archives


def tar_with(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = ""):
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname = kind, size, link
    return made


def remote_of(path: Path):
    import hashlib

    from flaxzoo.data.archives import Remote

    content = path.read_bytes()
    return Remote("http://x/x.tar", len(content), hashlib.sha256(content).hexdigest())


def test_an_archive_writes_nothing_outside_its_folder(tmp_path):
    archive = tar_with(
        tmp_path / "x.tar",
        member("../../up.png"),
        member(f"{tmp_path}/absolute.png"),
        member("link.png", tarfile.SYMTYPE, link="/etc/passwd"),
        member("hard.png", tarfile.LNKTYPE, link="../../up.png"),
        member("device.png", tarfile.CHRTYPE),
        member("pipe.png", tarfile.FIFOTYPE),
        member("a/.."),
    )
    inside = tmp_path / "inside" / "images"
    assert unpack(archive, remote_of(archive), lambda name: ("train", "x"), inside) == 2
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()}
    assert written == {
        "x.tar", "inside/images/train/x/up.png", "inside/images/train/x/absolute.png"
    }  # fmt: skip


def test_an_archive_that_unpacks_to_gigabytes_stops(tmp_path, monkeypatch):
    monkeypatch.setattr("flaxzoo.data.unpack._MAX_FLOOR", 10_000)
    plain = tar_with(tmp_path / "x.tar", *(member(f"{i}.png", size=2000) for i in range(9)))
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(UserError, match="it unpacks to more than"):
        unpack(packed, remote_of(packed), lambda name: ("train", "x"), tmp_path / "images")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_an_archive_of_images_are_refused(tmp_path, kind):
    tar_with(tmp_path / "x.tar", member("cat/x.png", kind, link="/etc/passwd"))
    with pytest.raises(UserError, match=r"cat/x\.png is a link"):
        files.open_files(str(tmp_path / "x.tar"))


def test_a_compressed_tar_is_unpacked_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_UNCOMPRESSED", 2**16)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(ZEROS))
    with pytest.raises(UserError, match="compressed and can only be read from its beginning"):
        files.open_files(str(tmp_path / "x.tar.gz"))


def test_an_idx_is_unpacked_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "MAX_BYTES", 2**16)
    content = b"\0\0\x08\x01" + struct.pack(">I", 2**20) + ZEROS
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match="its header says"):
        idx.read(tmp_path / "x.gz")
