"""What every process of a test run does: `python device_program.py FOLDER [flags of processes]`.

Each process leaves what it found in FOLDER/result-PROCESS.json. In float64, so that the order of a
sum over devices cannot hide a difference in meaning.
"""

import dataclasses
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxzoo import UserError, create_model
from flaxzoo.checkpoint import Checkpoints
from flaxzoo.cli import run_command
from flaxzoo.config import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    EmaConfig,
    ModelConfig,
    OptimizerConfig,
    SamConfig,
    data_config,
)
from flaxzoo.evaluate import SUMS
from flaxzoo.training import distributed
from flaxzoo.training.loop import train
from flaxzoo.training.optimizer import make_optimizer
from flaxzoo.training.parallel import Devices, all_devices
from flaxzoo.training.state import TrainState, first_state, split_model
from flaxzoo.training.step import Plan, make_eval_step, make_train_step

BATCH, STEPS, SAVED = 32, 4, 2
LAYOUTS = {"jit": ("jit", False), "pmap": ("pmap", False), "sharded": ("jit", True)}


COMMON: dict[str, Any] = {
    "augment": AugmentConfig(flip=True, shift=2),
    "optimizer": OptimizerConfig(learning_rate=0.05),
    # From 0 to 1: a mean taken off might be rounded once or twice, as the program is compiled.
    "data": data_config("digits", mean=(0.0,), std=(1.0,)),
    "model": ModelConfig(num_classes=10),
    "ema": EmaConfig(decay=0.9),
}
# What else a step may do. CutMix rather than mixup: it blends with 0 and 1, which no order of
# operations rounds. Classes are weighted as well.
EVERYTHING: dict[str, Any] = COMMON | {
    "accumulate": 2,
    "sam": SamConfig(rho=0.05),
    "label_smoothing": 0.1,
    "augment": AugmentConfig(flip=True, shift=2, cutmix=1.0, erase=0.5),
    "class_weights": "balanced",
}


class Experiment:
    """Four steps on fixed images, on all devices there are."""

    def __init__(
        self,
        layout: str,
        fields: dict[str, Any] = COMMON,
        devices: Devices | None = None,
        parts: int | None = None,
    ):
        config = Config(**fields)
        self.devices = devices or all_devices(*LAYOUTS[layout])
        model = create_model(
            "lenet5_bn", image_size=16, in_channels=1, dtype="float64", param_dtype="float64"
        )
        model_def, params, stats = split_model(model)
        optimizer = self.devices.with_whole_gradients(
            make_optimizer(config.optimizer, lambda step: 0.05, model)
        )
        create = partial(first_state, optimizer=optimizer, config=config)
        self.state = self.devices.compile_create(create, *self.devices.place((params, stats)))
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (64, 16, 16, 1), dtype=np.uint8)
        labels = rng.integers(0, 10, 64, dtype=np.int32)
        self.resident = self.devices.replicate({"image": images, "label": labels})
        self.batches = [rng.permutation(64)[:BATCH].astype(np.int32) for _ in range(STEPS)]
        weighted = config.class_weights != "none"
        plan = Plan(
            self.devices.axis_name,
            devices=parts or self.devices.count,
            class_weights=jnp.linspace(0.5, 2.0, 10) if weighted else None,
        )
        self.train_step = self.devices.compile_train(
            make_train_step(model_def, optimizer, config, plan), self.state
        )
        self.eval_step = self.devices.compile_eval(make_eval_step(model_def, config))

    def take_steps(self, first: int, last: int) -> dict[str, Any]:
        """Trains on; returns the last loss and sums that tell where every value is."""
        metrics = {}
        for index in self.batches[first:last]:
            inputs = self.devices.train_inputs({"index": index[rows(BATCH)]})
            self.state, metrics = self.train_step(self.state, inputs, self.resident)
        state = self.devices.place(self.state)
        mask = np.arange(BATCH) < 20
        inputs = {"index": self.batches[0][rows(BATCH)], "mask": mask[rows(BATCH)]}
        result = self.eval_step(
            state.params, state.batch_stats, self.devices.split(inputs), self.resident
        )
        evaluated = {key: float(result[key]) for key in SUMS}
        sums = position_sums(self.devices, state)
        return {"loss": float(metrics["loss"]), "evaluated": evaluated, "sums": sums}


def rows(batch_size: int) -> slice:
    """This process's rows of a global batch."""
    n, k = jax.process_count(), jax.process_index()
    return slice(batch_size // n * k, batch_size // n * (k + 1))


def position_sums(devices: Devices, state: TrainState) -> dict[str, float]:
    """Weighted sums of every array: they also change when values change places."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(devices.replicate(state)))
    return {
        jax.tree_util.keystr(path): float(np.sum(v * np.arange(1, v.size + 1).reshape(v.shape)))
        for path, v in leaves
    }


def bytes_on_a_device(state: TrainState) -> int:
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))


def save(state: Any, folder: Path) -> None:
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(SAVED, state, None)
    checkpoints.close()


def restore(experiment: Experiment, folder: Path) -> None:
    checkpoints = Checkpoints(folder, keep=1)
    experiment.state = checkpoints.restore(experiment.state)
    checkpoints.close()


def run_config() -> Config:
    """A whole run that takes seconds."""
    return Config(
        batch_size=64,
        duration="4 steps",
        eval_every="2 steps",
        log_every="1 steps",
        data=data_config("digits", image_size=16),
        augment=AugmentConfig(shift=1),
        model=ModelConfig(name="lenet5_bn"),
        optimizer=OptimizerConfig(learning_rate=0.05),
        checkpoint=CheckpointConfig(every="4 steps"),
    )


def alone(folder: Path) -> dict[str, Any]:
    """One process goes on from the checkpoint of the two."""
    result: dict[str, Any] = {"devices": jax.device_count()}
    whole, split = Experiment("jit"), Experiment("sharded")
    restore(whole, folder / "sharded")
    save(whole.state, folder / "whole")
    restore(split, folder / "whole")
    result["resumed"] = whole.take_steps(SAVED, STEPS)
    return result | {"resumed split": split.take_steps(SAVED, STEPS)}


def together(folder: Path) -> dict[str, Any]:
    """Each of two processes: steps, a checkpoint on the way, a whole run, and a slip."""
    result: dict[str, Any] = {"devices": jax.device_count()}
    for layout in ("jit", "pmap"):
        result[layout] = Experiment(layout).take_steps(0, STEPS)
    experiment = Experiment("sharded")
    result["bytes"] = bytes_on_a_device(experiment.state)
    experiment.take_steps(0, SAVED)
    save(experiment.state, folder / "sharded")
    result["sharded"] = experiment.take_steps(SAVED, STEPS)
    config = run_config()
    result["run"] = train(config, folder / "run")
    try:
        train(dataclasses.replace(config, seed=1), folder / "run")
    except UserError as error:
        result["slip"] = str(error)
    return result


def main(folder: Path, processes: distributed.Processes | None) -> None:
    if processes is not None:
        distributed.start(processes)
    result = alone(folder) if processes is None else together(folder)
    path = folder / f"result-{jax.process_count()}-{jax.process_index()}.json"
    path.write_text(json.dumps(result))
    if processes is not None and jax.process_index() == 0:
        raise UserError("process 0 fails")  # and process 1 waits for it:
    distributed.on_first(lambda: 0)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    found, rest = distributed.parse_flags(sys.argv[1:])
    sys.exit(run_command(lambda: main(Path(rest[0]), found)))
