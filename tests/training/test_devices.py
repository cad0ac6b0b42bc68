"""One device and eight simulated ones take the same steps, under jit and under pmap."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, sys
import jax
from tests.training.device_program import EVERYTHING, STEPS, Experiment

jax.config.update("jax_enable_x64", True)
steps = {layout: Experiment(layout, EVERYTHING).take_steps(0, STEPS) for layout in sys.argv[1:]}
print(json.dumps(steps | {"devices": jax.device_count()}))
"""


def run(devices: int, *parallel: str) -> dict:
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={devices}",
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
    assert on_eight_devices["devices"] == 8
    assert on_eight["loss"] == pytest.approx(on_one_device["loss"], rel=1e-9)
    names = sorted(on_one_device["sums"])
    np.testing.assert_allclose(
        [on_eight["sums"][name] for name in names],
        [on_one_device["sums"][name] for name in names],
        rtol=1e-9,
        err_msg=str(names),
    )
