"""What is left of checkpoints by kills, full disks, folders that cannot be written, and damage."""

import gc
import os
import resource
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import kill_saves
from benchmarks.kill_saves import KEEP, Nursery, wrong
from flaxzoo.checkpoint import Checkpoints, read_weights, set_damaged_aside
from flaxzoo.errors import UserError

pytestmark = pytest.mark.xdist_group("checkpoint faults")  # they share a process

# ------------------------------------------------------------------------------------------- kills


@pytest.fixture(scope="module")
def nursery():
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux can fork a process that has imported JAX")
    with Nursery() as started:
        yield started


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A folder with a checkpoint, which one process after another goes on from."""
    folder = tmp_path_factory.mktemp("long") / "checkpoints"
    checkpoints = Checkpoints(folder, KEEP)
    checkpoints.save(1, jax.device_put(kill_saves.state(1)), None)
    checkpoints.close()
    return folder


KILLS = [
    ("first save", 0.0), ("first save", 0.03), ("first save", 0.06),
    ("save", 0.01), ("save", 0.02), ("save", 0.04), ("delete", 0.0), ("delete", 0.0005),
    ("restore", 0.0), ("restore", 0.05),
]  # fmt: skip


@pytest.mark.parametrize(("phase", "seconds"), KILLS)
def test_a_killed_process_leaves_the_newest_checkpoint_whole(
    nursery, long, tmp_path, phase, seconds
):
    folder = tmp_path / "checkpoints" if phase == "first save" else long
    trial = nursery.kill(folder, phase, seconds)
    assert not wrong(folder, trial["on_disk"]), trial


# ------------------------------------------------------------------------------------------ damage


def state(step: int) -> dict:
    kernel = np.random.default_rng(step).random((40, 30), np.float32)
    return {"params": {"a.kernel": jnp.asarray(kernel)}, "batch_stats": {}, "step": step}


def arrays(step: int) -> dict:
    return jax.tree.map(jnp.asarray, state(step))


def assert_restores(folder, step: int) -> None:
    checkpoints = Checkpoints(folder, keep=2)
    try:
        assert checkpoints.latest_step() == step
        restored = checkpoints.restore(arrays(0))
        np.testing.assert_array_equal(
            restored["params"]["a.kernel"], state(step)["params"]["a.kernel"]
        )
    finally:
        checkpoints.close()


def save(folder, *steps: int) -> None:
    checkpoints = Checkpoints(folder, keep=3)
    try:
        for step in steps:
            checkpoints.save(step, arrays(step), step / 10)
    finally:
        checkpoints.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints of steps 1 and 2."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    save(folder, 1, 2)
    return folder


@pytest.fixture
def copied(two, tmp_path):
    return shutil.copytree(two, tmp_path / "checkpoints")


def flip(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def largest(checkpoint):
    return max(checkpoint.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)


def test_orbax_restores_a_flipped_byte_without_a_word(copied):
    """Which is why there are sums; when this fails, they may not be needed any more."""
    flip(largest(copied / "2" / "state"))
    (copied / "2" / "SHA256SUMS").unlink()
    with pytest.raises(AssertionError, match="not equal"):
        assert_restores(copied, 2)


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (flip, "is not as it was saved"),
        (cut, "is not as it was saved"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
@pytest.mark.parametrize("find", [largest, lambda checkpoint: checkpoint / "metrics" / "metrics"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_restored(copied, find, do, words):
    path = find(copied / "2")
    name = path.relative_to(copied / "2")
    do(path)
    assert set_damaged_aside(copied) == [
        f"the checkpoint {copied / '2'} is damaged: {name} {words}; now it is 2.damaged"
    ]
    assert_restores(copied, 1)
    assert {path.name for path in copied.iterdir()} == {"1", "2.damaged"}
    assert set_damaged_aside(copied) == []


def test_its_step_is_saved_again_and_may_be_damaged_again(copied):
    for name in ("2.damaged", "2.damaged-1"):
        flip(largest(copied / "2"))
        set_damaged_aside(copied)
        assert (copied / name).is_dir()
        save(copied, 2)
    assert_restores(copied, 2)


def test_where_all_are_damaged_nothing_is_touched(copied):
    for step in ("1", "2"):
        flip(largest(copied / step))
    with pytest.raises(UserError, match=r"no checkpoint in .* is intact: 2 \(state.*\), 1 \(state"):
        set_damaged_aside(copied)
    assert {path.name for path in copied.iterdir()} == {"1", "2"}


def test_damage_after_the_start_is_told_and_not_restored(copied):
    checkpoints = Checkpoints(copied, keep=2)
    flip(largest(copied / "1"))
    with pytest.raises(UserError, match=r"checkpoints/1 is damaged: .*; others in its folder: 2\."):
        checkpoints.restore(arrays(0), step=1)
    checkpoints.close()


def test_weights_of_a_damaged_checkpoint_are_not_read(copied):
    flip(largest(copied / "2"))
    with pytest.raises(UserError, match=r"checkpoints/2 is damaged: .*; others in its folder: 1\."):
        read_weights(copied / "2")


def test_checkpoints_without_sums_are_restored_as_ever(copied):
    for path in copied.rglob("SHA256SUMS"):
        path.unlink()
    assert set_damaged_aside(copied) == []
    assert_restores(copied, 2)


# ---------------------------------------------------------------------------------- disks, folders


def mounted(folder, *options: str):
    """Mounts something at `folder` for one test; only root may."""
    folder.mkdir(exist_ok=True)
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", *options, str(folder)], capture_output=True, timeout=60
        ).returncode
    ):
        pytest.skip("this user cannot mount file systems")
    return folder


@pytest.fixture
def noisy():
    """For saves that fail: threads of orbax may tell of it once more when they are collected."""
    yield
    gc.collect()


quiet = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::pytest.PytestUnhandledThreadExceptionWarning",
)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB; a checkpoint takes 40, since files take whole pages."""
    yield mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=400k", "none")
    subprocess.run(["umount", str(tmp_path / "disk")], check=True, timeout=60)


def save_now(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.save(step, arrays(step), None)
    checkpoints.wait()


@quiet
@pytest.mark.usefixtures("noisy")
@pytest.mark.parametrize("left", [0, 8192, 32768])  # the save gets so far
def test_a_full_disk_loses_nothing(small_disk, left):
    folder = small_disk / "checkpoints"
    checkpoints = Checkpoints(folder, keep=1)
    save_now(checkpoints, 1)
    room = shutil.disk_usage(small_disk).free
    (small_disk / "other").write_bytes(bytes(room - left))
    with pytest.raises(UserError, match=r"cannot write .*checkpoints: no space left on the disk"):
        save_now(checkpoints, 2)
    assert checkpoints.latest_step() == 1
    checkpoints.close()
    assert [path.name for path in folder.iterdir()] == ["1"]
    assert set_damaged_aside(folder) == []
    assert_restores(folder, 1)

    (small_disk / "other").unlink()
    save(folder, 2)
    assert_restores(folder, 2)


@quiet
@pytest.mark.usefixtures("noisy")
def test_a_limit_on_the_size_of_files_loses_nothing(copied):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = Checkpoints(copied, keep=2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(UserError, match=r"would be larger than the limit \(ulimit -f\)"):
            save_now(checkpoints, 3)
        checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in copied.iterdir()} == {"1", "2"}
    assert_restores(copied, 2)


@pytest.fixture
def read_only(copied):
    """The folder of two checkpoints, which nobody can write, not even root."""
    if os.geteuid():
        copied.chmod(0o500)
        yield copied
        copied.chmod(0o700)
    else:
        yield mounted(copied, "--bind", "-o", "ro", str(copied))
        subprocess.run(["umount", str(copied)], check=True, timeout=60)


def test_a_folder_that_cannot_be_written_is_told_and_can_be_read(read_only):
    assert read_weights(read_only / "2").keys() == {"a.kernel"}
    checkpoints = Checkpoints(read_only, keep=2)
    assert checkpoints.restore(arrays(0))["step"] == 2
    with pytest.raises(
        UserError, match=r"cannot write checkpoints in .*: (Read-only|Permission denied)"
    ):
        checkpoints.save(3, arrays(3), None)
    checkpoints.close()
    assert {path.name for path in read_only.iterdir()} == {"1", "2"}


def test_a_folder_that_is_deleted_meanwhile_is_told(copied):
    checkpoints = Checkpoints(copied, keep=2)
    shutil.rmtree(copied)
    with pytest.raises(UserError, match=r"cannot write checkpoints in .*: No such file"):
        checkpoints.save(3, arrays(3), None)
    checkpoints.close()
