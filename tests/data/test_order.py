"""The order of training is a function of seed and step; evaluation covers everything once."""

import numpy as np
import pytest

from flaxzoo.data.order import batch_indices, epoch_order, eval_batches, philox
from flaxzoo.errors import UserError


def test_an_epoch_visits_every_image_once():
    assert sorted(epoch_order(seed=3, epoch=2, n=101)) == list(range(101))


def test_the_order_is_the_same_on_every_machine():
    assert epoch_order(0, 0, 10).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]


@pytest.mark.parametrize(("seed", "epoch"), [(1, 0), (0, 1), (-1, 0), (2**64 + 2, 0)])
def test_another_seed_or_epoch_is_another_order(seed, epoch):
    assert epoch_order(seed, epoch, 100).tolist() != epoch_order(0, 0, 100).tolist()


def test_purposes_of_one_seed_share_no_random_numbers():
    order, augment = (philox(0, purpose, 1, 2).random_raw(8) for purpose in ("order", "augment"))
    assert not set(order) & set(augment)


def test_steps_walk_through_the_epochs_and_drop_the_incomplete_batch():
    steps = [batch_indices(seed=5, step=step, n=10, batch_size=4) for step in range(4)]
    for epoch in (0, 1):
        expected = epoch_order(5, epoch, 10)[:8]
        np.testing.assert_array_equal(np.concatenate(steps[2 * epoch : 2 * epoch + 2]), expected)


def test_the_shared_order_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        batch_indices(0, 0, 10, 4)[0] = 1


@pytest.mark.parametrize("batch_size", [0, 11])
def test_a_batch_size_that_does_not_fit_is_refused(batch_size):
    with pytest.raises(UserError, match=rf"batch size {batch_size} .* expected 1 to 10"):
        batch_indices(0, 0, 10, batch_size)


@pytest.mark.parametrize("n", [0, 1, 8, 9])
def test_evaluation_covers_every_image_once(n):
    batches = list(eval_batches(n, 4))
    covered = [i for indices, mask in batches for i in indices[mask]]
    assert covered == list(range(n))
    assert all(indices.shape == mask.shape == (4,) for indices, mask in batches)
    assert all((indices[~mask] == 0).all() for indices, mask in batches)
