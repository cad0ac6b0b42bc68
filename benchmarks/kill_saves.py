"""Kills a process in the middle of saving, deleting or restoring, and looks at what it leaves.

    python -m benchmarks.kill_saves            200 trials, some five minutes on two cores

A process opens the checkpoints of a run, restores the newest and saves one step after another,
keeping two. It says what it begins, and gets SIGKILL at a moment that is uniform over the time that
this takes. Then the newest checkpoint must be no older than the last that was said to be on disk,
and equal, to the bit, to the state that was saved at its step; none may be damaged, and no
temporary name may stay. The next trial goes on in what this one left, except for first saves: each
has a folder of its own.

Results go to benchmarks/results/kill_saves.json, or to --out.
"""

import argparse
import collections
import contextlib
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.record import FOLDER, ROOT, save
from flaxzoo.checkpoint import Checkpoints, saved_steps
from flaxzoo.checksums import damage

RESULTS = FOLDER / "kill_saves.json"
PHASES = ("first save", "save", "delete", "restore")
KEEP = 2
PROGRAM = "from benchmarks.kill_saves import serve; serve()"
TIME_LIMIT = 120  # seconds for one trial


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills processes that save checkpoints.")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    jax.config.update("jax_platforms", "cpu")
    trials = []
    with tempfile.TemporaryDirectory() as folder, Nursery() as nursery:
        seconds = nursery.usual(Path(folder) / "calm")
        for i in range(arguments.trials):
            phase = PHASES[i % len(PHASES)]
            place = Path(folder) / (f"first-{i}" if phase == "first save" else "long")
            trial = nursery.kill(place, phase, rng.uniform(0, seconds[phase]))
            trial["wrong"] = wrong(place, trial["on_disk"])
            trials.append(trial)
            print(trial, flush=True)
    save(arguments.out, summary(trials, seconds))
    failed = [trial for trial in trials if trial["wrong"]]
    print(f"{len(trials) - len(failed)} of {len(trials)} left what they should")
    sys.exit(bool(failed))


def state(step: int) -> dict[str, np.ndarray]:
    """Returns the arrays that are saved at `step`: 2 MB."""
    rng = np.random.default_rng(step)
    arrays = {f"layer{i}.kernel": rng.random((256, 512), np.float32) for i in range(4)}
    return arrays | {"step": np.asarray(step, np.int32)}


def wrong(folder: Path, on_disk: int) -> str:
    """Returns what is wrong with the checkpoints in `folder`, "" if nothing is.

    Args:
        on_disk: the last step that was said to be; 0: none.
    """
    steps = saved_steps(folder)
    if damaged := [step for step in steps if damage(folder / str(step))]:
        return f"damaged: {damaged}"
    if max(steps, default=0) < on_disk:
        return f"step {on_disk} was on disk, and now only {steps}"
    checkpoints = Checkpoints(folder, KEEP)
    try:
        step = checkpoints.latest_step()
        if step != max(steps, default=None):
            return f"the newest of {steps} is said to be {step}"
        expected = {} if step is None else state(step)
        if expected:
            restored = jax.device_get(checkpoints.restore(jax.device_put(state(0)), step))
            if odd := [k for k in expected if expected[k].tobytes() != restored[k].tobytes()]:
                return f"of step {step}, {', '.join(odd)} differ"
    finally:
        checkpoints.close()
    left = [path.name for path in folder.iterdir() if not path.name.isdigit()]
    return f"left behind: {left}" if left else ""


class Nursery:
    """A process that has imported everything, and forks one that saves whenever it is asked to."""

    def __enter__(self) -> "Nursery":
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM],
            cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, start_new_session=True, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._process.communicate()

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _lines(self, folder: Path) -> Iterator[str]:
        """Starts a process; yields its number and what it says, until it has ended."""
        watchdog = threading.Timer(TIME_LIMIT, self._end)
        watchdog.start()
        try:
            print(folder, file=self._process.stdin, flush=True)
            for line in self._process.stdout or ():
                if line == "ended\n":
                    return
                yield line.rstrip("\n")
            raise TimeoutError(f"not ended after {TIME_LIMIT} s, in {folder}")
        finally:
            watchdog.cancel()

    def usual(self, folder: Path) -> dict[str, float]:
        """Returns the seconds that each phase takes, the median of a few."""
        seconds: dict[str, list[float]] = collections.defaultdict(list)
        for _ in range(2):  # the second has something to restore
            pid, lines = 0, self._lines(folder)
            before, began = "", time.monotonic()
            for line in lines:
                now = time.monotonic()
                if before in PHASES:
                    seconds[before].append(now - began)
                before, began = line, now
                pid = int(line.split()[1]) if line.startswith("process") else pid
                if line in ("on disk 6", "on disk 13"):
                    os.kill(pid, signal.SIGKILL)
        return {phase: statistics.median(taken) for phase, taken in seconds.items()}

    def kill(self, folder: Path, phase: str, after: float) -> dict[str, Any]:
        """Kills a process so many seconds after it has begun its second `phase`, or the only one.

        Returns:
            on_disk: the last step that it said was, or that was before; 0 without one. during: what
            it did at the end.
        """
        on_disk = max(saved_steps(folder), default=0)
        pid, begun, said, killed = 0, 0, [], False
        for line in self._lines(folder):
            said.append(line)
            word, _, number = line.rpartition(" ")
            pid = int(number) if word == "process" else pid
            on_disk = int(number) if word == "on disk" else on_disk
            begun += line == phase
            if not killed and begun == (1 if phase in ("first save", "restore") else 2):
                time.sleep(after)
                os.kill(pid, signal.SIGKILL)
                killed = True
        return {"phase": phase, "after": round(after, 4), "during": said[-1], "on_disk": on_disk}


def serve() -> None:
    """Forks a process for each folder that is read from the standard input."""
    from orbax.checkpoint import v1  # noqa: F401 before the fork, once for all

    for line in sys.stdin:
        if pid := os.fork():
            os.waitpid(pid, 0)
            say("ended")
        else:
            work(Path(line.rstrip("\n")))


def work(folder: Path) -> None:
    """Restores, and saves until it is killed; says what it does."""
    say(f"process {os.getpid()}")
    delete = Checkpoints._delete

    def delete_and_say(self: Checkpoints, step: int) -> None:
        say("delete")
        delete(self, step)
        say("deleted")

    Checkpoints._delete = delete_and_say
    checkpoints = Checkpoints(folder, KEEP)
    step = checkpoints.latest_step() or 0
    if step:
        say("restore")
        checkpoints.restore(jax.device_put(state(0)), step)
        say("restored")
    while True:
        step += 1
        say("save" if step > 1 else "first save")
        checkpoints.save(step, jax.device_put(state(step)), None)
        checkpoints.wait()
        say(f"on disk {step}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def summary(trials: list[dict[str, Any]], seconds: dict[str, float]) -> dict[str, Any]:
    during = {
        phase: dict(collections.Counter(t["during"] for t in trials if t["phase"] == phase))
        for phase in PHASES
    }
    return {
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": {p: version(p) for p in ("jax", "orbax-checkpoint", "tensorstore")},
        "milliseconds": {phase: round(1e3 * s, 1) for phase, s in seconds.items()},
        "trials": len(trials),
        "wrong": [trial for trial in trials if trial["wrong"]],
        "during": during,
    }


if __name__ == "__main__":
    main()
