"""Kills a run at random moments, starts it again, and compares its end with a run left alone.

    python -m benchmarks.kill_and_resume            20 trials, some 10 minutes on two cores

The run has everything that keeps state or draws random numbers: averaged weights, SAM,
accumulation, mixup, momentum. Each trial is a new run that gets SIGKILL once, at a moment that is
uniform over the time a whole run takes, imports and compiling included. Ends are equal if every
array of the train state is, to the bit. Results go to benchmarks/results/kill_and_resume.json, or
to --out. benchmarks/kill_saves.py kills inside of saves.
"""

import argparse
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.record import FOLDER, ROOT, save
from flaxzoo.checkpoint import Checkpoints
from flaxzoo.cli import parse_train_flags
from flaxzoo.training.trainer import build

RESULTS = FOLDER / "kill_and_resume.json"
FLAGS = [
    f"--config={ROOT / 'configs' / 'resnext.py'}",
    "--config.model.name=resnet_tiny",
    "--config.schedule.warmup=5 steps",
    "--config.log_every=5 steps",
    "--config.checkpoint.every=10 steps",
    "--config.accumulate=2",
    "--config.augment.mixup=0.2",
    "--config.ema.decay=0.99",
    "--config.sam.rho=0.05",
]


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills runs and compares their ends.")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--duration", default="6 epochs", help="of a run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    flags = [*FLAGS, f"--config.duration={arguments.duration}"]
    rng = random.Random(arguments.seed)
    jax.config.update("jax_platforms", "cpu")
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder) / "warm", flags)  # fills the compilation cache
        started = time.monotonic()
        run(Path(folder) / "whole", flags)
        seconds = time.monotonic() - started
        whole = final_arrays(Path(folder) / "whole", flags)
        trials = []
        for i in range(arguments.trials):
            workdir = Path(folder) / f"killed-{i}"
            trial = kill(workdir, flags, rng.uniform(0, seconds))
            run(workdir, flags)
            killed = final_arrays(workdir, flags)
            trial["equal"] = whole.keys() == killed.keys() and all(
                whole[k].tobytes() == killed[k].tobytes() for k in whole
            )
            trials.append(trial)
            print(trial, flush=True)
    save(arguments.out, summary(flags, trials, seconds, len(whole)))
    equal = sum(trial["equal"] for trial in trials)
    print(f"{equal} of {len(trials)} ended bit-equal to the run that was left alone")
    sys.exit(equal != len(trials))


def command(workdir: Path, flags: list[str]) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *flags, f"--workdir={workdir}"]


def run(workdir: Path, flags: list[str]) -> None:
    subprocess.run(
        command(workdir, flags), env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def kill(workdir: Path, flags: list[str], after: float) -> dict[str, Any]:
    """Starts a run and kills it `after` so many seconds; says where that was."""
    with subprocess.Popen(
        command(workdir, flags),
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
    checkpoints = workdir / "checkpoints"
    names = [p.name for p in checkpoints.iterdir()] if checkpoints.is_dir() else []
    return {
        "seconds": round(after, 1),
        "killed": process.returncode == -signal.SIGKILL,
        "checkpoint": max((int(name) for name in names if name.isdigit()), default=None),
        "while_saving": any("tmp" in name for name in names),
    }


def final_arrays(workdir: Path, flags: list[str]) -> dict[str, np.ndarray]:
    """Returns every array of the last checkpoint by its path."""
    config, _ = parse_train_flags(flags)
    trainer, state = build(config)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=1)
    state = jax.device_get(checkpoints.restore(state, trainer.clock.total_steps))
    checkpoints.close()
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def summary(
    flags: list[str], trials: list[dict[str, Any]], seconds: float, arrays: int
) -> dict[str, Any]:
    return {
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": {p: version(p) for p in ("jax", "flax", "optax", "orbax-checkpoint")},
        "flags": flags[1:],
        "seconds_of_a_whole_run": round(seconds, 1),
        "arrays_compared": arrays,
        "trials": trials,
    }


if __name__ == "__main__":
    main()
