"""One device and eight simulated ones take the same steps, under jit and under pmap."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("devices")  # each program runs once

PROGRAM = """
import json, sys
import jax
from tests.training.device_program import EVERYTHING, STEPS, Experiment

jax.config.update("jax_enable_x64", True)
steps = {layout: Experiment(layout, EVERYTHING).take_steps(0, STEPS) for layout in sys.argv[1:]}
print(json.dumps(steps | {"devices": jax.device_count()}))
"""


# Batch normalisation by device, on eight of them, and in as many parts on one.
PER_DEVICE = """
import json
import jax
import numpy as np
from flaxzoo.training.parallel import AXIS, Devices
from tests.training.device_program import COMMON, STEPS, Experiment

jax.config.update("jax_enable_x64", True)
fields = COMMON | {"batch_norm": "per_device"}
del fields["augment"]
one = Devices(jax.sharding.Mesh(np.array(jax.devices()[:1]), (AXIS,)), "jit")
result = {"one": Experiment("jit", fields, one, parts=8).take_steps(0, STEPS)}
for layout in ("jit", "pmap"):
    result[layout] = Experiment(layout, fields).take_steps(0, STEPS)
print(json.dumps(result))
"""


def run(devices: int, *parallel: str, program: str = PROGRAM) -> dict:
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    output = subprocess.run(
        [sys.executable, "-c", program, *parallel],
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


@pytest.fixture(scope="module")
def normalised_per_device() -> dict:
    return run(8, program=PER_DEVICE)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_statistics_per_device_are_those_of_the_parts_of_a_batch(normalised_per_device, parallel):
    one, eight = normalised_per_device["one"], normalised_per_device[parallel]
    assert eight["loss"] == pytest.approx(one["loss"], rel=1e-9)
    assert eight["sums"] == pytest.approx(one["sums"], rel=1e-9)
