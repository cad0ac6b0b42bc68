"""What one step makes of its arguments: parts, averages, scales, teachers."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo import create_model
from flaxzoo.config import Config, DistillConfig, EmaConfig, ModelConfig, SamConfig, data_config
from flaxzoo.layers import Linear
from flaxzoo.layers.module import initialise
from flaxzoo.models.base import Classifier
from flaxzoo.training.loss_scale import BACKOFF, FIRST, GROWTH, INTERVAL, first_scale, next_scale
from flaxzoo.training.objective import make_loss
from flaxzoo.training.optimizer import sgd
from flaxzoo.training.sam import ascend
from flaxzoo.training.state import TrainState, first_state, split_model
from flaxzoo.training.step import Plan, make_train_step
from tests.training.residuals import bytes_kept

CLASSES = 10


def setting(dtype: str = "float64", **fields) -> Config:
    data = data_config("npz=none", mean=(0.5,), std=(0.25,))
    return Config(data=data, model=ModelConfig(num_classes=CLASSES), dtype=dtype, **fields)


def batch(n: int = 16, size: int = 8) -> dict:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size, 1), dtype=np.uint8)
    return {"image": images, "label": rng.integers(0, CLASSES, n, dtype=np.int32)}


class Mlp(Classifier):
    """No batch normalisation: a row of a batch does not see the others. And quick to compile."""

    def __init__(self, size: int):
        super().__init__(in_channels=1, num_classes=CLASSES)
        self.image_size = (size, size)
        self.fc1 = Linear(size * size, 20)
        self.fc2 = Linear(20, CLASSES)

    def run_stages(self, x):
        yield "fc1", jax.nn.gelu(self.fc1(x.reshape(len(x), -1)))

    def forward_head(self, x, pre_logits=False):
        return x if pre_logits else self.fc2(x)


def mlp(dtype: str = "float64", size: int = 8):
    model = Mlp(size)
    model.dtype = np.dtype(dtype)
    initialise(model, seed=0, param_dtype="float64" if dtype == "float64" else "float32")
    return split_model(model)


def take_steps(
    config: Config, steps: int = 3, inputs: dict | None = None, plan: Plan | None = None,
    teacher: dict | None = None, rate: float = 0.1,
) -> tuple[list[TrainState], list[dict]]:  # fmt: skip
    """Returns the states before and after each step, and the metrics of each."""
    model_def, params, batch_stats = mlp(config.dtype)
    optimizer = sgd(lambda _: rate, momentum=0.9)
    step = jax.jit(make_train_step(model_def, optimizer, config, plan or Plan()))
    states = [first_state(params, batch_stats, optimizer, config)]
    rows = []
    for _ in range(steps):
        state, metrics = step(states[-1], inputs or batch(), teacher or {})
        states.append(state)
        rows.append(jax.device_get(metrics))
    return states, rows


def assert_close(one, other, rtol=1e-9):
    chex.assert_trees_all_close(one, other, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.05])
def test_a_batch_in_parts_gives_the_step_of_the_whole(x64, rho):
    whole, rows = take_steps(setting(sam=SamConfig(rho=rho)))
    parts, rows_of_parts = take_steps(setting(sam=SamConfig(rho=rho), accumulate=4))
    assert_close(parts[-1].params, whole[-1].params)
    assert_close([row["loss"] for row in rows_of_parts], [row["loss"] for row in rows])
    assert_close([row["accuracy"] for row in rows_of_parts], [row["accuracy"] for row in rows])


def test_a_weighted_batch_in_parts_gives_the_step_of_the_whole(x64):
    plan = Plan(class_weights=jnp.linspace(0.1, 3.0, CLASSES))
    whole, rows = take_steps(setting(), plan=plan)
    parts, _ = take_steps(setting(accumulate=2), plan=plan)
    _, plain = take_steps(setting())
    assert_close(parts[-1].params, whole[-1].params)
    assert abs(rows[0]["loss"] - plain[0]["loss"]) > 1e-6


def test_sam_takes_the_gradient_elsewhere(x64):
    plain, _ = take_steps(setting())
    sam, _ = take_steps(setting(sam=SamConfig(rho=0.05)))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), plain[1].params, sam[1].params)
    assert max(moved.values()) > 1e-6


def norm(tree) -> float:
    return float(np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(tree))))


@pytest.mark.parametrize("rho", [0.05, 2.0])
def test_sams_perturbation_has_the_length_rho(x64, rho):
    rng = np.random.default_rng(0)
    params, grads = ({"a": rng.normal(size=(3, 4)), "b": rng.normal(size=5)} for _ in range(2))
    moved = ascend(params, grads, SamConfig(rho=rho))
    assert norm(jax.tree.map(np.subtract, moved, params)) == pytest.approx(rho, rel=1e-9)
    moved = ascend(params, grads, SamConfig(rho=rho, adaptive=True))
    relative = jax.tree.map(lambda m, w: (m - w) / np.abs(w), moved, params)
    assert norm(relative) == pytest.approx(rho, rel=1e-9)


def test_a_gradient_of_zero_moves_nothing(x64):
    params = {"a": np.ones(3)}
    moved = ascend(params, {"a": np.zeros(3)}, SamConfig(rho=1.0))
    np.testing.assert_array_equal(moved["a"], params["a"])


@pytest.mark.parametrize("warmup", [True, False])
def test_the_average_follows_its_formula(x64, warmup):
    states, _ = take_steps(setting(ema=EmaConfig(decay=0.2, warmup=warmup)), steps=4)
    expected = states[0].params
    for t, state in enumerate(states[1:], 1):
        decay = min(0.2, (1 + t) / (10 + t)) if warmup else 0.2
        expected = jax.tree.map(lambda e, w, d=decay: d * e + (1 - d) * w, expected, state.params)
    assert_close(states[-1].ema["params"], expected)


def test_the_average_has_running_statistics_of_its_own(x64):
    config = setting(ema=EmaConfig(decay=0.5, warmup=False))
    model = create_model(
        "resnet_tiny", num_classes=CLASSES, in_channels=1, dtype="float64", param_dtype="float64"
    )
    model_def, params, batch_stats = split_model(model)
    optimizer = sgd(lambda _: 0.1)
    state = first_state(params, batch_stats, optimizer, config)
    new, _ = jax.jit(make_train_step(model_def, optimizer, config))(state, batch(), {})
    half = jax.tree.map(lambda a, b: (a + b) / 2, batch_stats, new.batch_stats)
    assert_close(new.ema["batch_stats"], half)


def test_float16_scales_the_loss_and_takes_the_same_steps():
    states, rows = take_steps(setting("float16"))
    expected, _ = take_steps(setting("float32"))
    assert [row["skipped"] for row in rows] == [0, 0, 0]
    assert float(states[-1].loss_scale["scale"]) == FIRST
    chex.assert_trees_all_close(states[-1].params, expected[-1].params, atol=2e-3)
    assert {x.dtype for x in states[-1].params.values()} == {jnp.dtype("float32")}


def test_a_step_that_overflows_is_skipped_and_the_scale_is_halved():
    config = setting("float16", ema=EmaConfig(decay=0.5))
    model_def, params, batch_stats = mlp("float16")
    optimizer = sgd(lambda _: 0.1, momentum=0.9)
    step = jax.jit(make_train_step(model_def, optimizer, config))
    state = first_state(params, batch_stats, optimizer, config)
    state = state.replace(loss_scale=state.loss_scale | {"scale": jnp.float32(2.0**40)})
    new, metrics = step(state, batch(), {})
    assert metrics["skipped"] == 1
    assert float(new.loss_scale["scale"]) == 2.0**39
    assert int(new.step) == 1
    for field in ("params", "opt_state", "ema"):
        chex.assert_trees_all_equal(getattr(new, field), getattr(state, field))


def test_the_scale_grows_after_many_good_steps_and_never_falls_below_one():
    good, bad = [jnp.ones(2)], [jnp.ones(2), jnp.array([1.0, jnp.inf])]
    scale = first_scale() | {"good_steps": jnp.int32(INTERVAL - 1)}
    scale, taken = next_scale(scale, good)
    assert taken
    assert float(scale["scale"]) == FIRST * GROWTH
    assert int(scale["good_steps"]) == 0
    scale, taken = next_scale(scale, bad)
    assert not taken
    assert float(scale["scale"]) == FIRST * GROWTH * BACKOFF
    one = {"scale": jnp.float32(1), "good_steps": jnp.int32(5)}
    scale, taken = next_scale(one, bad)  # the run is told, instead of skipping for ever
    assert taken
    assert float(scale["scale"]) == 1


def saved_bytes(config: Config) -> int:
    """What the forward pass keeps for the backward pass, parameters and images included."""
    model_def, params, batch_stats = mlp("float32")
    loss_fn = make_loss(model_def, config)
    rows = batch()
    inputs = {
        "image": jnp.asarray(rows["image"], jnp.float32),
        "label": jnp.asarray(rows["label"]),
        "target": jnp.asarray(rows["label"]),
        "weight": jnp.ones(len(rows["label"])),
    }
    return bytes_kept(loss_fn, params, batch_stats, inputs)


def test_rematerialisation_keeps_less_and_changes_nothing(x64):
    kept, recomputed = take_steps(setting())[0], take_steps(setting(remat=True))[0]
    assert_close(recomputed[-1].params, kept[-1].params, rtol=1e-12)
    assert saved_bytes(setting(remat=True)) < 0.7 * saved_bytes(setting())


@pytest.mark.parametrize("hard", [False, True])
def test_a_student_that_equals_its_teacher_stays(x64, hard):
    """Soft, the distance is zero and so is its gradient; hard, the labels are the teacher's."""
    model_def, params, batch_stats = mlp()
    config = setting(distill=DistillConfig(model="x", weight=1.0, temperature=2.0, hard=hard))
    teacher = {"teacher": {"params": params, "batch_stats": batch_stats}}
    states, rows = take_steps(config, 1, plan=Plan(teacher_def=model_def), teacher=teacher)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), params, states[-1].params)
    if hard:
        assert rows[0]["loss"] > 0
        assert max(moved.values()) > 1e-3
    else:
        assert rows[0]["loss"] == pytest.approx(0, abs=1e-12)
        assert max(moved.values()) < 1e-12


def test_teacher_and_labels_share_the_loss(x64):
    model_def, params, batch_stats = mlp()
    teacher = {
        "teacher": {"params": {k: 2 * v for k, v in params.items()}, "batch_stats": batch_stats}
    }

    def loss(weight: float) -> float:
        config = setting(distill=DistillConfig(model="x", weight=weight))
        plan = Plan(teacher_def=model_def)
        return take_steps(config, 1, plan=plan, teacher=teacher)[1][0]["loss"]

    supervised = take_steps(setting(), 1)[1][0]["loss"]
    assert loss(0.25) == pytest.approx(0.75 * supervised + 0.25 * loss(1.0), rel=1e-12)


def test_images_are_resized_to_what_the_plan_says(x64):
    """The net takes 8 pixels only: images of 4 reach it resized."""
    states, _ = take_steps(setting(), 1, inputs=batch(size=4), plan=Plan(image_size=8))
    assert int(states[-1].step) == 1
    with pytest.raises(Exception, match="was made for images of 8x8"):
        take_steps(setting(), 1, inputs=batch(size=4))


def test_the_plateaus_factor_scales_the_update(x64):
    config = setting()
    model_def, params, batch_stats = mlp()
    optimizer = sgd(lambda _: 0.1, momentum=0.9)
    step = jax.jit(make_train_step(model_def, optimizer, config))
    state = first_state(params, batch_stats, optimizer, config)
    whole, _ = step(state, batch(), {})
    half, _ = step(state.replace(plateau={"factor": jnp.float64(0.5)}), batch(), {})
    expected = jax.tree.map(lambda a, b: (a + b) / 2, params, whole.params)
    assert_close(half.params, expected)


def test_everything_at_once_is_a_function_of_seed_and_step():
    config = setting(
        "bfloat16", accumulate=2, sam=SamConfig(rho=0.1, adaptive=True), remat=True,
        ema=EmaConfig(decay=0.9), loss="binary_cross_entropy", label_smoothing=0.1,
    )  # fmt: skip
    one, rows = take_steps(config)
    two, _ = take_steps(config)
    chex.assert_trees_all_equal(one[-1], two[-1])
    assert all(np.isfinite(row["loss"]) for row in rows)
    other, _ = take_steps(dataclasses.replace(config, accumulate=1))
    chex.assert_trees_all_close(one[-1].params, other[-1].params, atol=3e-2)
