"""`flaxzoo export` finds the model, and says what it did."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from flaxzoo import create_model, to_torch
from flaxzoo.checkpoint import Checkpoints
from flaxzoo.commands import run
from flaxzoo.config import Config, ModelConfig, data_config
from flaxzoo.convert import to_torch_layout, torch_name
from flaxzoo.errors import UserError
from flaxzoo.training.run import Run
from flaxzoo.training.trainer import build


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(to_torch(create_model("resnet_tiny", num_classes=4, seed=1)), path)
    return path


def said(path) -> dict:
    return json.loads(path.with_name(f"{path.name}.json").read_text())


def test_a_file_of_weights_is_exported(tmp_path, weights, capsys):
    out = tmp_path / "out.safetensors"
    run(["export", "resnet_tiny", "--weights", str(weights), "--image-size", "16",
         "--format", "safetensors", "--out", str(out), "--json"])  # fmt: skip
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["file"], row["description"]) == (str(out), f"{out}.json")
    assert row["error"] < 1e-5
    before, after = load_file(weights), load_file(out)
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    assert said(out)["output"]["shape"] == ["batch", 4]


def test_a_run_is_exported_with_its_classes_and_preparation(tmp_path, capsys):
    config = Config(
        data=data_config("digits", image_size=8), model=ModelConfig(name="resnet_tiny"),
        batch_size=64, duration="6 steps",
    )  # fmt: skip
    folder = Run(tmp_path / "run", config, tuple("0123456789"))
    _, state = build(config)
    checkpoints = Checkpoints(folder.checkpoints, keep=1)
    checkpoints.save(6, state, None)
    checkpoints.close()
    out = tmp_path / "out.safetensors"
    run(["export", str(folder.workdir), "--format", "safetensors", "--out", str(out)])
    assert f"wrote {out} (0.1 MB) and {out}.json" in capsys.readouterr().out
    saved = load_file(out)
    for name, value in state.params.items():
        np.testing.assert_array_equal(
            saved[torch_name(name)], to_torch_layout(name, np.asarray(value))
        )
    described = said(out)
    assert described["classes"] == list("0123456789")
    assert described["input"]["shape"] == ["batch", 1, 8, 8]
    assert (described["mean"], described["std"]) == ([0.305], [0.376])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["runs/x", "--weights", "w.pth"], "--weights goes with the name of a model.* got runs/x"),
        (["resnet_tiny", "--weights", "w.pth"], r"nothing published by the name 'w\.pth'"),
    ],
)
def test_slips_are_told(flags, message):
    with pytest.raises(UserError, match=message):
        run(["export", *flags, "--format", "torch", "--out", "m.pth"])


@pytest.mark.parametrize("flags", [[], ["--batch", "0"], ["--batch", "many"]])
def test_wrong_flags_are_refused(flags):
    with pytest.raises(UserError, match=r"flaxzoo export: .*; flaxzoo export --help tells more"):
        run(["export", "resnet50", *flags])
