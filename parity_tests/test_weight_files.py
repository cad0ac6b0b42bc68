"""Files that torch writes are read without torch, bit for bit, and torch takes what we export."""

from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch

import torch_ref
from flaxzoo import UserError, create_model, load_torch, to_torch
from flaxzoo.weight_files import read_state_dict


def base(*shape) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape))


TENSORS = {
    "float32": base(2, 3).float(),
    "float64": base(2, 3),
    "float16": base(2, 3).half(),
    "bfloat16": base(2, 3).bfloat16(),
    "int64": torch.tensor([1, -(2**40)]),
    "int32": torch.tensor([1, -2], dtype=torch.int32),
    "int16": torch.tensor([1, -2], dtype=torch.int16),
    "int8": torch.tensor([1, -2], dtype=torch.int8),
    "uint8": torch.tensor([1, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 3),
    "transposed": base(2, 3, 4).permute(2, 0, 1),
    "view": base(6, 4)[1::2, 2:],
    "expanded": torch.arange(3.0).expand(2, 3),
    "parameter": torch.nn.Parameter(base(3)),
    "negated parameter": torch.nn.Parameter(-base(3), requires_grad=False),
}


def as_numpy(value: torch.Tensor) -> np.ndarray:
    value = value.detach()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


@pytest.mark.parametrize("make", [dict, OrderedDict])
def test_every_kind_of_tensor_is_read_bit_for_bit(tmp_path, make):
    torch.save(make(TENSORS), tmp_path / "w.pth")
    read = read_state_dict(tmp_path / "w.pth")
    assert list(read) == list(TENSORS)
    for key, tensor in TENSORS.items():
        assert str(read[key].dtype) == str(tensor.dtype).removeprefix("torch."), key
        ours = read[key].astype(np.float32) if key == "bfloat16" else read[key]
        np.testing.assert_array_equal(ours, as_numpy(tensor), err_msg=key)


def test_tensors_may_share_a_storage(tmp_path):
    whole = base(4, 4)
    torch.save({"whole": whole, "row": whole[2]}, tmp_path / "w.pth")
    read = read_state_dict(tmp_path / "w.pth")
    np.testing.assert_array_equal(read["whole"], whole)
    np.testing.assert_array_equal(read["row"], whole[2])


@pytest.mark.parametrize("kind", ["state_dict", ".pth", ".safetensors"])
def test_weights_travel_from_torch(tmp_path, kind):
    state_dict = torch_ref.create_model("resnext_tiny").state_dict()
    source, path = state_dict, tmp_path / f"w{kind}"
    if kind == ".pth":
        torch.save(state_dict, path)
        source = path
    elif kind == ".safetensors":
        safetensors.torch.save_file(state_dict, path)
        source = str(path)
    model = create_model("resnext_tiny")
    load_torch(model, source)
    for key, value in to_torch(model).items():
        np.testing.assert_array_equal(value, state_dict[key], err_msg=key)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_other_dtypes_become_the_models(dtype):
    state_dict = torch_ref.create_model("resnet_tiny").to(dtype).state_dict(keep_vars=True)
    model = create_model("resnet_tiny")
    load_torch(model, state_dict)
    expected = as_numpy(state_dict["fc.bias"]).astype(np.float32)
    np.testing.assert_array_equal(model.fc.bias[...], expected)


@pytest.mark.parametrize("param_dtype", ["float32", "bfloat16"])
def test_torch_takes_the_export_strictly(param_dtype):
    model = create_model("resnext_tiny", seed=5, param_dtype=param_dtype)
    twin = torch_ref.create_model("resnext_tiny")
    exported = to_torch(model)
    twin.load_state_dict({k: torch.from_numpy(v) for k, v in exported.items()}, strict=True)
    for key, value in twin.state_dict().items():
        np.testing.assert_array_equal(value, exported[key], err_msg=key)


def test_the_format_before_torch_1_6_is_refused(tmp_path):
    torch.save(TENSORS, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"neither a zip written by torch\.save \(torch >= 1\.6\)"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("left", [0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, left):
    path = tmp_path / "w.pth"
    torch.save(torch_ref.create_model("resnet_tiny").state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    with pytest.raises(UserError, match=r"w\.pth is damaged or not a file of weights"):
        read_state_dict(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"x": torch.full((1000,), 1.25)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((10,), 1.25).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": TENSORS, "epoch": 3}, "other things than tensors: state_dict, epoch"),
        ([base(3)], "holds a list, not a dict of tensors by name"),
        (base(3), "holds a ndarray, not a dict"),
        ({0: base(3)}, "holds a dict, not a dict of tensors by name"),
        (torch.nn.Linear(2, 2), r"asks for torch\.nn\.modules\.linear\.Linear when opened"),
        ({"x": base(3, 3).to_sparse()}, r"asks for torch\._utils\._rebuild_sparse_tensor"),
    ],
    ids=["training checkpoint", "list", "tensor", "numbered", "whole module", "sparse"],
)
def test_other_content_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        read_state_dict(tmp_path / "w.pth")
