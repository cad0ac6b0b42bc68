"""Trains configs/cifar10_fast.py with flaxzoo and with PyTorch: accuracy and time of both.

    python -m benchmarks.cifar10_fast npz=PATH --seeds 0 1 2     flaxzoo, by train.py
    python -m benchmarks.cifar10_fast npz=PATH --seeds 0 --torch

PyTorch trains the twin in torch_ref with torch.optim, in its channels_last layout, on the same
batches: the same data in memory, order, sizes, learning rates, augmentation, label smoothing and
average of the weights; only what is drawn at random differs. Results are kept in
benchmarks/results/cifar10_fast.json after each run.
"""

import argparse
import importlib.metadata
import os
import platform
import statistics
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import torch_ref
from benchmarks import recipes
from benchmarks.record import FOLDER, load, save
from configs.cifar10_fast import get_config
from flaxzoo import data
from flaxzoo.data.order import batch_indices
from flaxzoo.training.clock import Clock
from flaxzoo.training.schedule import make_schedule

RESULTS = FOLDER / "cifar10_fast.json"
PACKAGES = ("jax", "flax", "torch")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Trains configs/cifar10_fast.py with flaxzoo and PyTorch."
    )
    parser.add_argument("source", help="cifar10, or npz=PATH")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--torch", action="store_true", help="train with PyTorch")
    arguments = parser.parse_args()
    framework = "torch" if arguments.torch else "flaxzoo"
    run = train_torch if arguments.torch else train_flaxzoo
    for seed in arguments.seeds:
        result = run(arguments.source, seed) | {
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        }
        print(framework, seed, result, flush=True)
        save(RESULTS, load(RESULTS) | {f"{framework} {seed}": result})  # others may run beside
    for framework in ("flaxzoo", "torch"):
        runs = [result for name, result in load(RESULTS).items() if name.startswith(framework)]
        if runs:
            print(framework, summary(runs))


def train_flaxzoo(source: str, seed: int) -> dict[str, Any]:
    """Runs train.py, without programs compiled before."""
    result = recipes.run(f"cifar10_fast.py:{source}", 7200, f"--config.seed={seed}")
    if "failed" in result:
        raise SystemExit(result["failed"])
    return {key: result[key] for key in ("accuracy", "seconds")}


def train_torch(source: str, seed: int) -> dict[str, Any]:
    """Trains the twin by the same config; seconds are those of training and of evaluating once."""
    config = get_config(source)
    dataset = data.load(source, validation=config.data.validation, seed=seed)
    train, test = dataset.train, dataset.test
    assert isinstance(train, data.ArraySplit)
    assert isinstance(test, data.ArraySplit)
    torch.manual_seed(seed)
    options = dict(option.split("=") for option in config.model.options)
    model = torch_ref.create_model(
        config.model.name,
        num_classes=dataset.num_classes,
        stem=config.model.stem,
        **{key: int(value) for key, value in options.items()},
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = AveragedModel(
        model, multi_avg_fn=get_ema_multi_avg_fn(config.ema.decay), use_buffers=True
    )
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed}, {"params": plain, "weight_decay": 0.0}],
        lr=config.optimizer.learning_rate,
        momentum=0.9,
        nesterov=bool(config.optimizer.nesterov),
        weight_decay=config.optimizer.weight_decay or 0.0,
    )
    clock = Clock.of(config.duration, len(train) // config.batch_size, config.batch_size)
    rate = make_schedule(config.schedule, config.optimizer.learning_rate, clock)
    rates = np.asarray(rate(np.arange(clock.total_steps)))
    sizes = config.data.train_sizes
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels).long()
    started = time.monotonic()
    for step in range(clock.total_steps):
        chosen = torch.tensor(batch_indices(seed, step, len(train), config.batch_size))
        batch = normalized(augmented(images[chosen], config.augment.shift), config)
        size = sizes[step * len(sizes) // clock.total_steps]
        batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True)
        batch = batch.contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = float(rates[step])
        loss = F.cross_entropy(model(batch), labels[chosen], label_smoothing=config.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update_parameters(model)
    ema.eval()
    test_images, correct = torch.from_numpy(test.images), 0
    with torch.inference_mode():
        for start in range(0, len(test), 500):
            logits = ema(normalized(test_images[start : start + 500], config))
            correct += int((logits.argmax(1).numpy() == test.labels[start : start + 500]).sum())
    return {
        "accuracy": correct / len(test),
        "seconds": round(time.monotonic() - started, 1),
    }


def normalized(images: torch.Tensor, config: Any) -> torch.Tensor:
    """uint8 (n, h, w, c) to float32 (n, c, h, w), in the layout channels_last."""
    mean, std = torch.tensor(config.data.mean), torch.tensor(config.data.std)
    return ((images / 255 - mean) / std).permute(0, 3, 1, 2)


def augmented(images: torch.Tensor, shift: int) -> torch.Tensor:
    """Mirrors half of the images (n, h, w, c), pads with black, crops back at random places."""
    n, h, w, _ = images.shape
    mirrored = torch.rand(n) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(2), images)
    padded = F.pad(images, (0, 0, *(shift,) * 4))
    top, left = torch.randint(2 * shift + 1, (2, n, 1))
    rows, columns = top + torch.arange(h), left + torch.arange(w)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def summary(runs: list[dict[str, Any]]) -> str:
    accuracies = [run["accuracy"] for run in runs]
    text = f"{statistics.mean(accuracies):.2%} ({min(accuracies):.2%} to {max(accuracies):.2%})"
    for cores in sorted({run["cores"] for run in runs}):
        minutes = [run["seconds"] / 60 for run in runs if run["cores"] == cores]
        text += (
            f"; on {cores} cores {min(minutes):.1f} to {max(minutes):.1f} min, n = {len(minutes)}"
        )
    return text


if __name__ == "__main__":
    main()
