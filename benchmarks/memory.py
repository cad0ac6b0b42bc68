"""Measures the memory of a training step on the CPU, with flaxzoo and with PyTorch (eager).

    python -m benchmarks.memory                              16 images of 224 pixels, in float32
    python -m benchmarks.memory mobilenet_v2 --rounds 1

Every figure is of a process of its own, which makes the model and runs three steps of SGD with
momentum: the largest resident set (VmHWM) less that after the imports. What compiling needed is
given back before, and its peak forgotten (/proc/self/clear_refs, so Linux alone). Beside it, of
flaxzoo, what XLA says that the step needs. Both take turns, with huge pages where flaxzoo's
programs ask for them; the median, least and most go to benchmarks/results/memory.json.
"""

import argparse
import ctypes
import importlib.metadata
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.record import FOLDER, load, save
from flaxzoo.huge_pages import restart_with_huge_pages

RESULTS = FOLDER / "memory.json"
MODELS = ("mobilenet_v2", "resnet50", "vit_b_16")
FRAMEWORKS = ("flaxzoo", "torch")
BATCH, SIZE, STEPS = 16, 224, 3


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the memory of a training step.")
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--inside", choices=FRAMEWORKS, help="measure this one in this process")
    arguments = parser.parse_args()
    if arguments.inside:
        print(*measure(arguments.inside, arguments.models[0]))
        return
    results = load(RESULTS)
    for name in arguments.models:
        results[name] = compare(name, arguments.rounds)
        print(name, results[name], flush=True)
        save(RESULTS, results)


def compare(name: str, rounds: int) -> dict[str, Any]:
    """Returns MiB of both frameworks, and the ratio of the medians."""
    peaks: dict[str, list[float]] = {framework: [] for framework in FRAMEWORKS}
    told = 0.0
    for _ in range(rounds):
        for framework in FRAMEWORKS:
            command = [sys.executable, "-m", "benchmarks.memory", name, "--inside", framework]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peak, said = map(float, output.splitlines()[-1].split())
            peaks[framework].append(peak)
            told = said or told
    spread = {
        f"{framework}_mib": [round(f(values)) for f in (statistics.median, min, max)]
        for framework, values in peaks.items()
    }
    ratio = statistics.median(peaks["flaxzoo"]) / statistics.median(peaks["torch"])
    return spread | {
        "xla_mib": round(told),
        "ratio_to_torch": round(ratio, 2),
        "n": rounds,
        "batch": BATCH,
        "image_size": SIZE,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "versions": {p: importlib.metadata.version(p) for p in ("jax", "flax", "torch")},
    }


def measure(framework: str, name: str) -> tuple[float, float]:
    """Returns MiB that training takes in this process, and what XLA says of it, 0 for PyTorch."""
    if framework == "torch":
        import torch_ref  # noqa: F401

        before, told = resident("VmRSS"), 0.0
        run = torch_step(name)
    else:
        import jax

        from flaxzoo.speed import flaxzoo_runner

        jax.config.update("jax_platforms", "cpu")
        jax.devices()
        before = resident("VmRSS")
        runner = flaxzoo_runner(name, mode="train", batch_size=BATCH, image_size=SIZE)
        run, told = runner.run, runner.peak_mib or 0.0
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(STEPS):
        run()
    return resident("VmHWM") - before, told


def torch_step(name: str) -> Callable[[], None]:
    """Returns what takes a training step with the twin of variant `name`."""
    import torch

    import torch_ref

    model = torch_ref.create_model(name).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images, labels = torch.randn(BATCH, 3, SIZE, SIZE), torch.zeros(BATCH, dtype=torch.long)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def resident(key: str) -> float:
    """Returns a figure of /proc/self/status, in MiB."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
