"""Convolution, normalisation, ReLU and max-pool, the pool last and before the normalisation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxzoo.layers import BatchNorm, Conv, initialise, max_pool, pooled_stem, relu, stem
from flaxzoo.training.state import split_model


class Stem(nnx.Module):
    """Half of the scales are negative."""

    def __init__(self, param_dtype=jnp.float32):
        self.conv, self.norm = Conv(3, 8, 3, stride=2, use_bias=False), BatchNorm(8)
        initialise(self, seed=0, param_dtype=param_dtype)
        rng = np.random.default_rng(0)
        for variable in (self.norm.scale, self.norm.bias):
            variable[...] = jnp.asarray(rng.normal(size=8), param_dtype)
        assert 0 < (self.norm.scale[...] < 0).sum() < 8


def in_turn(conv, norm, x):
    y = relu(norm(conv(x)))
    return y, max_pool(y, 3, stride=2, padding=1)


def images(dtype, *shape) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(1, 2, (*shape, 13, 16, 3)), dtype)


@pytest.mark.parametrize("parts", [1, 2])
def test_half_types_give_the_same_to_the_bit(parts):
    x, ours, theirs = images(jnp.bfloat16, 4), Stem(), Stem()
    ours.norm.parts = theirs.norm.parts = parts
    outputs = pooled_stem(ours.conv, ours.norm, x), in_turn(theirs.conv, theirs.norm, x)
    jax.tree.map(np.testing.assert_array_equal, *outputs)
    assert all(np.ptp(y) > 1 for y in outputs[0])
    for a, b in ((ours.norm.mean, theirs.norm.mean), (ours.norm.var, theirs.norm.var)):
        np.testing.assert_array_equal(a[...], b[...])
        assert np.ptp(a[...]) > 0.01


@pytest.mark.parametrize("of_map", [0, 1])
def test_gradients_are_the_same(x64, of_map):
    definition, params, statistics = split_model(Stem(jnp.float64))
    x = images(jnp.float64, 4)

    def total(params, x, function):
        model = definition.bind(params, statistics)
        y, pooled = function(model.conv, model.norm, x)
        weights = np.random.default_rng(2)
        of_pooled, of_y = (jnp.sum(weights.normal(size=a.shape) * a) for a in (pooled, y))
        return of_pooled + of_map * of_y

    ours, theirs = (
        jax.grad(partial(total, function=f), argnums=(0, 1))(params, x)
        for f in (stem.pool_first, in_turn)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max())


def test_statistics_are_those_of_all_devices_along_a_mapped_axis():
    x = images(jnp.bfloat16, 2, 2)

    def run(x, function):
        model = Stem()
        model.norm.axis_name = "devices"
        return *function(model.conv, model.norm, x), model.norm.mean[...], model.norm.var[...]

    ours, theirs = (
        jax.vmap(partial(run, function=f), axis_name="devices")(x) for f in (pooled_stem, in_turn)
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    np.testing.assert_array_equal(ours[2][0], ours[2][1])


@pytest.mark.parametrize(
    ("dtype", "training", "expected"),
    [("bfloat16", True, True), ("float32", True, False), ("bfloat16", False, False)],
)
def test_the_pool_is_first_in_training_in_half_types(monkeypatch, dtype, training, expected):
    asked = []
    monkeypatch.setattr(stem, "pool_first", lambda *a: asked.append(True) or in_turn(*a))
    model = Stem()
    model.norm.use_running_average = not training
    pooled_stem(model.conv, model.norm, images(dtype, 2))
    assert bool(asked) == expected
