"""torch reads what flaxzoo writes without it: files of every kind and folders of saved models."""

import numpy as np
import pytest
import safetensors.torch
import torch

import torch_ref
from flaxzoo import commands, create_model, save_pretrained, to_torch
from flaxzoo.weight_writing import write_state_dict
from parity_tests.comparing import installed

ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "float64": np.ones((2, 1, 3)),
    "float16": np.arange(3, dtype=np.float16),
    "int64": np.array(7),
    "int32": np.array([1, -2], np.int32),
    "uint8": np.array([1, 255], np.uint8),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torch_reads_every_kind_of_array(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    write_state_dict(path, ARRAYS)
    if suffix == ".pth":
        read = torch.load(path, weights_only=True)
        assert list(read) == list(ARRAYS)
        mapped = torch.load(path, weights_only=True, mmap=True)
        assert torch.equal(mapped["float32"], read["float32"])
    else:
        read = safetensors.torch.load_file(path)
    for key, value in ARRAYS.items():
        assert str(read[key].dtype) == f"torch.{value.dtype}", key
        np.testing.assert_array_equal(read[key].numpy(), value, err_msg=key)
        assert read[key].is_contiguous()


def test_bfloat16_stays(tmp_path):
    expected = torch.tensor([1.5, -2, 0.1], dtype=torch.bfloat16)
    torch.save({"fc.x": expected}, tmp_path / "in.pth")
    from flaxzoo.weight_files import read_state_dict

    for suffix in (".pth", ".safetensors"):
        write_state_dict(tmp_path / f"out{suffix}", read_state_dict(tmp_path / "in.pth"))
    assert torch.equal(torch.load(tmp_path / "out.pth")["fc.x"], expected)
    read = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert torch.equal(read["fc.x"], expected)


def test_the_twin_loads_a_saved_model_strictly(tmp_path):
    model = create_model("resnext_tiny", seed=5)
    folder = save_pretrained(model, tmp_path / "saved")
    twin = torch_ref.create_model("resnext_tiny")
    read = safetensors.torch.load_file(folder / "model.safetensors")
    twin.load_state_dict(read, strict=True)
    for key, value in twin.state_dict().items():
        np.testing.assert_array_equal(value, to_torch(model)[key], err_msg=key)


def test_the_twin_loads_a_converted_file_strictly(tmp_path):
    write_state_dict(tmp_path / "in.npz", to_torch(create_model("resnext_tiny", seed=5)))
    files = [str(tmp_path / "in.npz"), str(tmp_path / "out.pth")]
    commands.run(["convert", *files, "--model=resnext_tiny"])
    twin = torch_ref.create_model("resnext_tiny")
    twin.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True), strict=True)


def test_torchvision_takes_a_model_with_versions(tmp_path):
    model = create_model("mnasnet0_5", version=2)
    exported = to_torch(model)
    write_state_dict(tmp_path / "w.pth", exported, exported._metadata)  # pyright: ignore
    twin = installed("torchvision").models.get_model("mnasnet0_5")
    twin.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True), strict=True)
    assert torch.load(tmp_path / "w.pth", weights_only=True)._metadata == {"": {"version": 2}}


def test_timms_names_become_torchvisions(tmp_path, capsys):
    theirs = installed("timm").create_model("mobilenetv3_small_100", num_classes=7).state_dict()
    torch.save(theirs, tmp_path / "in.pth")
    files = [str(tmp_path / "in.pth"), str(tmp_path / "out.pth")]
    commands.run(["convert", *files, "--model=mobilenet_v3_small"])
    told = capsys.readouterr().out
    assert "7 classes and 3 channels, timm's names" in told
    assert "eps 1e-05" in told
    twin = installed("torchvision").models.mobilenet_v3_small(num_classes=7)
    twin.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True), strict=True)
