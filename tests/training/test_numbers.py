"""Numbers at the ends of what they can be: what a run does with them is defined."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo import create_model
from flaxzoo.augment.colour import autocontrast, equalize
from flaxzoo.config import OptimizerConfig, data_config
from flaxzoo.errors import UserError
from flaxzoo.layers import BatchNorm, LayerNorm, initialise
from flaxzoo.training.loop import train
from flaxzoo.training.loss_scale import FIRST
from flaxzoo.training.optimizer import OPTIMIZERS, make_optimizer
from flaxzoo.training.parallel import Devices
from flaxzoo.training.state import split_model
from flaxzoo.training.trainer import build
from tests.training.test_step import setting, take_steps


@pytest.fixture
def grey(config, tmp_path):
    """Returns a run on twelve images of two classes, all pixels of which are equal."""
    labels = np.arange(12) % 2
    images = np.full((12, 8, 8), 77, np.uint8)
    np.savez(tmp_path / "grey.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    config.data = data_config(f"npz={tmp_path / 'grey.npz'}")
    config.batch_size = 4
    return config


@pytest.fixture
def single(config, tmp_path):
    """Returns a run on one image of each of two classes, tested on one."""
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8)
    np.savez(
        tmp_path / "single.npz",
        x_train=images, y_train=np.arange(2), x_test=images[:1], y_test=np.zeros(1, int),
    )  # fmt: skip
    config.data = data_config(f"npz={tmp_path / 'single.npz'}", validation=0.0)
    config.batch_size = 1
    return config


def test_equal_pixels_and_a_rate_of_zero_move_nothing(grey, tmp_path, saved_arrays):
    grey.optimizer.learning_rate = 0.0
    start = jax.device_get(build(grey)[1].params)
    summary = train(grey, tmp_path / "run", quiet=True)
    assert math.isfinite(summary["final"]["train_loss"])
    state = saved_arrays(grey, tmp_path / "run")
    assert all(np.isfinite(x).all() for x in state.batch_stats.values())
    for name, value in state.params.items():
        np.testing.assert_array_equal(value, start[name], err_msg=name)


def test_one_image_of_each_class_is_a_data_set_and_one_is_a_batch(single, tmp_path):
    summary = train(single, tmp_path / "run", quiet=True)
    assert summary["steps"] == 6
    assert math.isfinite(summary["final"]["train_loss"])
    assert summary["test"]["count"] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 3}, r"batch size 3 does not fit the 2 training images; expected 1 to 2"),
        ({"data.validation": 0.4}, "every class has one training image; set validation=0"),
        ({"data.image_size": 1, "augment.shift": 0}, "leaves one image at a time .*larger images"),
        (
            {"batch_size": 2, "accumulate": 2, "data.image_size": 1, "augment.shift": 0},
            r"config.batch_size=2 leaves one image .*accumulate=2.* of shape \(1, 1, 1",
        ),
    ],
)
def test_too_few_images_are_refused_before_any_work(single, tmp_path, change, words):
    for name, value in change.items():
        group, _, leaf = name.rpartition(".")
        setattr(getattr(single, group) if group else single, leaf, value)
    with pytest.raises(UserError, match=words):
        train(single, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_batch_smaller_than_the_devices_is_refused(single, monkeypatch):
    monkeypatch.setattr(Devices, "count", 8)
    with pytest.raises(UserError, match=r"must be a multiple of the 8 devices; got 1\."):
        build(single)


def test_a_loss_beyond_float16_halves_the_scale_and_then_stops_the_run():
    config = setting("float16")
    config.data.std = (1e-7,)  # of images: a million, which a layer of 64 inputs adds up
    halvings = round(math.log2(FIRST))
    states, rows = take_steps(config, steps=halvings + 1)
    assert [row["skipped"] for row in rows] == [1.0] * halvings + [0.0]
    for name, value in states[halvings].params.items():
        np.testing.assert_array_equal(value, states[0].params[name], err_msg=name)
    assert float(states[halvings].loss_scale["scale"]) == 1
    assert not math.isfinite(rows[-1]["loss"])  # which flaxzoo.training.meter stops the run for


def test_a_huge_rate_ends_in_the_stop_for_what_is_not_finite(single, tmp_path):
    single.optimizer = OptimizerConfig(name="adamw", learning_rate=1e30)
    where = re.escape(str(tmp_path / "run" / "checkpoints"))
    with pytest.raises(FloatingPointError, match=rf"at step \d; the last good .*(none|{where})\."):
        train(single, tmp_path / "run", quiet=True)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_rate_and_no_gradient_are_no_accident(name):
    model = create_model("resnet_tiny")
    params = split_model(model)[1]
    zeros = jax.tree.map(jnp.zeros_like, params)
    options = {"name": name, "clip_norm": 1.0}
    still = make_optimizer(OptimizerConfig(**options), lambda step: 0.0, model)
    moving = make_optimizer(OptimizerConfig(**options), lambda step: 0.1, model)

    @jax.jit
    def run(gradients, params):
        first, _ = still.update(gradients, still.init(params), params)
        second, _ = moving.update(zeros, moving.init(params), params)
        third, _ = moving.update(zeros, moving.init(zeros), zeros)
        return first, second, third

    at_rate_0, of_no_gradient, of_zeros = run(jax.tree.map(jnp.ones_like, params), params)
    assert all(not np.any(update) for update in at_rate_0.values())
    assert all(np.isfinite(update).all() for update in of_no_gradient.values())
    assert all(not np.any(update) for update in of_zeros.values())


def test_equal_pixels_stay_as_they_are_where_contrast_is_stretched():
    images = jnp.full((2, 8, 8, 3), 77, jnp.uint8)
    for function in (autocontrast, equalize):
        np.testing.assert_array_equal(function(images), images)


@pytest.mark.parametrize("layer", [BatchNorm(4), LayerNorm(4)], ids=["batch", "layer"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_equal_values_are_normalised_to_zero_with_a_finite_gradient(layer, dtype):
    initialise(layer, seed=0)
    layer.train()
    model_def, params, stats = split_model(layer)

    def total(x):
        return jnp.sum(model_def.bind(params, stats)(x) ** 2)

    x = jnp.full((2, 3, 3, 4), 1000.0, dtype)
    assert not np.any(model_def.bind(params, stats)(x))
    assert np.isfinite(jax.grad(total)(x)).all()
