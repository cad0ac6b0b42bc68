"""Training on images of other sizes than are evaluated."""

import pytest

from flaxzoo.errors import UserError
from flaxzoo.training.trainer import build


def test_sizes_share_the_run_and_the_last_may_be_below_the_evaluated_one(config):
    config.data.image_size, config.data.train_sizes = 8, (4, 5, 6)
    trainer, _ = build(config)
    assert list(trainer.train_steps) == [2, 4, 6]
    assert trainer.train_step(2) is trainer.train_steps[2]
    assert trainer.train_step(3) is trainer.train_steps[4]


def test_sizes_above_the_one_that_is_read_are_refused(config):
    config.data.image_size, config.data.train_sizes = 8, (6, 9)
    with pytest.raises(UserError, match=r"at most image_size \(8\).* got \(6, 9\)"):
        build(config)
