"""The gradient of max_pool on CPUs equals XLA's own, ties included; elsewhere it is XLA's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from flaxzoo.layers import max_pool

# name: size, stride, padding, ceil_mode
CASES = {
    "3x3 of stride 2": (3, 2, 1, False),
    "3x3 of stride 2 with a partial window": (3, 2, 0, True),
    "2x2": (2, 2, 0, False),
    "unused last rows": (2, 3, 0, False),
    "not square": ((3, 2), (1, 2), (1, 0), False),
}


def images(dtype=jnp.float64) -> jax.Array:
    """Whole numbers from 0 to 3, as many of them zero as after a ReLU: most windows have ties."""
    noise = np.random.default_rng(0).normal(size=(3, 9, 8, 4))
    return jnp.asarray(np.maximum(noise, 0).round(), dtype)


def pooling(name: str):
    size, stride, padding, ceil_mode = CASES[name]
    return partial(max_pool, size=size, stride=stride, padding=padding, ceil_mode=ceil_mode)


def native_gradient(name: str, x: jax.Array, grad: jax.Array) -> jax.Array:
    """By select-and-scatter, which is how XLA differentiates a reduce_window."""
    size, stride, padding, _ = CASES[name]
    size, stride, padding = (v if isinstance(v, tuple) else (v, v) for v in (size, stride, padding))
    pads = [(0, 0), (0, 0), (0, 0), (0, 0)]
    for axis in (1, 2):
        span = (grad.shape[axis] - 1) * stride[axis - 1] + size[axis - 1]
        pads[axis] = (padding[axis - 1], max(span - x.shape[axis] - padding[axis - 1], 0))

    def pool(x):
        lowest = np.asarray(-np.inf, x.dtype)
        return lax.reduce_window(x, lowest, lax.max, (1, *size, 1), (1, *stride, 1), pads)

    y, pullback = jax.vjp(pool, x)
    assert y.shape == grad.shape
    return pullback(grad)[0]


def gradient(pool, x: jax.Array, grad: jax.Array) -> jax.Array:
    return jax.vjp(pool, x)[1](grad)[0]


def noise_like(y: jax.Array) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=y.shape), y.dtype)


@pytest.mark.parametrize("name", CASES)
def test_gradient_of_the_first_maximum(name):
    pool, x = pooling(name), images()
    grad = noise_like(pool(x))
    got = jax.jit(partial(gradient, pool))(x, grad)
    np.testing.assert_allclose(got, native_gradient(name, x, grad), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_keeps_the_dtype(dtype):
    pool, x = pooling("2x2"), images(dtype)
    grad = noise_like(pool(x))
    got = gradient(pool, x, grad)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, native_gradient("2x2", x, grad))


@pytest.mark.parametrize("check_vma", [False, True])
def test_gradient_under_shard_map(check_vma):
    pool, x = pooling("3x3 of stride 2"), images()
    grad = noise_like(pool(x))
    sharded = jax.shard_map(
        partial(gradient, pool),
        mesh=jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(P("data"), P("data")),
        out_specs=P("data"),
        check_vma=check_vma,
    )
    expected = native_gradient("3x3 of stride 2", x, grad)
    np.testing.assert_allclose(jax.jit(sharded)(x, grad), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_on_accelerators_the_gradient_is_select_and_scatter(platform):
    pool, x = pooling("3x3 of stride 2"), images(jnp.float32)
    traced = jax.jit(partial(gradient, pool)).trace(x, noise_like(pool(x)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    found = [text.count(f"stablehlo.{op}") for op in ("select_and_scatter", "select ")]
    assert found == [1, 0]
