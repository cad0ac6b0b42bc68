"""Checkpoints: what is kept, what a failure leaves behind, how it is told."""

import errno

import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo.checkpoint import Checkpoints
from flaxzoo.errors import UserError


def state(value: float) -> dict:
    return {"a.b.kernel": jnp.full((3, 2), value), "step": jnp.asarray(int(value), jnp.int32)}


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path / "checkpoints", keep=2)
    yield opened
    opened.close()


def steps(checkpoints) -> set[int]:
    checkpoints.wait()
    return {int(p.name) for p in checkpoints.directory.iterdir()}


def test_the_newest_is_restored_by_default(checkpoints):
    for step in (1, 2):
        checkpoints.save(step, state(step), None)
    checkpoints.wait()
    assert checkpoints.latest_step() == 2
    restored = checkpoints.restore(state(0))
    np.testing.assert_array_equal(restored["a.b.kernel"], np.full((3, 2), 2.0))
    assert restored["step"] == 2


def test_an_older_one_is_restored_by_step(checkpoints):
    for step in (1, 2):
        checkpoints.save(step, state(step), None)
    checkpoints.wait()
    assert checkpoints.restore(state(0), step=1)["step"] == 1


def test_the_latest_two_and_the_best_are_kept(checkpoints):
    for step, accuracy in enumerate([0.1, 0.9, 0.2, None, 0.3], 1):
        checkpoints.save(step, state(step), accuracy)
    assert steps(checkpoints) == {2, 4, 5}


def test_what_a_killed_save_left_is_ignored_and_removed(checkpoints, tmp_path):
    checkpoints.save(1, state(1), None)
    checkpoints.close()
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir()
    again = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert again.latest_step() == 1
    assert steps(again) == {1}
    again.save(2, state(2), None)
    assert steps(again) == {1, 2}
    again.close()


def test_a_full_disk_is_told_in_one_sentence(checkpoints, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints._checkpointer, "save_checkpointables_async", full)
    with pytest.raises(
        UserError, match=r"cannot write checkpoints in .*: no space left on the disk"
    ):
        checkpoints.save(1, state(1), None)
    assert checkpoints.latest_step() is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write checkpoints in .*file"):
        Checkpoints(tmp_path / "file" / "checkpoints", keep=1)


def test_a_state_of_another_shape_is_refused(checkpoints):
    checkpoints.save(1, state(1), None)
    checkpoints.wait()
    other = state(0) | {"a.b.kernel": jnp.zeros((5, 2))}
    with pytest.raises(
        UserError, match=r"another model.*a.b.kernel is \(3, 2\) there and \(5, 2\)"
    ):
        checkpoints.restore(other)
