"""Weights of uneven classes."""

import numpy as np
import pytest

from flaxzoo.class_weights import class_weights
from flaxzoo.errors import UserError

COUNTS = np.array([10, 30, 60])


def test_balanced_weights_are_inverse_frequencies():
    """scikit-learn's compute_class_weight("balanced"): n / (k * count)."""
    np.testing.assert_allclose(class_weights(COUNTS, "balanced"), [100 / 30, 100 / 90, 100 / 180])


def test_balanced_weights_give_every_class_the_same_part():
    part = class_weights(COUNTS, "balanced") * COUNTS
    np.testing.assert_allclose(part, part.mean(), rtol=1e-6)


def test_effective_weights_are_inverse_effective_numbers_of_images():
    effective = np.array([sum(0.999**i for i in range(n)) for n in COUNTS])
    expected = 3 * (1 / effective) / (1 / effective).sum()
    np.testing.assert_allclose(class_weights(COUNTS, "effective"), expected, rtol=1e-6)


def test_effective_weights_are_balanced_for_few_and_even_for_many():
    few, many = class_weights(np.array([1, 2]), "effective"), np.array([20_000, 90_000])
    assert few[0] / few[1] == pytest.approx(2, rel=1e-3)
    np.testing.assert_allclose(class_weights(many, "effective"), 1, rtol=1e-6)


@pytest.mark.parametrize("how", ["none", "balanced", "effective"])
def test_even_classes_weigh_one(how):
    weights = class_weights(np.array([7, 7, 7]), how)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, 1)


def test_an_unknown_way_is_refused():
    with pytest.raises(UserError, match="unknown class_weights 'balance'; did you mean 'balanced'"):
        class_weights(COUNTS, "balance")


def test_a_class_without_images_is_refused():
    with pytest.raises(ValueError, match="class 1 has no training image"):
        class_weights(np.array([3, 0]), "balanced")
