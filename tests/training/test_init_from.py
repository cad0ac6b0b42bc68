"""Runs that start from weights: files, runs and names; what fits, what is told, what is refused."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from flaxzoo import create_model, to_torch
from flaxzoo.checkpoint import Checkpoints
from flaxzoo.config import Config, ModelConfig, data_config
from flaxzoo.errors import UserError
from flaxzoo.layers import BatchNorm
from flaxzoo.layers.module import named_variables, value_of
from flaxzoo.training.init_from import initial_model
from flaxzoo.training.loop import train
from flaxzoo.training.run import Run
from flaxzoo.training.saved_run import Origin, origin_of
from flaxzoo.training.trainer import build

HEAD = {"fc.kernel", "fc.bias"}


def weights(seed: int = 1, **options) -> dict[str, np.ndarray]:
    return to_torch(create_model("resnet_tiny", seed=seed, **options))


def arrays(model) -> dict[str, np.ndarray]:
    return {name: np.asarray(value_of(v)) for name, v in named_variables(model).items()}


def resolved(init_from: object, classes: int = 10, **model) -> Config:
    return Config(
        init_from=str(init_from),
        data=data_config("digits", image_size=8),
        model=ModelConfig(**({"name": "resnet_tiny", "num_classes": classes} | model)),
    )


def start(init_from: object, classes: int = 10, channels: int = 1, **model):
    """Returns the arrays of a model that starts there, and its origin."""
    config = resolved(init_from, classes, **model)
    filled, origin = initial_model(config, channels, "float32")
    return arrays(filled), origin


def run_config() -> Config:
    """What `finished_run` was trained with, as far as a run can tell."""
    config = resolved("", 0)
    config.batch_size, config.duration, config.data.validation = 64, "6 steps", 0.0
    return config


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The folder of a run on the digits; step 4 is its best by validation, 6 its latest."""
    run = Run(tmp_path_factory.mktemp("runs") / "digits", run_config(), ("0", "1"))
    _, state = build(run_config())
    checkpoints = Checkpoints(run.checkpoints, keep=3)
    for step, accuracy in ((2, 0.3), (4, 0.9), (6, 0.5)):
        params = {name: (1 + 0.01 * step) * value for name, value in state.params.items()}
        checkpoints.save(step, dataclasses.replace(state, params=params), accuracy)
        run.log(step=step, val_accuracy=accuracy)
    checkpoints.close()
    with (run.workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "ep')  # cut short by a kill
    return run.workdir


@pytest.fixture
def run(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "digits")


def saved_arrays(run, step: int) -> dict[str, np.ndarray]:
    """Reads a checkpoint the way a run is resumed."""
    checkpoints = Checkpoints(run / "checkpoints", keep=3)
    state = jax.device_get(checkpoints.restore(build(run_config())[1], step))
    checkpoints.close()
    return state.params | state.batch_stats


# ------------------------------------------------------------------------------------------- files


def test_every_array_of_a_file_is_loaded_to_the_bit(tmp_path):
    save_file(weights(in_channels=1), tmp_path / "w.safetensors")
    got, origin = start(tmp_path / "w.safetensors")
    expected = arrays(create_model("resnet_tiny", in_channels=1, seed=1))
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    assert str(origin) == f"weights from {tmp_path / 'w.safetensors'}: everything loaded"


def test_other_classes_get_a_new_head_and_other_channels_an_adapted_convolution(tmp_path):
    save_file(weights(), tmp_path / "w.safetensors")
    got, origin = start(tmp_path / "w.safetensors", classes=4)
    loaded = arrays(create_model("resnet_tiny", seed=1))
    fresh = arrays(create_model("resnet_tiny", num_classes=4, in_channels=1, seed=0))
    for name, value in got.items():
        if name == "conv1.kernel":
            expected = loaded[name].sum(2, keepdims=True)
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        else:
            expected = (fresh if name in HEAD else loaded)[name]
            np.testing.assert_array_equal(value, expected, err_msg=name)
    assert "not loaded, of another number of classes: fc.weight, fc.bias" in str(origin)
    assert "adapted to the channels: conv1.weight" in str(origin)


def test_a_file_of_another_architecture_is_refused(tmp_path):
    save_file(to_torch(create_model("resnet20", seed=1)), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"w\.safetensors are not those of this ResNet: .*missing"):
        start(tmp_path / "w.safetensors")


def test_a_missing_file_is_told_with_the_nearest_ones(tmp_path):
    save_file({"a": np.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"no file or folder .*; did you mean .*weights\.safeten"):
        start(tmp_path / "weigths.safetensors")


def test_what_a_file_decides_is_kept_for_whoever_builds_the_model_again(tmp_path):
    file = to_torch(create_model("test_googlenet", seed=1))
    file = {key: value for key, value in file.items() if not key.startswith("aux")}
    save_file(file, tmp_path / "w.safetensors")
    config = resolved(tmp_path / "w.safetensors", 3, name="test_googlenet")
    model, origin = initial_model(config, 3, "float32")
    assert origin is not None
    assert origin.options == {"transform_input": True, "aux_logits": False}

    (tmp_path / "w.safetensors").unlink()
    again, same = initial_model(config, 3, "float32", origin)
    assert same == origin
    assert (again.transform_input, again.aux_logits) == (True, False)
    assert arrays(again).keys() == arrays(model).keys()


def test_timms_eps_stays_with_a_run_of_timms_weights():
    origin = Origin("w.pth", "w.pth", naming="timm")
    config = resolved("w.pth", name="mobilenet_v3_small")
    model, _ = initial_model(config, 3, "float32", origin)
    assert model.features[0][1].eps == 1e-5


# -------------------------------------------------------------------------------------------- runs


def test_a_run_gives_its_best_checkpoint(run):
    got, origin = start(run)
    for name, value in saved_arrays(run, 4).items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    assert origin.path == str(run / "checkpoints" / "4")


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/4"])
def test_its_folder_of_checkpoints_or_one_of_them_will_do(run, place):
    _, origin = start(run / place)
    assert origin.path == str(run / "checkpoints" / "4")


def test_a_certain_checkpoint_can_be_had(run):
    got, _ = start(run / "checkpoints" / "2")
    for name, value in saved_arrays(run, 2).items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_without_validation_it_is_the_latest(run):
    (run / "metrics.jsonl").unlink()
    assert start(run)[1].path == str(run / "checkpoints" / "6")


def test_a_run_on_other_classes_gives_all_but_its_head(run):
    got, origin = start(run, classes=3)
    fresh = arrays(create_model("resnet_tiny", num_classes=3, in_channels=1, seed=0))
    saved = saved_arrays(run, 4)
    for name, value in got.items():
        expected = (fresh if name in HEAD else saved)[name]
        np.testing.assert_array_equal(value, expected, err_msg=name)
    assert origin.loaded == "2 not loaded, of another number of classes: fc.weight, fc.bias"


def test_averaged_weights_are_preferred(tmp_path):
    model = create_model("resnet_tiny", in_channels=1, seed=1)
    params = {k: v for k, v in arrays(model).items() if not k.endswith((".mean", ".var"))}
    stats = {k: v for k, v in arrays(model).items() if k not in params}
    doubled = {k: 2 * v for k, v in params.items()}
    state = {"params": params, "batch_stats": stats, "opt_state": ()}
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    averaged = {"params": doubled, "batch_stats": stats}
    checkpoints.save(1, jax.device_put(state | {"ema": None}), None)
    checkpoints.save(2, jax.device_put(state | {"ema": averaged}), None)
    checkpoints.close()
    for step, expected in ((1, params), (2, doubled)):
        got, _ = start(tmp_path / "checkpoints" / str(step))
        for name, value in expected.items():
            np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_a_run_of_another_model_is_refused_by_name(run):
    with pytest.raises(
        UserError, match=r"digits is a run of resnet_tiny, but the model is resnet1"
    ):
        start(run, name="resnet18")


def test_another_stem_is_named_where_weights_do_not_fit(run):
    with pytest.raises(UserError, match=r"conv1.*has config.model.stem='', this one 'imagenet'$"):
        start(run, stem="imagenet")


def test_other_options_are_named_where_weights_do_not_fit(run):
    with pytest.raises(UserError, match=r"has config.model.options=\[\], this one \['planes=8'\]$"):
        start(run, options=("planes=8",))


def test_a_folder_without_checkpoints_says_what_it_holds(tmp_path):
    (tmp_path / "model.pth").touch()
    with pytest.raises(UserError, match=r"has no checkpoint; expected .*; it holds model\.pth"):
        start(tmp_path)


def test_a_damaged_checkpoint_is_named(run):
    for path in (run / "checkpoints" / "4" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"checkpoints/4 is damaged: .* is not as it was saved"):
        start(run)


def test_a_damaged_config_is_named(run):
    (run / "config.json").write_text('{"model": ')
    with pytest.raises(UserError, match=r"cannot read .*config\.json: "):
        start(run)


# ----------------------------------------------------------------------------------------- options


def test_written_options_are_those_of_the_variant():
    model, _ = initial_model(resolved("", options=("planes=8",)), 1, "float32")
    expected = arrays(create_model("resnet_tiny", in_channels=1, planes=8))
    for name, value in expected.items():
        np.testing.assert_array_equal(arrays(model)[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("plans=8", "unknown option of resnet_tiny 'plans'; did you mean 'planes'"),
        ("planes", "written NAME=VALUE.* got 'planes'"),
        ("planes=eight", "written NAME=VALUE.* got 'planes=eight'"),
        ("stem='cifar'", "stem is config.model.stem"),
        ("num_classes=3", "num_classes is config.model.num_classes"),
        ("in_channels=3", "in_channels is taken from the data"),
        ("image_size=8", "image_size is config.data.image_size"),
    ],
)
def test_an_option_that_cannot_be_is_refused(option, words):
    with pytest.raises(UserError, match=words):
        start("", options=(option,))


def test_an_option_stands_once():
    with pytest.raises(UserError, match="planes twice"):
        start("", options=("planes=8", "planes=16"))


def test_a_teacher_has_options_of_its_own(run):
    config = run_config()
    config.model.options = ("planes=8",)
    config.distill.model, config.distill.init_from = "resnet_tiny", str(run)
    trainer, state = build(config)
    assert state.params["conv1.kernel"].shape[-1] == 8
    assert trainer.resident["teacher"]["params"]["conv1.kernel"].shape[-1] == 16


# ------------------------------------------------------------------------------------------- names


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """An empty cache, and a proxy at which nobody answers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def test_a_name_that_cannot_be_had_is_told_with_the_ways_out(no_network, tmp_path):
    with pytest.raises(UserError) as caught:
        start("imagenet", name="squeezenet1_1")
    message = str(caught.value)
    assert (
        "cannot download https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth" in message
    )
    for place in ("torch/hub/checkpoints", "flaxzoo/weights"):
        assert str(tmp_path / "cache" / place / "squeezenet1_1-b8a52dc0.pth") in message
    assert "or give the path of a file instead of 'imagenet'" in message


def test_a_misspelt_name_is_told_with_the_nearest():
    with pytest.raises(UserError, match="unknown published weights 'imagnet'; did you mean 'image"):
        start("imagnet", name="resnet50")


# -------------------------------------------------------------------------------------- whole runs


def test_a_run_tells_what_it_started_from_and_goes_on_without_it(config, run, tmp_path, capsys):
    config.init_from, workdir = str(run), tmp_path / "tuned"
    train(config, workdir)
    assert f"weights from {run}/checkpoints/4: everything loaded" in capsys.readouterr().out
    origin = origin_of(workdir, str(run))
    assert origin == Origin(str(run), f"{run}/checkpoints/4", loaded="everything loaded")

    shutil.rmtree(run)
    train(config, workdir)
    assert "going on from step 6" in capsys.readouterr().out


def test_a_run_without_a_checkpoint_has_no_origin_to_go_on_from(tmp_path):
    (tmp_path / "init.json").write_text('{"init_from": "a", "path": "a"}')
    assert origin_of(tmp_path, "a") is None
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    assert origin_of(tmp_path, "a") == Origin("a", "a")
    assert origin_of(tmp_path, "b") is None
    (tmp_path / "init.json").write_text('{"init_from": "a", "pth": "a"}')
    with pytest.raises(UserError, match=r"init\.json is damaged: it holds init_from, pth"):
        origin_of(tmp_path, "a")


def test_the_momentum_of_batch_normalisation_can_be_chosen():
    config = Config(model=ModelConfig(name="test_mnasnet", num_classes=10, norm_momentum=0.25))
    model, _ = initial_model(config, 3, "float32")
    norms = [module for _, module in nnx.iter_graph(model) if isinstance(module, BatchNorm)]
    assert {norm.momentum for norm in norms} == {0.25}


def test_a_momentum_without_batch_normalisation_is_refused():
    config = Config(model=ModelConfig(name="test_vit", num_classes=10, norm_momentum=0.25))
    config.data.image_size = 32
    with pytest.raises(UserError, match="no batch normalisation"):
        initial_model(config, 3, "float32")
