"""Trains networks and their PyTorch twins on the same batches; writes docs/loss_curves.md and .png.

    python -m benchmarks.loss_curves                  what is not measured yet
    python -m benchmarks.loss_curves --render         only the pages, from what was measured

Each network and its twin in torch_ref start from the same initial values and take 200 steps of SGD
on the bundled digits, in float64, with dropout off and nothing augmented. torch is also trained
against itself, from weights moved by one unit in the last place. Results are kept in
benchmarks/results/loss_curves.json after each network.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import time
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.record import FOLDER, ROOT, load
from flaxzoo.parity import TOLERANCES
from flaxzoo.parity.curves import (
    BATCH_SIZE,
    HYPER,
    LossCurves,
    compare_losses,
    plot_losses,
)

RESULTS = FOLDER / "loss_curves.json"
PAGE = ROOT / "docs" / "loss_curves.md"
PLOT = PAGE.with_suffix(".png")
STEPS = 200
PIXELS = 32
# Each at a rate at which it learns; ResNet-18 from its initial values, without any change.
NETWORKS: dict[str, dict[str, Any]] = {
    "test_vit": {"learning_rate": 1e-2, "norm_bias": 0.0},
    "resnet18": {"learning_rate": 1e-2, "norm_bias": 0.0},
    "mobilenet_v2": {"learning_rate": 1e-3, "norm_bias": 1.0},
    "vgg11_bn": {"learning_rate": 1e-3, "norm_bias": 1.0},
}

TEXT = """# Loss curves

Written by benchmarks/loss_curves.py. Same data, same start, no dropout, nothing augmented: each
network and its twin in `torch_ref/` take {steps} steps of SGD (momentum {momentum}, weight decay
{decay}), in float64, on batches of {batch} of the bundled digits, enlarged to {pixels} pixels. Both
start from the torch model's own initial values. `test_vit` is the Vision Transformer of the tests:
2 blocks of 32 features, patches of 8 pixels.

![losses of both, and how far they are apart](loss_curves.png)

| network | rate | norms' biases | losses, first to last | apart at the last | at most | torch |
|---|---|---|---|---|---|---|
{rows}

A training amplifies whatever differs, and rounding differs between any two programs. The last
column says by how much: it is torch against torch, where every weight starts one unit in the last
place higher or lower, at most over the steps. More than {allowed:.0e} between flaxzoo and torch
fails. In float32, with 5e8 times the rounding, no two programs stay together for so long.

Not every network can be compared from its initial values alone. With the biases of batch
normalisation at 0 half of the units are below the kinks of their ReLUs, and the gradients of a deep
network explode: MobileNetV2 amplifies rounding 50-fold in each of its first steps, at any rate.
After 200 of them (rate 0.01) torch was 0.54 from torch, and flaxzoo 0.30. With the biases at 1 and
rate 1e-3 torch is 1e-13 from torch after 40.
{missing}
`python -m flaxzoo parity NAME --float64 --train-steps 200 --plot losses.png` does it for any
variant, at rate 1e-3 with those biases at 1.

Machine: {machine}; {versions}. n = 1: a comparison is deterministic.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Compares trainings with PyTorch, by their losses."
    )
    parser.add_argument("--render", action="store_true", help="write the pages and do nothing else")
    if not parser.parse_args().render:
        measure()
    results = load(RESULTS)
    curves = {name: as_curves(results[name]) for name in NETWORKS if name in results}
    plot_losses(curves, PLOT)
    Image.open(PLOT).convert("RGB").quantize(32).save(PLOT, optimize=True)  # a third of the bytes
    PAGE.write_text(render(results, curves))
    print(f"wrote {PAGE.relative_to(ROOT)} and {PLOT.relative_to(ROOT)}")


def measure() -> None:
    import jax

    from flaxzoo.cli import prepare_jax

    prepare_jax()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    results = load(RESULTS)
    for name in NETWORKS:
        if name in results:
            continue
        started = time.monotonic()
        curves = compare_losses(
            name, STEPS, image_size=PIXELS, num_classes=10, rounding=True, **NETWORKS[name]
        )
        results[name] = {
            "seconds": round(time.monotonic() - started),
            "versions": {p: importlib.metadata.version(p) for p in ("jax", "flax", "torch")},
            **{key: value.tolist() for key, value in vars(curves).items()},
        }
        print(f"{name}: {curves}; torch against itself {results[name]['rounding'][-1]:.1e}")
        lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in results.items())
        RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def as_curves(result: dict[str, Any]) -> LossCurves:
    return LossCurves(*(np.array(result[key]) for key in ("ours", "theirs", "rounding")))


def render(results: dict[str, Any], curves: dict[str, LossCurves]) -> str:
    rows = [
        f"| `{name}` | {start['learning_rate']:g} | {start['norm_bias']:g} "
        f"| {c.theirs[0]:.3f} to {c.theirs[-1]:.3f} | {c.gap[-1]:.0e} | {c.gap.max():.0e} "
        f"| {np.max(results[name]['rounding']):.0e} |"
        for name, c, start in ((name, c, NETWORKS[name]) for name, c in curves.items())
    ]
    missing = [f"`{name}`" for name in NETWORKS if name not in curves]
    versions = {k: v for result in results.values() for k, v in result["versions"].items()}
    return TEXT.format(
        steps=STEPS, momentum=HYPER["momentum"], decay=HYPER["weight_decay"], batch=BATCH_SIZE,
        pixels=PIXELS, rows="\n".join(rows),
        allowed=TOLERANCES["float64"]["loss"],
        missing=f"\nNot measured yet: {', '.join(missing)}.\n" if missing else "",
        machine=f"{os.cpu_count()} CPU cores, {platform.machine()}",
        versions=", ".join(f"{package} {v}" for package, v in sorted(versions.items())),
    )  # fmt: skip


if __name__ == "__main__":
    main()
