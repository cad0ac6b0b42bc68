"""Balanced sampling: classes equally often, images of a class evenly, whatever the start."""

import itertools

import numpy as np
import pytest

from flaxzoo.config import Config, data_config
from flaxzoo.data import ArraySplit
from flaxzoo.data.order import ClassBalance, batch_indices
from flaxzoo.data.stream import train_batches
from flaxzoo.errors import UserError
from flaxzoo.training.feed import Feed
from flaxzoo.training.parallel import all_devices

COUNTS = (3, 50, 17, 1)
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4, dtype=np.int32), COUNTS))
N = len(LABELS)


def draws(steps: range, batch_size: int = 8, seed: int = 0, labels=LABELS) -> np.ndarray:
    balance = ClassBalance(labels)
    n = len(labels)
    return np.concatenate([batch_indices(seed, s, n, batch_size, balance) for s in steps])


@pytest.mark.parametrize("steps", [1 * 8, 7 * 8])  # an epoch has 71 // 8 = 8
def test_classes_are_drawn_equally_often(steps):
    drawn = np.bincount(LABELS[draws(range(steps))], minlength=4)
    assert drawn.max() - drawn.min() <= 1
    assert drawn.sum() == 8 * steps


@pytest.mark.parametrize("epochs", [1, 3, 10])
def test_the_images_of_a_class_are_drawn_evenly(epochs):
    drawn = np.bincount(draws(range(8 * epochs)), minlength=N)
    for label in range(4):
        of_class = drawn[label == LABELS]
        assert of_class.max() - of_class.min() <= 1


def test_each_pass_through_a_class_is_in_another_order():
    balance = ClassBalance(LABELS)
    passes = balance._draws(0, 0, 0, 300).reshape(100, 3)
    orders = {tuple(order) for order in passes.tolist()}
    assert orders == set(itertools.permutations(balance.members[0].tolist()))


def test_a_part_of_the_draws_is_that_part_of_the_whole():
    balance = ClassBalance(LABELS)
    whole = balance._draws(5, 2, 0, 200)
    for first, count in ((0, 17), (16, 2), (40, 100), (199, 1)):
        np.testing.assert_array_equal(
            balance._draws(5, 2, first, count), whole[first : first + count]
        )


def test_classes_are_mixed_within_an_epoch():
    """At every place of the epoch a class is drawn as often as any other, within five sigma."""
    epochs = 400
    labels = LABELS[draws(range(8 * epochs))].reshape(epochs, 64)
    share = np.stack([(labels == label).mean(0) for label in range(4)])
    assert np.abs(share - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / epochs)


def test_a_batch_depends_on_its_step_alone():
    np.testing.assert_array_equal(draws(range(40))[8 * 29 : 8 * 31], draws(range(29, 31)))


def test_another_seed_or_epoch_is_another_order():
    first = draws(range(8)).tolist()
    assert first != draws(range(8), seed=1).tolist()
    assert first != draws(range(8, 16)).tolist()


def test_the_order_is_the_same_on_every_machine():
    labels = np.array([0, 0, 0, 1], np.int32)
    assert draws(range(2), 4, labels=labels).tolist() == [0, 1, 3, 3, 2, 2, 3, 3]


def test_classes_take_turns_where_an_epoch_has_fewer_draws():
    labels = np.arange(10, dtype=np.int32)
    drawn = draws(range(10), 4, labels=labels).reshape(5, 8)  # 2 batches of 4 an epoch
    assert all(len(set(epoch)) == 8 for epoch in drawn.tolist())
    assert np.bincount(drawn.ravel()).tolist() == [4] * 10


def test_a_class_without_images_is_left_out():
    labels = np.array([0, 2, 2, 2], np.int32)
    assert np.bincount(labels[draws(range(2), 4, labels=labels)]).tolist() == [4, 0, 4]


def split() -> ArraySplit:
    images = np.random.default_rng(0).integers(0, 256, (N, 30, 28, 1), np.uint8)
    return ArraySplit(images, LABELS)


STREAM = {"seed": 3, "batch_size": 8, "image_size": 8, "sampling": "balanced"}


def stream(**options) -> list[dict[str, np.ndarray]]:
    with train_batches(split(), **(STREAM | {"num_steps": 12} | options)) as batches:
        return list(batches)


def test_a_stream_and_a_resident_set_hold_the_same_images():
    config = Config(seed=3, batch_size=8, data=data_config("npz=x", image_size=8))
    config.data.sampling = "balanced"
    with Feed(split(), config, all_devices("jit")).train(5, 7) as batches:
        resident = [LABELS[batch["index"]] for batch in batches]
    streamed = [batch["label"] for batch in stream(start_step=5, num_steps=7)]
    np.testing.assert_array_equal(resident, streamed)
    expected = [LABELS[draws(range(step, step + 1), seed=3)] for step in range(5, 12)]
    np.testing.assert_array_equal(streamed, expected)


def test_worker_processes_and_shares_of_a_batch_change_nothing():
    whole = stream()
    shares = [stream(process_index=i, process_count=2, workers=i) for i in (0, 1)]
    for batch, *parts in zip(whole, *shares, strict=True):
        for key in batch:
            np.testing.assert_array_equal(batch[key], np.concatenate([p[key] for p in parts]))


def test_an_image_that_an_epoch_repeats_is_cropped_anew():
    repeated = [
        image
        for batch in stream(num_steps=8)
        for image, label in zip(batch["image"], batch["label"], strict=True)
        if label == 3
    ]
    assert len(repeated) == 16  # of one image
    assert len({image.tobytes() for image in repeated}) == 16


def test_another_sampling_is_refused():
    with pytest.raises(UserError, match="unknown sampling 'balance'; did you mean 'balanced'"):
        stream(sampling="balance")
