"""Measures how many training images a second come out of flaxzoo, torch's DataLoader and tf.data.

    python -m benchmarks.input_pipeline FOLDER --tf-python OTHER_ENVIRONMENT/bin/python
    python -m benchmarks.input_pipeline FOLDER --tf-python ... --shrink 224

FOLDER holds JPEGs of full size, at any depth; --shrink first makes squares of so many pixels of
them, in files of their own, as data sets are often kept where reading is to be quick. They are
repeated to --images an epoch, decoded, cut at random, resized to 224 pixels and batched as uint8:
with torchvision's v2 transforms on PIL images for torch, with decode_and_crop_jpeg for TensorFlow,
whose resize reduces with antialiasing, as the others do ("tf"), or without it ("tf_plain", which is
its default, and less work: it reads four pixels of the box for one of the result, however large the
box is). Those two mirror half of the images as well, which flaxzoo leaves to the device.

All are compared core by core: at 1 a pipeline has one processor core for all it does, at 2 it has
two, to which it is bound. tf.data decodes in as many threads, and so does "flaxzoo_threads"
(data.workers=0); torch and "flaxzoo" decode in as many worker processes, which share the cores with
the process that takes the batches.

Each measurement is a process of its own, after some batches that do not count. A round measures
every pipeline once, and ratios are taken within a round: what slows the machine slows all of them.
Results go to benchmarks/results/input_pipeline.json, or input_pipeline_224.json of shrunk images:
images a second, CPU milliseconds an image of the process and its workers together, and by how many
MiB their memory grew from the first quarter of the epoch to its end. Ratios by CPU time hold on a
machine that does other work as well, too.
"""

import argparse
import importlib
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.record import FOLDER, ROOT, save

OURS, OTHERS = ("flaxzoo_threads", "flaxzoo"), ("torch", "tf", "tf_plain")
PIPELINES = [(name, cores) for cores in (1, 2) for name in (*OURS, *OTHERS)]
BATCH, SIZE, WARM_UP = 64, 224, 3
PACKAGES = ("grain", "numpy", "pillow", "simplejpeg", "cykooz-resizer", "torch", "torchvision")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shrink", type=int, metavar="PIXELS", help="images to such squares first")
    parser.add_argument("--images", type=int, default=2000, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tf-python", help="the Python of an environment that has TensorFlow")
    parser.add_argument("--measure", nargs=2, metavar=("PIPELINE", "CORES"), help="just this")
    arguments = parser.parse_args()
    if arguments.measure:
        name, cores = arguments.measure
        print(json.dumps(measure(name, int(cores), arguments.folder, arguments.images)))
        return
    if not arguments.shrink:
        compare(arguments, arguments.folder, FOLDER / "input_pipeline.json")
        return
    with tempfile.TemporaryDirectory() as shrunk:
        shrink(arguments.folder, Path(shrunk), arguments.shrink)
        results = FOLDER / f"input_pipeline_{arguments.shrink}.json"
        compare(arguments, Path(shrunk), results)


def shrink(folder: Path, shrunk: Path, side: int) -> None:
    """Writes a square JPEG of every image in `folder`."""
    from PIL import Image, ImageOps

    for i, path in enumerate(jpegs(folder)):
        with Image.open(path) as image:
            square = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
        square.save(shrunk / f"{i}.jpg", quality=90)


def compare(arguments: argparse.Namespace, folder: Path, path: Path) -> None:
    """Measures every pipeline on the images in `folder`, and keeps what it finds in `path`."""
    pythons = interpreters(arguments.tf_python)
    tensorflow = tensorflow_version(pythons.get("tf"))
    results: dict[str, Any] = {"ratios": {}}
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(arguments.rounds):
        for name, cores in PIPELINES:
            if name not in pythons:
                continue
            command = [
                pythons[name], "-m", "benchmarks.input_pipeline", str(folder),
                "--images", str(arguments.images), "--measure", name, str(cores),
            ]  # fmt: skip
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            result = json.loads(done.stdout.splitlines()[-1])
            found.setdefault(f"{name} {cores}", []).append(result)
            print(f"round {number + 1}: {name} {cores}", result, flush=True)
        results = summary(found, arguments.images)
        results["versions"]["tensorflow"] = tensorflow
        save(path, results)  # of all rounds so far
    for name, ratio in results["ratios"].items():
        speeds = f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})"
        print(f"{name}: {speeds}, by CPU time {ratio['by_cpu_time']:.2f}")


def interpreters(tf_python: str | None) -> dict[str, str]:
    """Returns what runs each pipeline; says which are left out."""
    pythons = dict.fromkeys(OURS, sys.executable)
    if importlib.util.find_spec("torchvision"):
        pythons["torch"] = sys.executable
    else:
        print("left out: torch, since torchvision is not installed")
    if tf_python or importlib.util.find_spec("tensorflow"):
        pythons |= dict.fromkeys(("tf", "tf_plain"), tf_python or sys.executable)
    else:
        print("left out: tf.data; --tf-python takes the Python of an environment with TensorFlow")
    return pythons


def tensorflow_version(python: str | None) -> str | None:
    if python is None:
        return None
    command = [python, "-c", "import tensorflow; print(tensorflow.__version__)"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def summary(found: dict[str, list[dict[str, float]]], images: int) -> dict[str, Any]:
    """Returns what is kept: all measurements, and flaxzoo's speed over that of the others."""
    ratios = {}
    for name, (ours, cores) in itertools.product(OTHERS, PIPELINES):
        other = f"{name} {cores}"
        if ours not in OURS or other not in found:
            continue
        pairs = list(zip(found[f"{ours} {cores}"], found[other], strict=True))
        speed = [a["images_per_s"] / b["images_per_s"] for a, b in pairs]
        cpu = [b["cpu_ms_an_image"] / a["cpu_ms_an_image"] for a, b in pairs]
        ratios[f"{ours} / {other}"] = {
            "median": statistics.median(speed), "least": min(speed), "most": max(speed),
            "by_cpu_time": statistics.median(cpu),
        }  # fmt: skip
    return {
        "measurements": found,
        "ratios": ratios,
        "images": images,
        "processor": platform.processor() or platform.machine(),
        "versions": {p: metadata.version(p) for p in PACKAGES if _installed(p)},
    }


def _installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def measure(name: str, cores: int, folder: Path, images: int) -> dict[str, float]:
    """Runs one epoch of one pipeline in this process."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    files = jpegs(folder)
    steps = WARM_UP + images // BATCH
    needed = steps * BATCH
    files = (files * -(-needed // len(files)))[:needed]
    batches = MAKERS[name](files, cores)
    for _ in range(WARM_UP):
        next(batches)
    started, cpu, quarter = time.perf_counter(), _cpu_seconds(), 0.0
    for step in range(WARM_UP, steps):
        if tuple(next(batches).shape[:1]) != (BATCH,):
            raise SystemExit(f"{name} delivered an incomplete batch")
        if step == WARM_UP + (steps - WARM_UP) // 4:
            quarter = _memory_mib()
    seconds, count = time.perf_counter() - started, (steps - WARM_UP) * BATCH
    return {
        "images_per_s": round(count / seconds, 1),
        "cpu_ms_an_image": round(1000 * (_cpu_seconds() - cpu) / count, 3),
        "memory_mib": round(_memory_mib(), 1),
        "growth_mib": round(_memory_mib() - quarter, 1),
    }


def jpegs(folder: Path) -> list[str]:
    files = sorted(str(p) for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise SystemExit(f"no JPEGs below {folder}")
    return files


def _family(process: int) -> list[int]:
    """Returns a process and its descendants."""
    found = [process]
    for tasks in Path(f"/proc/{process}/task").glob("*/children"):
        found += [p for child in tasks.read_text().split() for p in _family(int(child))]
    return found


def _cpu_seconds() -> float:
    ticks = 0
    for process in _family(os.getpid()):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory_mib() -> float:
    """Returns the memory of this process and its workers; what they share counts once."""
    kib = 0
    for process in _family(os.getpid()):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib / 1024


def flaxzoo_batches(files: list[str], workers: int) -> Iterator[Any]:
    import numpy as np

    from flaxzoo.data import FileSplit
    from flaxzoo.data.stream import train_batches

    split = FileSplit(files, np.zeros(len(files), np.int32))
    steps = len(files) // BATCH
    with train_batches(
        split, seed=0, batch_size=BATCH, image_size=SIZE, num_steps=steps, workers=workers
    ) as batches:
        for batch in batches:
            yield batch["image"]


class Files:
    """The images of torch's loader."""

    def __init__(self, files: list[str], transform: Any):
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Any:
        from PIL import Image

        with open(self.files[i], "rb") as file:
            return self.transform(Image.open(file).convert("RGB"))


def torch_batches(files: list[str], workers: int) -> Iterator[Any]:
    from flaxzoo.parity.twins import import_library

    library = import_library("torchvision").__name__
    from torch.utils.data import DataLoader

    v2 = importlib.import_module(f"{library}.transforms.v2")
    transform = v2.Compose(
        [v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    )
    dataset: Any = Files(files, transform)
    yield from DataLoader(dataset, BATCH, shuffle=True, num_workers=workers)


def tf_batches(files: list[str], workers: int, antialias: bool = True) -> Iterator[Any]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tf: Any = importlib.import_module("tensorflow")

    def crop(path: Any) -> Any:
        data = tf.io.read_file(path)
        start, size, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(data),
            tf.zeros([0, 0, 4]),
            min_object_covered=0.0,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        box = tf.io.decode_and_crop_jpeg(data, tf.concat([start[:2], size[:2]], 0), channels=3)
        image = tf.image.resize(box, [SIZE, SIZE], antialias=antialias)
        return tf.cast(tf.image.random_flip_left_right(image), tf.uint8)

    dataset = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files))
    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    dataset = dataset.map(crop, num_parallel_calls=workers).batch(BATCH).prefetch(2)
    yield from dataset.with_options(options)


MAKERS = {
    "flaxzoo_threads": lambda files, cores: flaxzoo_batches(files, 0),
    "flaxzoo": flaxzoo_batches,
    "torch": torch_batches,
    "tf": tf_batches,
    "tf_plain": lambda files, cores: tf_batches(files, cores, antialias=False),
}

if __name__ == "__main__":
    main()
