"""Trains for an hour and watches for what grows: memory, open files, threads, logs, time a step.

    python -m benchmarks.long_run                   an hour, at whatever speed the machine has
    python -m benchmarks.long_run --minutes 5 --save-every 1000000000 --out no_saves

A small net is trained on a folder of JPEGs, which a process of its own decodes, with everything
that repeats in a run: lines of metrics, validation, plots, checkpoints that replace older ones.
Every ten seconds the run and its processes are looked at from outside, through /proc. Time a step
is that of all cores, which others on the machine disturb less than time by the clock. At the end
the run gets SIGTERM. Samples and slopes go to benchmarks/results/long_run.json, their plot to
docs/long_run.png, or to --out with .json and .png.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.record import FOLDER, ROOT, save

RESULTS = FOLDER / "long_run.json"
PLOT = ROOT / "docs" / "long_run.png"
EVERY = 10.0  # seconds between two samples
WINDOW = 6  # samples, over which time a step is taken: metrics come every 50 steps
FIRST = 0.1  # of the samples, in which caches fill, count for no slope
FLAGS = [
    "--config.model.name=lenet5_bn",
    "--config.data.image_size=32",
    "--config.data.workers=1",
    "--config.batch_size=32",
    "--config.duration=100000000 steps",
    "--config.eval_every=500 steps",
    "--config.checkpoint.minutes=0",
    "--config.log_every=50 steps",
]
TITLES = {
    "resident_mib": "resident memory (MiB)",
    "handles": "open files and sockets",
    "threads": "threads",
    "workdir_files": "files in the run's folder",
    "cpu_ms_a_step": "processor time a step (ms)",
    "metrics_bytes_a_step": "metrics.jsonl (bytes a step)",
}

Sample = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains for long and watches for what grows.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--save-every", type=int, default=500, metavar="STEPS")
    parser.add_argument("--out", type=Path, help="instead of the committed figures and plot")
    arguments = parser.parse_args()
    minutes, out = arguments.minutes, arguments.out
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder) / "photos")
        samples, code = watch(Path(folder), minutes, arguments.save_every)
    if code != 128 + signal.SIGTERM or len(samples) < 10:
        sys.exit(f"error: the run ended with {code} after {len(samples)} samples")
    results = {
        "minutes": minutes,
        "save_every": arguments.save_every,
        "steps": samples[-1]["steps"],
        "slopes an hour": {name: slope(samples, name) for name in TITLES},
        "ranges": {name: extent(samples, name) for name in TITLES},
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: version(name) for name in ("jax", "flax", "orbax-checkpoint", "grain")},
        "samples": samples,
    }
    save(out.with_suffix(".json") if out else RESULTS, results)
    draw(samples, out.with_suffix(".png") if out else PLOT)
    print(json.dumps(results | {"samples": len(samples)}, indent=1))


def write_photographs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(400):
        place = folder / f"class {i % 4}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(place / f"{i}.jpg")


def watch(folder: Path, minutes: float, save_every: int) -> tuple[list[Sample], int]:
    """Trains for so long from the first step on; returns the samples and the exit code."""
    workdir = folder / "run"
    config = f"--config={ROOT / 'configs' / 'lenet.py'}:folder={folder / 'photos'}"
    flags = [*FLAGS, f"--config.checkpoint.every={save_every} steps", f"--workdir={workdir}"]
    command = [sys.executable, str(ROOT / "train.py"), config, *flags]
    samples: list[Sample] = []
    with (
        (folder / "output").open("w") as output,
        subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT) as process,
    ):
        while process.poll() is None and steps_of(workdir) == 0:
            time.sleep(0.5)
        started = time.monotonic()
        try:
            while process.poll() is None and time.monotonic() < started + 60 * minutes:
                samples.append(sample(process.pid, workdir, time.monotonic() - started))
                time.sleep(EVERY)
        finally:
            process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=120)
    if code != 128 + signal.SIGTERM:
        print((folder / "output").read_text()[-2000:], file=sys.stderr)
    for before, after in zip(samples, samples[WINDOW:], strict=False):
        steps = max(after["steps"] - before["steps"], 1)
        after["cpu_ms_a_step"] = 1000 * (after["cpu_seconds"] - before["cpu_seconds"]) / steps
    return samples[WINDOW:], code


def sample(pid: int, workdir: Path, seconds: float) -> Sample:
    """Looks at a process and those that it started; one that ends meanwhile is left out."""
    page, tick = os.sysconf("SC_PAGE_SIZE") / 2**20, os.sysconf("SC_CLK_TCK")
    stats, handles = [], 0
    for p in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()
            handles += len(os.listdir(f"/proc/{p}/fd"))
            stats.append(fields)
    steps, metrics = steps_of(workdir), workdir / "metrics.jsonl"
    return {
        "seconds": round(seconds, 1),
        "steps": steps,
        "resident_mib": round(sum(int(fields[21]) for fields in stats) * page, 1),
        "threads": sum(int(fields[17]) for fields in stats),
        "handles": handles,
        # Of each its own, and that of the processes which it started and which have ended.
        "cpu_seconds": sum(int(field) for fields in stats for field in fields[11:15]) / tick,
        "workdir_files": sum(len(files) for _, _, files in os.walk(workdir)),
        "metrics_bytes_a_step": metrics.stat().st_size / steps,
    }


def descendants(pid: int) -> list[int]:
    """Returns the processes that any thread of a process has started, and theirs."""
    children: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended
            children += map(int, path.read_text().split())
    return [p for child in children for p in (child, *descendants(child))]


def steps_of(workdir: Path) -> int:
    """Returns the step of the last whole line of metrics, 0 where there is none."""
    metrics = workdir / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    whole = [line for line in lines[-2:] if line.endswith("\n")]
    return json.loads(whole[-1])["step"] if whole else 0


def settled(samples: list[Sample], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns hours and values of a figure, after the caches have filled."""
    late = samples[int(FIRST * len(samples)) :]
    return np.array([s["seconds"] for s in late]) / 3600, np.array([s[name] for s in late])


def slope(samples: list[Sample], name: str) -> float:
    """Returns the slope of the least squares, an hour."""
    return round(float(np.polyfit(*settled(samples, name), 1)[0]), 3)


def extent(samples: list[Sample], name: str) -> list[float]:
    _, values = settled(samples, name)
    return [round(float(f(values)), 2) for f in (np.min, np.median, np.max)]


def draw(samples: list[Sample], path: Path) -> None:
    figure = Figure(figsize=(9, 6), layout="constrained")
    minutes = [s["seconds"] / 60 for s in samples]
    for axes, (name, title) in zip(figure.subplots(2, 3).flat, TITLES.items(), strict=True):
        axes.plot(minutes, [s[name] for s in samples], linewidth=0.8)
        axes.set_title(title, fontsize=9)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("minutes")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
