"""Images that cannot be read, workers that are killed, checkpoints that are damaged.

The run stops with a sentence and its last step saved, and goes on from there to the same bits; or,
where it is to skip, goes on. Whole programs have a time limit.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import chex
import numpy as np
import pytest
from PIL import Image

from flaxzoo import data
from flaxzoo.checkpoint import read_weights
from flaxzoo.config import ScheduleConfig, data_config
from flaxzoo.data.order import batch_indices
from flaxzoo.errors import InputError
from flaxzoo.training import loop
from flaxzoo.training.loop import train

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 240  # seconds for one process, compiling included
BATCH, TOTAL = 4, 12  # an epoch has 10 steps


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """train/{cat,dog} of 20 images each, val/{cat,dog} of 4."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 4)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (10, 12, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / split / name / f"{i:02}.png")
    return tmp_path / "pets"


@pytest.fixture
def streamed(config, pets):
    """A run on these files; nothing but the validation at step 6 saves before the end."""
    config.batch_size, config.duration = BATCH, f"{TOTAL} steps"
    config.data = data_config(f"folder={pets}", image_size=8, crop="random_resized")
    config.eval_every, config.checkpoint.every = "6 steps", f"{TOTAL} steps"
    return config


def needed_at(pets: Path, step: int) -> Path:
    """Returns a training image that update number `step` is the first to read."""
    split = data.load(f"folder={pets}").train
    return Path(split.name(int(batch_indices(0, step - 1, len(split), BATCH)[0])))


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def saved(workdir: Path) -> set[str]:
    return {path.name for path in (workdir / "checkpoints").iterdir()}


def test_a_file_lost_on_the_way_stops_the_run_with_its_last_step_saved(
    streamed, pets, tmp_path, monkeypatch, saved_arrays
):
    """It is lost when step 1 is logged: batches are read ahead, but not so far."""
    train(streamed, tmp_path / "whole", quiet=True)
    path, real_log = needed_at(pets, 10), loop.Run.log

    def lose(self, **row):
        real_log(self, **row)
        if row["step"] == 1:
            path.rename(tmp_path / "elsewhere")

    monkeypatch.setattr(loop.Run, "log", lose)
    where = re.escape(str(tmp_path / "cut" / "checkpoints"))
    with pytest.raises(InputError, match=rf"{path}: no such file; saved step 9 in {where}$"):
        train(streamed, tmp_path / "cut", quiet=True)
    assert saved(tmp_path / "cut") == {"6", "9"}
    monkeypatch.undo()

    (tmp_path / "elsewhere").rename(path)
    train(streamed, tmp_path / "cut", quiet=True)
    whole, cut = (saved_arrays(streamed, tmp_path / name) for name in ("whole", "cut"))
    chex.assert_trees_all_equal(whole, cut)
    assert [row["step"] for row in rows(tmp_path / "cut")] == list(range(1, TOTAL + 1))


def test_a_validation_that_fails_is_made_up_for(streamed, pets, tmp_path, saved_arrays):
    """The rates from step 7 on depend on the validation at step 6."""
    streamed.schedule = ScheduleConfig(name="plateau", patience=0, threshold=1.0)
    whole = train(streamed, tmp_path / "whole", quiet=True)
    path = pets / "val" / "dog" / "02.png"
    content = path.read_bytes()
    path.write_bytes(content[:200])
    for _ in range(2):  # and to try again without mending it changes nothing
        with pytest.raises(InputError, match=rf"read image {path}: .*; saved step 6 in "):
            train(streamed, tmp_path / "cut", quiet=True)
    path.write_bytes(content)
    cut = train(streamed, tmp_path / "cut", quiet=True)
    chex.assert_trees_all_equal(
        *(saved_arrays(streamed, tmp_path / name) for name in ("whole", "cut"))
    )
    scores = [
        [(row["step"], row["val_loss"]) for row in rows(tmp_path / name) if "val_loss" in row]
        for name in ("whole", "cut")
    ]
    assert scores[0] == scores[1]
    assert whole["final"]["learning_rate"] < streamed.optimizer.learning_rate
    assert cut["final"]["learning_rate"] == whole["final"]["learning_rate"]


def test_before_the_first_step_there_is_nothing_to_save(streamed, pets, tmp_path):
    needed_at(pets, 1).write_bytes(b"")
    with pytest.raises(InputError, match=r"not an image; nothing saved$"):
        train(streamed, tmp_path / "run", quiet=True)
    assert saved(tmp_path / "run") == set()


def test_a_run_that_skips_goes_on_and_says_once_what_was_skipped(streamed, pets, tmp_path, caplog):
    streamed.data.on_error = "skip"
    lost = [needed_at(pets, 3), pets / "val" / "cat" / "01.png"]
    for path in lost:
        path.write_bytes(b"")
    summary = train(streamed, tmp_path / "run", quiet=True)
    assert summary["steps"] == TOTAL
    told = sorted(m for m in caplog.messages if m.startswith("skipped: "))
    assert told == sorted(f"skipped: cannot read image {path}: not an image" for path in lost)


def test_a_run_goes_on_before_a_damaged_checkpoint_to_the_same_bits(config, tmp_path, caplog):
    workdir, again = tmp_path / "run", tmp_path / "again"
    train(config, workdir, quiet=True)
    shutil.copytree(workdir, again)
    files = [path for path in (again / "checkpoints" / "6" / "state").rglob("*") if path.is_file()]
    weights = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)

    train(config, again, quiet=True)
    (told,) = (message for message in caplog.messages if "damaged" in message)
    assert told.startswith(f"the checkpoint {again / 'checkpoints' / '6'} is damaged: state/")
    assert weights.parts[-1] in told
    assert told.endswith("; now it is 6.damaged")
    assert saved(again) == saved(workdir) | {"6.damaged"}
    chex.assert_trees_all_equal(
        *(read_weights(folder / "checkpoints" / "6") for folder in (workdir, again))
    )


PROGRAM = """
import multiprocessing, os, signal, sys
from flaxzoo.cli import run_command, train_command
from flaxzoo.training import loop

real_log = loop.Run.log

def kill_a_worker(self, **row):
    real_log(self, **row)
    if row["step"] == 3 and "kill" in sys.argv:
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

loop.Run.log = kill_a_worker
if __name__ == "__main__":
    flags = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    sys.exit(run_command(lambda: train_command(flags)))
"""


def run_program(folder: Path, pets: Path, *more: str) -> subprocess.CompletedProcess:
    """Trains as train.py does, in a process of its own."""
    script = folder / "program.py"
    script.write_text(PROGRAM)
    flags = [
        f"--config={ROOT / 'configs' / 'resnext.py'}:folder={pets}",
        "--config.model.name=resnet_tiny", "--config.model.stem=", "--config.batch_size=4",
        "--config.data.image_size=8", "--config.duration=40 steps", "--config.log_every=1 steps",
        "--config.schedule.warmup=2 steps", "--config.eval_every=40 steps",
        "--config.checkpoint.every=40 steps", f"--workdir={folder / 'run'}",
    ]  # fmt: skip
    return subprocess.run(
        [sys.executable, str(script), *flags, *more], cwd=ROOT, timeout=TIME_LIMIT, check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip


def errors(result: subprocess.CompletedProcess) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("error: ")]


def test_the_command_that_stopped_goes_on_once_the_file_is_mended(pets, tmp_path):
    path = needed_at(pets, 7)
    content = path.read_bytes()
    path.write_bytes(b"")
    stopped = run_program(tmp_path, pets)
    assert stopped.returncode == 2, stopped.stderr
    assert errors(stopped) == [
        f"error: cannot read image {path}: not an image; saved step 6 in "
        f"{tmp_path / 'run' / 'checkpoints'}; go on with the same command"
    ]
    assert "Traceback" not in stopped.stderr
    path.write_bytes(content)
    ended = run_program(tmp_path, pets)
    assert ended.returncode == 0, ended.stderr
    assert "going on from step 6" in ended.stdout
    assert saved(tmp_path / "run") == {"6", "40"}


def test_a_killed_worker_stops_the_run_with_a_checkpoint(pets, tmp_path):
    stopped = run_program(tmp_path, pets, "--config.data.workers=1", "kill")
    assert stopped.returncode == 2, stopped.stderr
    (told,) = errors(stopped)
    assert re.fullmatch(
        r"error: a worker process that decodes images was ended by SIGKILL, .*; saved step \d+ in "
        r".*/checkpoints; go on with the same command",
        told,
    )
    assert "Traceback" not in stopped.stderr
    (step,) = saved(tmp_path / "run")
    assert f"saved step {step} in" in told
