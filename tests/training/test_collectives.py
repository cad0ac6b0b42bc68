"""What devices tell each other in a step, and what a step keeps, from its compiled program.

The convolutions are those of GPUs and TPUs: under jit, XLA gathers the batch on every CPU for some
of the others (see `flaxzoo.layers.conv`).
"""

import pytest

from tests.training.test_devices import run

PROGRAM = """
import json, sys
import jax
import numpy as np
from flaxzoo.config import AugmentConfig, Config, EmaConfig, ModelConfig, data_config
from flaxzoo.layers import conv, conv_cpu
from flaxzoo.step_cost import cost_of
from flaxzoo.training.abstract import abstract_step
from flaxzoo.training.parallel import AXIS, Devices

conv._conv2d = conv_cpu.native


def size(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


found = {}
for case in sys.argv[1:]:
    parallel, batch_norm, dtype, count = case.split()
    config = Config(
        batch_size=16,
        batch_norm=batch_norm,
        dtype=dtype,
        model=ModelConfig(name="lenet5_bn"),
        augment=AugmentConfig(flip=True, shift=2),
        ema=EmaConfig(decay=0.9),
        data=data_config("cifar10", image_size=16),
    )
    mesh = jax.sharding.Mesh(np.array(jax.devices()[: int(count)]), (AXIS,))
    step, arguments = abstract_step(config, Devices(mesh, parallel))
    cost = cost_of(step.lower(*arguments).compile(), 16, int(count), 0.0)
    state = arguments[0]
    found[case] = {
        "collectives": {kind: (t.count, t.bytes) for kind, t in cost.collectives.items()},
        "weights": size(state.weights),
        "normalisations": len(state.batch_stats) // 2,
        "state": size(state),
        "reused": cost.reused,
        "new": cost.outputs - cost.reused,
    }
print(json.dumps(found))
"""
PER_DEVICE = [
    *(f"jit per_device float32 {count}" for count in (1, 2, 4, 8)),
    *(f"pmap per_device bfloat16 {count}" for count in (2, 8)),
]
GLOBAL = ["jit global bfloat16 8", "pmap global float32 8"]
pytestmark = pytest.mark.xdist_group("collectives")  # compiled once
METRICS = 2 * 4  # bytes: the loss and the accuracy


@pytest.fixture(scope="module")
def steps() -> dict:
    return run(8, *PER_DEVICE, *GLOBAL, program=PROGRAM)


@pytest.mark.parametrize("case", PER_DEVICE)
def test_a_step_sums_gradients_statistics_and_metrics_at_once(steps, case):
    """Four bytes a parameter, however many devices there are, and of one device none."""
    found = steps[case]
    alone = case.endswith(" 1")
    once = {} if alone else {"all-reduce": [1, found["weights"] + METRICS]}
    assert found["collectives"] == once


@pytest.mark.parametrize(
    ("case", "each"), [("jit global bfloat16 8", 2), ("pmap global float32 8", 3)]
)
def test_normalisation_over_all_devices_adds_its_own_sums(steps, case, each):
    """One forward, one backward; two forward where the variance waits for the mean, in float32."""
    found = steps[case]
    assert found["collectives"].keys() == {"all-reduce"}
    count, size = found["collectives"]["all-reduce"]
    assert count == each * found["normalisations"] + 1
    assert size < 1.1 * found["weights"]


@pytest.mark.parametrize("case", PER_DEVICE + GLOBAL)
def test_the_new_state_takes_the_memory_of_the_old(steps, case):
    assert steps[case]["reused"] == steps[case]["state"]
    assert steps[case]["new"] < 1000  # metrics, and pointers
