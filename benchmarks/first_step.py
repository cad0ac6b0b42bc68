"""Times from the start of a process to the end of its first training step, on the CPU.

    python -m benchmarks.first_step               what is not measured yet
    python -m benchmarks.first_step 'resnet*'     only these
    python -m benchmarks.first_step --compile     with torch.compile as well

flaxzoo runs train.py: on the bundled digits with the family's config, and on 224-pixel photographs
in batches of 16. It starts with an empty compilation cache, and then once more; a run has made its
first step when its row is in metrics.jsonl. torch runs the twin of the 224-pixel net in as short a
program as there can be, with no data to read, in channels_last. Both have huge pages where
flaxzoo's programs ask for them. Besides, how long it takes to import flaxzoo and to create the
model.

Results are kept in benchmarks/results/first_step.json after each net, so that it can be stopped and
run again. n = 1: a start takes seconds to minutes, and machines differ by more than it varies.
"""

import argparse
import fnmatch
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.cpu_speed import processor
from benchmarks.record import FOLDER, ROOT, load, save
from flaxzoo.huge_pages import restart_with_huge_pages

RESULTS = FOLDER / "first_step.json"
BATCH_SIZE = 16
CONFIGS = {  # name: the config of its family
    "resnet18": "resnet",
    "resnet50": "resnet",
    "resnext50_32x4d": "resnext",
    "vgg11_bn": "vgg",
    "densenet121": "densenet",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3_large": "mobilenet_v3",
    "shufflenet_v2_x1_0": "shufflenet_v2",
    "efficientnet_b0": "efficientnet",
    "googlenet": "googlenet",
    "squeezenet1_1": "squeezenet",
    "convnext_tiny": "convnext",
    "vit_b_32": "vit",
    "mixer_s16_224": "mlp_mixer",
    "resmlp_12_224": "resmlp",
    "gmlp_ti16_224": "gmlp",
}
TORCH = """
import sys, torch, torch_ref
name, framework = sys.argv[1:]
model = torch_ref.create_model(name).to(memory_format=torch.channels_last)
call = torch.compile(model) if framework == "torch.compile" else model
images = torch.randn(16, 3, 224, 224).contiguous(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
outputs = call(images)
logits = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
torch.nn.functional.cross_entropy(logits, torch.zeros(16, dtype=torch.long)).backward()
optimizer.step()
"""
CREATE = """
import time
started = time.perf_counter()
import flaxzoo
imported = time.perf_counter()
flaxzoo.create_model({name!r})
print(imported - started, time.perf_counter() - imported)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Times first training steps on the CPU.")
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, like 'resnet*'")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too")
    parser.add_argument("--timeout", type=int, default=300, metavar="SECONDS", help="for a start")
    arguments = parser.parse_args()
    for name in fnmatch.filter(CONFIGS, arguments.pattern):
        frameworks = ["torch", *(["torch.compile"] if arguments.compile else [])]
        known = load(RESULTS).get(name, {})
        if all(f"224 px, {framework}" in known for framework in frameworks):
            continue
        result = known | measure(name, frameworks, arguments.timeout)
        print(name, result, flush=True)
        save(RESULTS, load(RESULTS) | {name: result})


def measure(name: str, frameworks: list[str], timeout: int) -> dict[str, Any]:
    """Returns seconds, None for a start that was not done in time."""
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {processor()}",
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {
            package: importlib.metadata.version(package) for package in ("jax", "flax", "torch")
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        config = f"configs/{CONFIGS[name]}.py"
        photographs = write_photographs(Path(folder) / "photographs")
        runs = {
            "digits": [f"--config={config}"],
            "224 px": [
                f"--config={config}:folder={photographs},model={name}",
                f"--config.batch_size={BATCH_SIZE}",
                "--config.data.image_size=224",
            ],
        }
        for kind, flags in runs.items():
            for start in ("empty cache", "second start"):
                workdir = Path(folder) / f"{kind}, {start}"
                result[f"{kind}, {start}"] = first_row(
                    flags, workdir, Path(folder) / "cache", timeout
                )
    for framework in frameworks:
        result[f"224 px, {framework}"] = ended([TORCH, name, framework], timeout)[0]
    _, printed = ended([CREATE.format(name=name)], timeout)
    result["import"], result["create"] = (round(float(s), 2) for s in printed.split())
    return result


def write_photographs(folder: Path) -> Path:
    """Writes noise of 256 pixels: 24 images in each of two classes."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("a", "b"):
            (folder / split / label).mkdir(parents=True)
            for i in range(24):
                pixels = rng.integers(256, size=(256, 256, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{i}.jpg")
    return folder


def first_row(flags: list[str], workdir: Path, cache: Path, timeout: int) -> float | None:
    """Returns the seconds until train.py has written the row of its first step."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    started = time.perf_counter()
    command = [sys.executable, "train.py", *flags, f"--workdir={workdir}"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=errors
        ) as process,
    ):
        rows = workdir / "metrics.jsonl"
        try:
            while not (rows.exists() and rows.stat().st_size):
                if process.poll() is not None:
                    errors.seek(0)
                    raise RuntimeError(errors.read().strip().splitlines()[-1])
                if time.perf_counter() - started > timeout:
                    return None
                time.sleep(0.02)
            return round(time.perf_counter() - started, 1)
        finally:
            process.kill()


def ended(program: list[str], timeout: int) -> tuple[float | None, str]:
    """Returns the seconds that a Python program takes, and what it prints."""
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-c", *program], cwd=ROOT, capture_output=True, text=True,
            timeout=timeout, check=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, ""
    return round(time.perf_counter() - started, 1), done.stdout


if __name__ == "__main__":
    restart_with_huge_pages()
    main()
