"""One device and eight simulated ones take the same steps, under jit and under pmap."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

# In float64, so that the order of a sum over devices cannot hide a difference in meaning.
PROGRAM = """
import sys, json
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)  # it runs a few times only
from flaxzoo import create_model
from flaxzoo.config import (
    AugmentConfig, Config, EmaConfig, ModelConfig, OptimizerConfig, SamConfig, data_config)
from flaxzoo.training.optimizer import make_optimizer
from flaxzoo.training.parallel import all_devices
from flaxzoo.training.state import first_state, split_model
from flaxzoo.training.step import Plan, make_train_step

def take_steps(parallel):
    # (CutMix rather than mixup: it blends with 0 and 1, which no order of operations rounds.)
    config = Config(parallel=parallel, accumulate=2, sam=SamConfig(rho=0.05), label_smoothing=0.1,
                    augment=AugmentConfig(flip=True, shift=2, cutmix=1.0, erase=0.5),
                    optimizer=OptimizerConfig(learning_rate=0.05), data=data_config("digits"),
                    model=ModelConfig(num_classes=10), ema=EmaConfig(decay=0.9))
    devices = all_devices(parallel)
    model = create_model(
        "lenet5_bn", image_size=16, in_channels=1, dtype="float64", param_dtype="float64")
    model_def, params, stats = split_model(model)
    optimizer = make_optimizer(config.optimizer, lambda step: 0.05, model)
    state = devices.replicate(first_state(params, stats, optimizer, config))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 16, 16, 1), dtype=np.uint8)
    labels = rng.integers(0, 10, 64, dtype=np.int32)
    resident = devices.replicate({"image": images, "label": labels})
    plan = Plan(devices.axis_name, class_weights=jnp.linspace(0.5, 2.0, 10))
    step = devices.compile_train(make_train_step(model_def, optimizer, config, plan), state)
    for _ in range(3):
        index = rng.permutation(64)[:32].astype(np.int32)
        state, metrics = step(state, devices.train_inputs({"index": index}), resident)
    arrays = {jax.tree_util.keystr(k): v for k, v in
              jax.tree_util.tree_flatten_with_path(jax.device_get((state.weights, state.ema)))[0]}
    # Weighted sums: they also change when values change places.
    sums = {k: float(np.sum(v * np.arange(1, v.size + 1).reshape(v.shape)))
            for k, v in arrays.items()}
    return {"devices": jax.device_count(), "loss": float(metrics["loss"]), "sums": sums}

print(json.dumps({parallel: take_steps(parallel) for parallel in sys.argv[1:]}))
"""


def run(devices: int, *parallel: str) -> dict:
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, *parallel],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert output.returncode == 0, output.stderr
    return json.loads(output.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def on_one_device() -> dict:
    return run(1, "jit")["jit"]


@pytest.fixture(scope="module")
def on_eight_devices() -> dict:
    return run(8, "jit", "pmap")


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_eight_devices_equal_one(on_one_device, on_eight_devices, parallel):
    on_eight = on_eight_devices[parallel]
    assert on_eight["devices"] == 8
    assert on_eight["loss"] == pytest.approx(on_one_device["loss"], rel=1e-9)
    names = sorted(on_one_device["sums"])
    np.testing.assert_allclose(
        [on_eight["sums"][name] for name in names],
        [on_one_device["sums"][name] for name in names],
        rtol=1e-9,
        err_msg=str(names),
    )
