"""Models in folders: what is kept, what is refused, and that nothing is ever half there."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from flaxzoo import (
    create_model,
    from_pretrained,
    model_info,
    save_pretrained,
    saved_model,
    to_torch,
    weight_writing,
)
from flaxzoo.config import Config, ModelConfig
from flaxzoo.errors import UserError
from flaxzoo.saved_model import eps_of, read_config
from flaxzoo.sources import preparation_of
from flaxzoo.training.init_from import initial_model

WEIGHTS = model_info("resnet50").weights[0]


def same(a, b) -> None:
    a, b = to_torch(a), to_torch(b)
    assert a.keys() == b.keys()
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key], err_msg=key)


@pytest.fixture
def model():
    return create_model("resnet_tiny", num_classes=3, in_channels=1, planes=8, seed=1)


@pytest.fixture
def folder(model, tmp_path):
    return save_pretrained(
        model, tmp_path / "mine", classes=("cat", "dog", "é"), preparation=WEIGHTS
    )


def test_a_folder_gives_the_model_back(model, folder):
    back = from_pretrained(folder)
    same(back, model)
    assert (back.variant, back.num_classes, back.in_channels) == ("resnet_tiny", 3, 1)
    assert back.bn1.use_running_average
    config = read_config(folder)
    assert config.classes == ("cat", "dog", "é")
    assert config.preparation == WEIGHTS.preparation


def test_it_holds_two_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_dtype_is_chosen_when_it_is_loaded(folder, dtype):
    assert from_pretrained(folder, param_dtype=dtype).fc.bias.dtype == dtype


def test_create_model_takes_a_folder(model, folder):
    same(create_model("resnet_tiny", in_channels=1, pretrained=folder), model)


def test_create_model_gives_a_folder_another_head(model, folder):
    other = create_model("resnet_tiny", num_classes=5, in_channels=1, pretrained=str(folder))
    expected = to_torch(model)
    for key, value in to_torch(other).items():
        if key.startswith("fc."):
            assert len(value) == 5
        else:
            np.testing.assert_array_equal(value, expected[key], err_msg=key)


def test_a_run_starts_from_a_folder(model, folder):
    config = Config(init_from=str(folder), model=ModelConfig(name="resnet_tiny", num_classes=3))
    started, origin = initial_model(config, 1, "float32")
    same(started, model)
    assert origin is not None
    assert origin.options == {"planes": 8}
    assert preparation_of(str(folder), "resnet_tiny") == WEIGHTS.preparation


def test_a_folder_of_another_model_is_refused(folder):
    with pytest.raises(UserError, match="a saved resnet_tiny, but the model is resnet18: ask for"):
        create_model("resnet18", pretrained=folder)


def test_timms_eps_is_kept(tmp_path):
    model = create_model("test_mobilenet_v3", seed=1)
    for layer in (model.features[0][1],):
        layer.eps = model.timm_eps
    save_pretrained(model, tmp_path / "m")
    assert read_config(tmp_path / "m").eps == "timm"
    assert eps_of(from_pretrained(tmp_path / "m")) == "timm"
    assert eps_of(create_model("test_mobilenet_v3", pretrained=tmp_path / "m")) == "timm"


def test_saving_again_replaces_both_files_and_keeps_others(folder):
    (folder / "README.md").write_text("mine")
    other = create_model("resnext_tiny", seed=2)
    save_pretrained(other, folder)
    same(from_pretrained(folder), other)
    assert (folder / "README.md").read_text() == "mine"


# ----------------------------------------------------------------------------------------- refusals


def test_a_disk_that_fills_up_leaves_what_was_there(model, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(weight_writing.WRITERS, ".safetensors", full)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
        save_pretrained(create_model("resnext_tiny"), folder)
    same(from_pretrained(folder), model)
    assert len(list(folder.iterdir())) == 2


def test_a_save_that_is_killed_between_its_files_is_told(model, folder, monkeypatch):
    replace = weight_writing.os.replace

    def killed(source, target):
        if target.name == "config.json":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(weight_writing.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_pretrained(create_model("resnext_tiny"), folder)
    with pytest.raises(UserError, match=r"incomplete one: it has no config\.json; it holds model"):
        from_pretrained(folder)


def test_another_programs_config_stays(model, tmp_path):
    (tmp_path / "config.json").write_text('{"architecture": "resnet50"}')
    with pytest.raises(UserError, match="not of a saved model; it stays"):
        save_pretrained(model, tmp_path)
    with pytest.raises(UserError, match=r"not written by flaxzoo.*: it holds architecture; load"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "resnet_tin"}, r"unknown model 'resnet_tin'; did you mean 'resnet_tiny'"),
        ({"num_classes": "3"}, "config.json is damaged: it has num_classes='3'"),
        ({"classes": ["cat"]}, "3 classes apart; got the names of 1"),
        ({"size": 3}, r"config\.json is damaged: it has size=3"),
        ({"preparation": {"mean": [0]}}, r"says image_size, resize, .*; got mean"),
        ({"options": {"plane": 8}}, "unknown option of resnet_tiny 'plane'"),
        (
            {"num_classes": 4, "classes": []},
            r"model\.safetensors are not those of this ResNet: .*fc\.weight",
        ),
    ],
)
def test_a_config_that_cannot_be_is_told(folder, changes, words):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=words):
        from_pretrained(folder)


def test_damaged_files_are_told(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        from_pretrained(folder)
    weights.unlink()
    with pytest.raises(UserError, match=r"it has a config\.json but no model\.safetensors"):
        from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*config\.json"):
        from_pretrained(folder)


def test_other_weights_under_the_same_name_are_refused(folder):
    save_file({"x": np.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="unexpected: x"):
        from_pretrained(folder)


def test_what_create_model_did_not_make_is_refused(model, tmp_path):
    with pytest.raises(UserError, match=r"that flaxzoo\.create_model made; got a OrderedDict"):
        save_pretrained(to_torch(model), tmp_path)
    with pytest.raises(UserError, match="no values to save"):
        save_pretrained(create_model("resnet_tiny", abstract=True), tmp_path)
    with pytest.raises(UserError, match="3 classes apart; got the names of 1"):
        save_pretrained(model, tmp_path, classes=["cat"])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_told(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/m: Not a directory"):
        save_pretrained(model, tmp_path / "file" / "m")
    assert saved_model.is_saved(tmp_path) is False
