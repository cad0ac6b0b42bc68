"""Files of weights are read without torch, and nothing in them is run.

The files that torch itself writes are in parity_tests/test_weight_files.py; here they are made by
hand, from the pickle opcodes that torch.save uses.
"""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from flaxzoo import UserError, create_model, load_torch, to_torch
from flaxzoo.weight_files import read_state_dict

# -------------------------------------------------------------------------------- torch's zip files


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def tensor(size, stride, offset=0, storage="FloatStorage", count=6) -> bytes:
    """Opcodes of torch._utils._rebuild_tensor_v2(storage, offset, size, stride)."""
    reference = text("storage") + b"ctorch\n" + storage.encode() + b"\n" + text("0") + text("cpu")
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + b"(" + reference + numbers((count,))[1:-1] + b"tQ"
        + numbers((offset,))[1:-1] + numbers(size) + numbers(stride)
        + b"tR"
    )  # fmt: skip


def archive(path: Path, opcodes: bytes, storage: bytes = b"") -> Path:
    """Writes a .pth file whose one entry "x" is what `opcodes` make."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights/data.pkl", b"\x80\x02}" + text("x") + opcodes + b"s.")
        file.writestr("weights/data/0", storage)
    return path


VALUES = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize(
    ("size", "stride", "offset", "expected"),
    [
        ((2, 3), (3, 1), 0, VALUES.reshape(2, 3)),
        ((3, 2), (1, 3), 0, VALUES.reshape(2, 3).T),
        ((2,), (2,), 1, VALUES[1:5:2]),
        ((4, 2), (0, 1), 4, np.tile(VALUES[4:], (4, 1))),
        ((), (), 5, VALUES[5]),
        ((0, 3), (3, 1), 0, np.zeros((0, 3))),
    ],
    ids=["whole", "transposed", "sliced", "expanded", "scalar", "empty"],
)
def test_a_tensor_is_a_view_of_its_storage(tmp_path, size, stride, offset, expected):
    path = archive(tmp_path / "w.pth", tensor(size, stride, offset), VALUES.tobytes())
    np.testing.assert_array_equal(read_state_dict(path)["x"], expected)


@pytest.mark.parametrize(
    ("opcodes", "storage"),
    [
        (tensor((7,), (1,)), VALUES.tobytes()),
        (tensor((2,), (1,), offset=5), VALUES.tobytes()),
        (tensor((2,), (1,), offset=-1), VALUES.tobytes()),
        (tensor((2,), (-1,), offset=3), VALUES.tobytes()),
        (tensor((2, 2), (1,)), VALUES.tobytes()),
        (tensor((6,), (1,)), VALUES.tobytes()[:-1]),
        (tensor((6,), (1,), count=2**30), VALUES.tobytes()),
        (tensor((6,), (1,)) + b"0", VALUES.tobytes()),
    ],
    ids=["long", "beyond", "before", "backwards", "rank", "short storage", "count", "pickle"],
)
def test_a_tensor_that_leaves_its_storage_is_refused(tmp_path, opcodes, storage):
    path = archive(tmp_path / "w.pth", opcodes, storage)
    with pytest.raises(UserError, match=r"w\.pth is damaged or not a file of weights"):
        read_state_dict(path)


class RunsCode:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    trace = tmp_path / "it ran"
    content = io.BytesIO()
    pickle.Pickler(content, protocol=2).dump({"x": RunsCode(trace)})
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
        file.writestr("weights/data.pkl", content.getvalue())
    with pytest.raises(UserError, match=r"asks for (posix|nt)\.system .* could run code"):
        read_state_dict(tmp_path / "w.pth")
    assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins\neval", "torch.hub\nload", "torch._utils\n_rebuild_sparse_tensor", "torch\nload"],
)
def test_other_functions_than_those_that_make_tensors_are_refused(tmp_path, name):
    path = archive(tmp_path / "w.pth", b"c" + name.encode() + b"\n")
    with pytest.raises(UserError, match=f"asks for {name.replace(chr(10), '.')} when opened"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"K\x01", "holds other things than tensors: x; expected a state_dict"),
        (b"}", "holds other things than tensors: x"),
        (b"}s0]", "holds a list, not a dict of tensors"),  # drops the dict, leaves a list
        (b"K\x01sK\x01K\x02", "holds a dict, not a dict of tensors by name"),
    ],
    ids=["a number", "nested", "a list", "a key that is no name"],
)
def test_other_content_than_a_flat_dict_is_refused(tmp_path, opcodes, message):
    content = b"\x80\x02}" + text("x") + opcodes
    content += b"." if opcodes.endswith(b"]") else b"s."
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
        file.writestr("weights/data.pkl", content)
    with pytest.raises(UserError, match=message):
        read_state_dict(tmp_path / "w.pth")


# -------------------------------------------------------------------------------------- safetensors


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int64])
def test_safetensors_keep_every_bit(tmp_path, dtype):
    tensors = {"a": np.arange(6, dtype=dtype).reshape(2, 3), "b.c": np.array(3, dtype)}
    save_file(tensors, tmp_path / "w.safetensors")
    read = read_state_dict(tmp_path / "w.safetensors")
    assert {k: (v.dtype, v.tolist()) for k, v in read.items()} == {
        k: (v.dtype, v.tolist()) for k, v in tensors.items()
    }


def test_safetensors_of_bfloat16(tmp_path):
    values = np.array([1.5, -2, 0.1], ml_dtypes.bfloat16)
    header = b'{"x":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}'
    data = struct.pack("<Q", len(header)) + header + values.tobytes()
    (tmp_path / "w.safetensors").write_bytes(data)
    read = read_state_dict(tmp_path / "w.safetensors")["x"]
    np.testing.assert_array_equal(np.asarray(read, np.float32), values.astype(np.float32))


def test_a_model_loads_a_file(tmp_path):
    exported = to_torch(create_model("resnet_tiny", seed=3))
    save_file(exported, tmp_path / "w.safetensors")
    loaded = create_model("resnet_tiny", pretrained=tmp_path / "w.safetensors")
    for key, value in to_torch(loaded).items():
        np.testing.assert_array_equal(value, exported[key], err_msg=key)


def test_weights_that_do_not_fit_are_refused_with_the_name_of_their_file(tmp_path):
    save_file({"x": np.ones(3)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"the weights in .*w\.safetensors .* unexpected: x"):
        load_torch(create_model("resnet_tiny", abstract=True), tmp_path / "w.safetensors")


# ---------------------------------------------------------------------------- files of another kind


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"", r"neither a file that torch\.save wrote nor \.safetensors"),
        ("w.pth", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "damaged or not a file of weights"),
        ("w.txt", b"not weights", "neither a file"),
        ("w.pth", b"PK\x03\x04 and no more", "damaged or not a file of weights"),
        ("w.safetensors", b"\xff" * 20, "damaged or not a file of weights"),
        ("w.safetensors", b"", "damaged or not a file of weights"),
    ],
    ids=["empty", "cut legacy", "text", "cut zip", "noise", "empty safetensors"],
)
def test_a_file_of_another_kind_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} .*{message}"):
        read_state_dict(tmp_path / name)


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
        file.writestr("holiday.jpg", b"")
    with pytest.raises(UserError, match=r"w\.pth is a zip file, but not one that torch\.save"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors", ""])
def test_what_is_not_a_file_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"cannot read the weights .*: (No such file|Is a dir)"):
        read_state_dict(tmp_path / name)
