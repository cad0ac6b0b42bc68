"""Trained models by reference: files of weights, saved models. Runs: tests/test_trained.py."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from flaxzoo import create_model, to_torch
from flaxzoo.errors import UserError
from flaxzoo.saved_model import save_pretrained
from flaxzoo.trained import load_trained

PREPARATION = {
    "image_size": 48, "resize": 50, "interpolation": "bicubic", "mean": (0.5,), "std": (0.2,),
}  # fmt: skip


def test_names_and_shapes_tell_which_model_a_file_is_of(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(dict(to_torch(create_model("convnet_bn", num_classes=7))), path)
    found = load_trained(str(path), image_size=28)
    assert (found.config.model.name, found.model.num_classes) == ("convnet_bn", 7)
    assert found.classes is None


def test_a_file_of_no_model_is_refused(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file({"a": np.zeros(1, np.float32)}, path)
    with pytest.raises(UserError, match=r"no model has exactly the names and shapes of .*mine"):
        load_trained(str(path))


@pytest.mark.parametrize("preparation", [None, PREPARATION])
def test_a_saved_model_brings_classes_sizes_and_preparation(tmp_path, preparation):
    model = create_model("test_vit", num_classes=2, image_size=48, seed=3)
    save_pretrained(model, tmp_path, classes=("cat", "dog"), preparation=preparation)
    found = load_trained(str(tmp_path))
    assert (found.classes, found.workdir, found.kind) == (("cat", "dog"), None, "")
    assert found.preparation.image_size == 48
    assert found.preparation.resize == (preparation["resize"] if preparation else 54)
    images = jnp.ones((1, 48, 48, 3))
    np.testing.assert_array_equal(found.model(images), model(images))


def test_a_saved_model_of_another_name_is_refused(tmp_path):
    save_pretrained(create_model("resnet_tiny"), tmp_path)
    with pytest.raises(UserError, match="is a saved resnet_tiny, but the model is resnet18"):
        load_trained(f"resnet18={tmp_path}")


def test_averaged_weights_that_were_not_kept_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"is no run: averaged weights"):
        load_trained(f"resnet_tiny={tmp_path / 'x.pth'}", kind="ema")


def test_a_missing_file_gets_one_sentence():
    with pytest.raises(UserError, match=r"no file and nothing published by the name 'nothing.pth'"):
        load_trained("nothing.pth")
