"""flaxzoo convert: the model is found, every key is told, nothing changes on the way."""

import json

import numpy as np
import pytest

from flaxzoo import commands, conversion, create_model, from_pretrained, to_torch
from flaxzoo.conversion import identify
from flaxzoo.errors import UserError
from flaxzoo.models import VARIANTS
from flaxzoo.saved_model import read_config
from flaxzoo.sources import Source
from flaxzoo.weight_files import read_state_dict
from flaxzoo.weight_writing import write_state_dict


@pytest.fixture
def few(monkeypatch):
    """Leaves so many models to find the right one among."""
    names = ("resnet_tiny", "resnet18", "resnext_tiny", "test_vit", "test_vgg", "test_mobilenet_v3")
    monkeypatch.setattr(conversion, "VARIANTS", {name: VARIANTS[name] for name in names})


def source(weights) -> Source:
    return Source("w.pth", weights, getattr(weights, "_metadata", {}))


@pytest.fixture(scope="module")
def weights():
    return to_torch(create_model("resnet_tiny", num_classes=7, in_channels=1, seed=1))


@pytest.fixture
def file(weights, tmp_path):
    write_state_dict(tmp_path / "in.pth", weights)
    return tmp_path / "in.pth"


def same(path, weights) -> None:
    read = read_state_dict(path)
    assert list(read) == list(weights) or path.suffix == ".safetensors"
    assert set(read) == set(weights)
    for key, value in weights.items():
        np.testing.assert_array_equal(read[key], value, err_msg=key)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_any_file_becomes_any_other(file, weights, suffix, capsys):
    out = file.with_name(f"out{suffix}")
    commands.run(["convert", str(file), str(out), "--model", "resnet_tiny"])
    same(out, weights)
    back = file.with_name("back.npz")
    commands.run(["convert", str(out), str(back), "--model=resnet_tiny", "--json"])
    same(back, weights)
    told = capsys.readouterr().out
    assert "resnet_tiny of 7 classes and 1 channels, its own names: 38 loaded" in told
    content = json.loads(told[told.index("{") :])
    assert content["counts"] == {"loaded": 38}
    assert {row["status"] for row in content["keys"]} == {"loaded"}


@pytest.mark.parametrize("name", ["resnet_tiny", "test_vit", "test_mobilenet_v3"])
def test_the_model_is_found_from_names_and_shapes(few, name):
    found = identify(source(to_torch(create_model(name, num_classes=7, seed=1))))
    assert found.model.variant == name
    assert found.model.num_classes == 7
    assert found.problems == {}


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet20"])
def test_the_model_is_found_among_all(name):
    shapes = to_torch(create_model(name, abstract=True, num_classes=10))
    given = {key: np.broadcast_to(np.zeros((), v.dtype), v.shape) for key, v in shapes.items()}
    found = identify(source(given))
    assert (found.model.variant, found.problems) == (name, {})


def test_values_and_types_stay(tmp_path, weights):
    halves = {
        key: value.astype(np.float16) if value.dtype == np.float32 else value + 5
        for key, value in weights.items()
    }
    write_state_dict(tmp_path / "in.safetensors", halves)
    arguments = [str(tmp_path / "in.safetensors"), str(tmp_path / "out.pth")]
    commands.run(["convert", *arguments, "--model=resnet_tiny"])
    read = read_state_dict(tmp_path / "out.pth")
    assert read["fc.weight"].dtype == np.float16
    assert read["bn1.num_batches_tracked"] == 5
    same(tmp_path / "out.pth", halves)


def test_counters_that_a_file_lacks_are_made(tmp_path, weights, capsys):
    few = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    write_state_dict(tmp_path / "in.npz", few)
    out = tmp_path / "out.npz"
    commands.run(["convert", str(tmp_path / "in.npz"), str(out), "--model=resnet_tiny"])
    same(out, weights)
    assert "6 made" in capsys.readouterr().out


def test_a_folder_is_made_and_read(file, weights, tmp_path):
    commands.run(["convert", str(file), f"{tmp_path}/saved/", "--model=resnet_tiny"])
    assert read_config(tmp_path / "saved").preparation == {}
    out = tmp_path / "out.npz"
    commands.run(["convert", str(tmp_path / "saved"), str(out)])  # it says which model it is
    same(out, weights)
    assert from_pretrained(tmp_path / "saved").in_channels == 1


def test_what_does_not_fit_is_told_key_by_key(tmp_path, weights, capsys):
    odd = {k: v for k, v in weights.items() if k != "fc.bias"} | {"extra": np.zeros(2, np.float32)}
    odd["bn1.weight"] = np.zeros(3, np.float32)
    write_state_dict(tmp_path / "in.npz", odd)
    arguments = ["convert", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    with pytest.raises(UserError, match=r"resnet_tiny: .*1 left over: extra; 1 missing: fc\.bias"):
        commands.run([*arguments, "--model=resnet_tiny", "--csv"])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "key,name,status,shape,dtype"
    assert "extra,,left over,2,float32" in told
    assert not (tmp_path / "out.npz").exists()


def test_weights_of_no_model_get_the_nearest(few, weights):
    odd = {k: v for k, v in weights.items() if k != "fc.bias"}
    with pytest.raises(UserError, match=r"nearest: resnet_tiny \(1 missing\)"):
        identify(source(odd))


@pytest.mark.parametrize(
    ("out", "words"),
    [("out.h5", "unknown suffix of a file of weights '.h5'"), ("out", "unknown suffix")],
)
def test_the_suffix_is_looked_at_first(out, words):
    with pytest.raises(UserError, match=words):
        commands.run(["convert", "none.pth", out])


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"IN: there is no file or folder .*none\.pth"):
        commands.run(["convert", str(tmp_path / "none.pth"), str(tmp_path / "out.npz")])
