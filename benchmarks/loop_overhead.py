"""Measures what the training loop and evaluation add to the bare step and the bare forward pass.

    python -m benchmarks.loop_overhead

The loop is that of flaxzoo.train, with its order of images, its inputs, learning rates, metrics
read and written every 10 steps; its time is that between two lines of metrics.jsonl. The bare step
is the same compiled one, called as often on batches that lie on the device already, with one wait
at the end. Data: the bundled digits, and random images of CIFAR-10's shape, which stay on the
device as the digits do. Evaluation covers 10,000 of these; the bare forward pass takes them in the
same batches, of images alone, and returns logits.

Both take turns, nine times; the median, least and most of them and of their ratios go to
benchmarks/results/loop_overhead.json, by the wall's clock and by the time of all cores, which
others on the machine disturb less.
"""

import argparse
import importlib.metadata
import itertools
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import jax
import numpy as np

from benchmarks.record import FOLDER, load, save
from flaxzoo import create_model
from flaxzoo.augment import normalize
from flaxzoo.config import CheckpointConfig, Config, ModelConfig, OptimizerConfig, data_config
from flaxzoo.evaluate import evaluate
from flaxzoo.models import takes
from flaxzoo.training import loop
from flaxzoo.training.run import Run
from flaxzoo.training.state import split_model
from flaxzoo.training.trainer import build

RESULTS = FOLDER / "loop_overhead.json"
IMAGES, SIDE = 10_000, 32
WARM = 50  # steps, before which the time of a loop does not count
# name: (model, source, steps)
LOOPS = {
    "train lenet5_bn digits": ("lenet5_bn", "digits", 550),
    "train lenet5_bn cifar": ("lenet5_bn", "cifar", 150),
}
EVALUATIONS = {f"evaluate {name}": name for name in ("lenet5_bn", "resnet_tiny")}

Clocks = np.ndarray  # seconds: of the wall, and of all cores for this process


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what the loop adds to the bare step.")
    every = [*LOOPS, *EVALUATIONS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(every)}")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    names, rounds = arguments.names or every, arguments.rounds
    results = load(RESULTS)
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        images = Path(folder) / "cifar.npz"
        write_images(images)
        for name in names:
            if name in LOOPS:
                model, source, steps = LOOPS[name]
                config = config_of(model, str(images) if source == "cifar" else source, steps)
                results[name] = measure_loop(config, Path(folder) / name.replace(" ", "_"), rounds)
            else:
                config = config_of(EVALUATIONS[name], str(images), 1)
                results[name] = measure_evaluation(config, rounds)
            print(name, results[name], flush=True)
            save(RESULTS, results)


def write_images(path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 5000), ("test", IMAGES)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(count, dtype=np.uint8) % 10
    np.savez(path, **arrays)


def config_of(model: str, source: str, steps: int) -> Config:
    data = (
        data_config("digits", image_size=16, validation=0.0)
        if source == "digits"
        else data_config(f"npz={source}", validation=0.0)
    )
    return Config(
        batch_size=128,
        duration=f"{steps} steps",
        data=data,
        model=ModelConfig(name=model),
        optimizer=OptimizerConfig(learning_rate=0.01),
        checkpoint=CheckpointConfig(every=f"{steps} steps"),
    )


def measure_loop(config: Config, folder: Path, rounds: int) -> dict[str, Any]:
    """Returns milliseconds of a step in the loop and alone."""
    trainer, state = build(config)
    steps = trainer.clock.total_steps - WARM
    step = trainer.train_step(1)
    with trainer.feeds["train"].train(0, steps) as batches:
        inputs = [trainer.devices.train_inputs(batch) for batch in batches]

    def bare() -> Clocks:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, inputs[0], trainer.resident))
        started = clocks()
        for batch in inputs:
            state, _ = step(state, batch, trainer.resident)
        jax.block_until_ready(state)
        return clocks() - started

    workdirs = (folder / str(i) for i in itertools.count())

    def whole() -> Clocks:
        with mock.patch.object(loop, "Run", TimedRun):
            loop.train(config, next(workdirs), quiet=True)
        return TimedRun.at[-1] - TimedRun.at[0]

    return figures(bare, whole, rounds, 1e3 / steps, "ms_a_step") | {"steps": steps}


class TimedRun(Run):
    """Also keeps the time of each line of metrics.jsonl from step WARM on, in the latest run."""

    at: ClassVar[list[Clocks]] = []

    def log(self, **row: Any) -> None:
        super().log(**row)
        if row["step"] <= WARM:
            self.at.clear()
        self.at.append(clocks())


def measure_evaluation(config: Config, rounds: int) -> dict[str, Any]:
    """Returns milliseconds of an evaluation and of its forward passes."""
    trainer, state = build(config)
    feed, devices = trainer.feeds["test"], trainer.devices
    forward = jax.jit(forward_pass(trainer.config))
    batches = [
        jax.device_put(feed.resident["image"][start : start + config.batch_size])
        for start in range(0, IMAGES, config.batch_size)
    ]

    def bare() -> Clocks:
        started = clocks()
        logits = [forward(state.params, state.batch_stats, batch) for batch in batches]
        jax.block_until_ready(logits)
        return clocks() - started

    def whole() -> Clocks:
        started = clocks()
        result = evaluate(trainer.eval_step, state.weights, feed, devices)
        assert result["count"] == IMAGES
        return clocks() - started

    return figures(bare, whole, rounds, 1e3, "ms")


def forward_pass(config: Config) -> Callable[..., jax.Array]:
    name = config.model.name
    options: dict[str, Any] = {"image_size": SIDE} if takes(name, "image_size") else {}
    model = create_model(name, num_classes=10, abstract=True, **options)
    model_def, data = split_model(model)[0], config.data

    def forward(params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
        model = model_def.bind(params, batch_stats)
        model.eval()
        return model(normalize(images, data.mean, data.std))

    return forward


def clocks() -> Clocks:
    return np.array([time.perf_counter(), time.process_time()])


def figures(
    bare: Callable[[], Clocks], whole: Callable[[], Clocks], rounds: int, scale: float, unit: str
) -> dict[str, Any]:
    """Runs both in turns, once unmeasured; returns their medians and what the ratios were."""
    pairs = [(bare(), whole()) for _ in range(rounds + 1)][1:]
    alone, together = (scale * np.array(times) for times in zip(*pairs, strict=True))
    result: dict[str, Any] = {}
    for i, clock in enumerate(("wall", "cpu")):
        result[f"bare_{clock}_{unit}"] = spread(alone[:, i])
        result[f"whole_{clock}_{unit}"] = spread(together[:, i])
        result[f"added_{clock}_percent"] = spread(100 * (together / alone - 1)[:, i])
    return result | {
        "n": rounds,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "flax")},
    }


def spread(values: np.ndarray) -> list[float]:
    """Returns the median, the least and the most."""
    return [round(float(f(values)), 3) for f in (np.median, np.min, np.max)]


if __name__ == "__main__":
    main()
