"""Policies draw operations, magnitudes and signs as they should, and do nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo.augment.autoaugment import AUTOAUGMENT
from flaxzoo.augment.policies import (
    OPERATIONS,
    RANDAUGMENT,
    TRIVIALAUGMENT,
    apply,
    draw_autoaugment,
    draw_operations,
    random_policy,
)
from flaxzoo.config import POLICIES

N = 6000


def near(count: float, expected: float) -> bool:
    """Within five standard errors of a count."""
    return abs(count - expected) < 5 * expected**0.5


def drawn(keys, space, **options):
    draw = jax.jit(lambda keys: draw_operations(keys, space, 32, 32, **options))
    return map(np.asarray, draw(keys))


def test_randaugment_draws_all_operations_alike_at_one_strength(keys):
    operation, magnitude = drawn(keys(N), RANDAUGMENT, turns=2, magnitude=9)
    assert operation.shape == (2, N)
    for name, of in RANDAUGMENT.items():
        chosen = np.asarray(operation == OPERATIONS.index(name))
        assert near(chosen.sum(), 2 * N / len(RANDAUGMENT))
        strength = of.values(31, 32, 32)[9]
        np.testing.assert_array_equal(np.abs(magnitude)[chosen], strength)
        negative = np.asarray(magnitude)[chosen] < 0
        assert near(negative.sum(), chosen.sum() / 2) if of.signed else not negative.any()


def test_turns_are_independent(keys):
    operation, _ = drawn(keys(N), RANDAUGMENT, turns=2, magnitude=9)
    assert near(np.sum(operation[0] == operation[1]), N / len(RANDAUGMENT))


def test_trivialaugment_draws_all_strengths_alike(keys):
    operation, magnitude = drawn(keys(20 * N), TRIVIALAUGMENT)
    rotations = np.abs(magnitude[operation == OPERATIONS.index("rotate")])
    values, counts = np.unique(rotations, return_counts=True)
    np.testing.assert_array_equal(values, TRIVIALAUGMENT["rotate"].values(31, 32, 32))
    assert all(near(count, len(rotations) / 31) for count in counts)


@pytest.mark.parametrize("table", AUTOAUGMENT)
def test_autoaugment_draws_pairs_alike_and_steps_by_their_probability(keys, table):
    pairs = AUTOAUGMENT[table]
    operation, _ = jax.jit(lambda keys: draw_autoaugment(keys, pairs, 32, 32))(keys(N))
    for turn in (0, 1):
        expected = dict.fromkeys(OPERATIONS, 0.0)
        for pair in pairs:
            name, probability, _ = pair[turn]
            expected[name] += N / 25 * probability
            expected["identity"] += N / 25 * (1 - probability)
        for number, name in enumerate(OPERATIONS):
            count = int(np.sum(operation[turn] == number))
            assert near(count, expected[name]) or count == expected[name] == 0, name


def test_the_two_operations_of_an_image_are_of_one_pair(keys):
    pairs = AUTOAUGMENT["svhn"]
    operation, _ = jax.jit(lambda keys: draw_autoaugment(keys, pairs, 32, 32))(keys(N))
    found = {(OPERATIONS[a], OPERATIONS[b]) for a, b in np.asarray(operation).T}
    allowed = {
        (a, b)
        for (first, *_), (second, *_) in pairs
        for a in (first, "identity")
        for b in (second, "identity")
    }
    assert found <= allowed


def test_each_image_gets_its_own_operation(noise):
    image = noise(1, size=5)
    chosen = ("identity", "invert", "translate_x", "brightness")
    numbers = jnp.asarray([OPERATIONS.index(name) for name in chosen], jnp.int32)
    images = jnp.concatenate([image] * len(chosen))
    same, inverted, moved, dark = jax.jit(apply)(images, numbers, jnp.asarray([0, 0, 2.0, -1.0]))
    np.testing.assert_array_equal(same, image[0])
    np.testing.assert_array_equal(inverted, 255 - image[0])
    np.testing.assert_array_equal(moved[:, 2:], image[0, :, :-2])
    assert not np.any(moved[:, :2])
    assert not np.any(dark)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_changes_most_images_of_any_kind(keys, noise, policy, channels):
    images = noise(32, size=8, channels=channels)
    call = jax.jit(random_policy, static_argnums=(2, 3, 4))
    changed = np.any(call(images, keys(32), policy, 2, 9) != images, axis=(1, 2, 3))
    assert changed.mean() > 0.4
