"""SIGKILL, then the same command again; SIGTERM."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import pytest

from flaxzoo.checkpoint import Checkpoints
from flaxzoo.cli import parse_train_flags
from flaxzoo.training.state import TrainState
from flaxzoo.training.trainer import build

ROOT = Path(__file__).parents[2]
FLAGS = [
    f"--config={ROOT / 'configs' / 'resnext.py'}",
    "--config.model.name=resnet_tiny",
    "--config.duration=12 steps",
    "--config.schedule.warmup=2 steps",
    "--config.log_every=1 steps",
    "--config.eval_every=6 steps",
    "--config.checkpoint.every=2 steps",
    # All that has state or random numbers of its own:
    "--config.accumulate=2",
    "--config.augment.mixup=0.2",
    "--config.ema.decay=0.9",
    "--config.sam.rho=0.05",
]
TIME_LIMIT = 240  # seconds for one process, compiling included


def start(workdir: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "train.py", *FLAGS, f"--workdir={workdir}"],
        cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> None:
    output, _ = process.communicate(timeout=TIME_LIMIT)
    assert process.returncode == 0, output


def logged_steps(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(process: subprocess.Popen, workdir: Path, steps: int) -> None:
    """Returns once so many steps are logged."""
    deadline = time.monotonic() + TIME_LIMIT
    while logged_steps(workdir) < steps:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run took no steps"
        time.sleep(0.01)


def final_state(workdir: Path) -> TrainState:
    config, _ = parse_train_flags(FLAGS)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=1)
    state = checkpoints.restore(build(config)[1], step=12)
    checkpoints.close()
    return jax.device_get(state)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    finish(start(workdir))
    return workdir


@pytest.mark.parametrize("steps", [1, 7])  # before the first checkpoint, and after some
def test_a_killed_run_ends_bit_equal_to_one_that_was_not(whole_run, tmp_path, steps):
    process = start(tmp_path / "killed")
    wait_for(process, tmp_path / "killed", steps)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    finish(start(tmp_path / "killed"))

    whole, killed = final_state(whole_run), final_state(tmp_path / "killed")
    assert whole.ema is not None
    chex.assert_trees_all_equal(whole, killed)  # to the bit, optimiser state and all
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(1, 13))


def test_a_terminated_run_saves_and_says_how_to_go_on(tmp_path):
    process = start(tmp_path)
    wait_for(process, tmp_path, 1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=TIME_LIMIT)
    assert process.returncode == 128 + signal.SIGTERM
    last = output.splitlines()[-1]
    step = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert last == (
        f"interrupted: saved step {step} in {tmp_path / 'checkpoints'}; go on with the same command"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config=configs/resnex.py"], "did you mean 'configs/resnext.py'"),
        (["--config=configs/resnext.py", "--config.batch_sze=3"], "did you mean 'batch_size'"),
    ],
)
def test_a_slip_is_one_line_and_exit_code_2(flags, words):
    result = subprocess.run(
        [sys.executable, "train.py", *flags], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
