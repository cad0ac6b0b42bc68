"""Measures what `config.remat` saves, with the compiler of a TPU that need not be there.

    pip install 'jax[tpu]'
    python -m benchmarks.remat_memory resnet50 vit_b_32

Compiles the training step (bfloat16, SGD, 224 pixels, 64 images a core) for TPU v5e, with and
without rematerialisation, and writes the memory for temporaries and the floating-point operations
that the compiler reports to benchmarks/results/remat_memory.json. On CPUs there is nothing to
measure: their compiler merges what is computed twice again.
"""

import argparse
import importlib.metadata
from typing import Any

import jax

from benchmarks.record import FOLDER, load, save
from flaxzoo.config import Config, ModelConfig, data_config
from flaxzoo.step_cost import step_cost
from flaxzoo.tpu import described_devices
from flaxzoo.training.parallel import Devices

RESULTS = FOLDER / "remat_memory.json"
TOPOLOGY, BATCH, SIZE = "v5e:1x1", 64, 224


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what rematerialisation saves.")
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    devices, _ = described_devices(TOPOLOGY)
    results = load(RESULTS)
    for name in arguments.models:
        for remat in (False, True):
            key = f"{name} {'remat' if remat else 'plain'}"
            results[key] = measure(name, remat, devices)
            print(key, results[key], flush=True)
            save(RESULTS, results)


def measure(name: str, remat: bool, devices: Devices) -> dict[str, Any]:
    config = Config(
        batch_size=BATCH * devices.count,
        dtype="bfloat16",
        remat=remat,
        model=ModelConfig(name=name),
        data=data_config("imagenet2012", image_size=SIZE),
    )
    cost = step_cost(config, devices)
    return {
        "temporaries_mib": round(cost.temporaries / 2**20),
        "gflop": round(cost.flops / 1e9),
        "gb_accessed": round(cost.bytes_accessed / 1e9, 1),
        "compile_seconds": round(cost.compile_seconds),
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "flax", "libtpu")},
    }


if __name__ == "__main__":
    main()
