"""Batch normalisation in parts, and of half precision; torch's statistics are in parity_tests."""

import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo.layers import BatchNorm
from flaxzoo.layers.module import initialise


def batch_norm(**fields) -> BatchNorm:
    norm = BatchNorm(5)
    initialise(norm, seed=0)
    norm.set_attributes(**fields)
    return norm


def images(mean: float = 2.0, shape=(8, 3, 3, 5)) -> np.ndarray:
    return np.random.default_rng(0).normal(mean, 3.0, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 3, 3, 5), (8, 5)])
def test_each_part_has_its_own_statistics(shape):
    x = images(shape=shape)
    split = batch_norm(parts=4)
    whole = [batch_norm() for _ in range(4)]
    parts = np.split(x, 4)
    expected = np.concatenate([whole[i](jnp.asarray(part)) for i, part in enumerate(parts)])
    np.testing.assert_allclose(split(jnp.asarray(x)), expected, rtol=1e-6, atol=1e-6)
    for name in ("mean", "var"):
        moved = np.mean([getattr(norm, name)[...] for norm in whole], 0)
        np.testing.assert_allclose(getattr(split, name)[...], moved, rtol=1e-6)


def test_parts_share_the_running_statistics():
    x = jnp.asarray(images())
    split, whole = (batch_norm(parts=n, use_running_average=True) for n in (4, 1))
    np.testing.assert_array_equal(split(x), whole(x))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_one_pass_over_half_precision_has_the_error_of_a_float32_sum_of_squares(dtype):
    """At a mean of ten deviations. jax 0.7 on CPUs adds them in a row, and is off by 1e-5."""
    x = jnp.asarray(images(mean=30.0, shape=(64, 8, 8, 5)), dtype)
    norm = batch_norm(momentum=1.0)
    norm(x)
    exact = np.asarray(x, np.float64).reshape(-1, 5)
    error = np.abs(norm.var[...] - exact.var(0, ddof=1))
    assert np.all(error < 5e-5 * np.square(exact).mean(0))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_variance_of_equal_values_is_not_negative(dtype):
    norm = batch_norm(momentum=1.0)
    y = norm(jnp.full((64, 8, 8, 5), 300.0, dtype))
    assert np.all(np.isfinite(np.asarray(y, np.float32)))
    assert np.all(norm.var[...] >= 0)
