"""What XLA:CPU is told to compute once, and sums by channel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from flaxzoo.layers import relu, residual
from flaxzoo.layers.fusion import channel_sums, divisor, materialised, spread
from flaxzoo.training.parallel import compiler_options


def compiled(function, *arguments) -> str:
    jitted = jax.jit(function, compiler_options=compiler_options("cpu"))
    return jitted.lower(*arguments).compile().as_text()


def stream(x, weights):
    """A residual stream, of which each block reads what those before it have added."""
    for _ in range(4):
        x = relu(residual(x, x @ weights))
    return x @ weights


@pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="this jax gets no compiler options")
def test_a_residual_stream_is_computed_once_on_a_cpu():
    x = jnp.ones((8, 8))  # without, XLA:CPU computes ten maxima
    assert compiled(stream, x, x).count(" maximum(") == 4


def test_another_platform_never_sees_it():
    exported = export.export(jax.jit(stream), platforms=["tpu", "cuda"])
    x = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    assert "optimization_barrier" not in exported(x, x).mlir_module()


@pytest.mark.parametrize("function", [materialised, relu])
def test_values_and_gradients_stay(function):
    x = np.random.default_rng(0).standard_normal((3, 5), np.float32)
    keeps = x > 0 if function is relu else np.ones_like(x, bool)
    value, pullback = jax.vjp(function, x)
    np.testing.assert_array_equal(value, np.where(keeps, x, 0))
    np.testing.assert_array_equal(pullback(x)[0], np.where(keeps, x, 0))


@pytest.mark.parametrize("shape", [(5, 3), (2, 7, 3), (2, 6, 5, 3), (1, 1, 1, 3), (4, 11, 13, 2)])
def test_sums_by_channel_are_those_of_numpy(shape):
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))
    expected = np.asarray(x, np.float64).sum(tuple(range(len(shape) - 1)))
    np.testing.assert_allclose(channel_sums(x), expected, rtol=0, atol=2e-5)
    gradient = jax.grad(lambda values: (spread(values, shape) * x).sum())(jnp.ones(shape[-1]))
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("n", "most", "expected"), [(12, 8, 6), (7, 8, 7), (13, 8, 1), (16, 8, 8)])
def test_the_largest_divisor(n, most, expected):
    assert divisor(n, most) == expected
