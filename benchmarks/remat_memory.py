"""Measures what `config.remat` saves, with the compiler of a TPU that need not be there.

    pip install libtpu
    python -m benchmarks.remat_memory resnet50 vit_b_32

Compiles the training step (bfloat16, SGD, 224 pixels, 64 images) for a TPU v5e core, with and
without rematerialisation, and writes the memory for temporaries and the floating-point operations
that the compiler reports to benchmarks/results/remat_memory.json. On CPUs there is nothing to
measure: their compiler merges what is computed twice again.
"""

import argparse
import importlib.metadata
import os
import time
from typing import Any

os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # there is no machine to ask what it is

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from benchmarks.record import FOLDER, load, save
from flaxzoo import create_model
from flaxzoo.config import Config, ModelConfig, data_config
from flaxzoo.models import takes
from flaxzoo.training.optimizer import sgd
from flaxzoo.training.state import first_state, split_model
from flaxzoo.training.step import make_train_step

RESULTS = FOLDER / "remat_memory.json"
BATCH, SIZE = 64, 224


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what rematerialisation saves.")
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    results = load(RESULTS)
    for name in arguments.models:
        for remat in (False, True):
            key = f"{name} {'remat' if remat else 'plain'}"
            results[key] = compile_step(name, remat)
            print(key, results[key], flush=True)
            save(RESULTS, results)


def compile_step(name: str, remat: bool) -> dict[str, Any]:
    config = Config(
        remat=remat, model=ModelConfig(num_classes=1000), data=data_config("imagenet2012")
    )
    options: dict[str, Any] = {"image_size": SIZE} if takes(name, "image_size") else {}
    model = create_model(name, abstract=True, dtype="bfloat16", **options)
    model_def, params, batch_stats = split_model(model)
    optimizer = sgd(lambda _: 0.1, momentum=0.9)
    state = jax.eval_shape(lambda p, s: first_state(p, s, optimizer, config), params, batch_stats)
    inputs = {
        "image": jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((BATCH,), jnp.int32),
    }
    devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
    core = jax.sharding.SingleDeviceSharding(devices[0])
    placed = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=core), (state, inputs)
    )
    started = time.monotonic()
    step = make_train_step(model_def, optimizer, config)
    compiled = jax.jit(step, donate_argnums=0).lower(*placed, {}).compile()
    memory: Any = compiled.memory_analysis()
    costs: Any = compiled.cost_analysis()
    return {
        "temporaries_mib": round(memory.temp_size_in_bytes / 2**20),
        "gflop": round(costs["flops"] / 1e9),
        "gb_accessed": round(costs["bytes accessed"] / 1e9, 1),
        "compile_seconds": round(time.monotonic() - started),
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "flax", "libtpu")},
    }


if __name__ == "__main__":
    main()
