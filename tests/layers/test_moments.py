"""Batch normalisation of 1x1 convolutions, by moments and in turn: one function."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo.layers import BatchNorm, Conv, conv_norm, initialise
from flaxzoo.layers.moments import by_moments, in_turn
from flaxzoo.layers.norm import Axes

STATISTICS = {"axes": Axes((1, 2, 3)), "eps": 1e-5}
SHAPE, OUTPUTS = (2, 3, 4, 5, 6), 24  # parts, images, rows, columns, channels


def arguments(dtype) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(0.2, 1, SHAPE), 0)  # as after an activation
    kernel = rng.normal(0, 0.4, (SHAPE[-1], OUTPUTS))
    scale, bias = rng.uniform(0.5, 2, OUTPUTS), rng.normal(0, 1, OUTPUTS)
    wide = jnp.promote_types(dtype, jnp.float32)
    return *(jnp.asarray(a, dtype) for a in (x, kernel)), *(
        jnp.asarray(a, wide) for a in (scale, bias)
    )


def with_gradients(function, *arguments):
    """The normalised product, mean, variance and the gradients of a weighted sum of the first."""
    weights = np.random.default_rng(1).normal(size=(*SHAPE[:-1], OUTPUTS))

    def total(*arguments):
        y, mean, var = function(*arguments, **STATISTICS)
        return jnp.sum(weights * y), (y, mean, var)

    grads, outputs = jax.grad(total, argnums=range(4), has_aux=True)(*arguments)
    return *outputs, *grads


def test_by_moments_is_the_same_function(x64):
    for ours, exact in zip(
        *(with_gradients(f, *arguments(jnp.float64)) for f in (by_moments, in_turn)), strict=True
    ):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-12 * np.abs(exact).max())


def test_by_moments_rounds_about_as_much_in_bfloat16(x64):
    # Kernels are rounded after scaling, and covariances' gradients: 1.35 times the error of x's.
    half = arguments(jnp.bfloat16)
    exact = with_gradients(in_turn, *(a.astype(jnp.float64) for a in half))
    errors = {
        f: [np.linalg.norm(np.asarray(a, np.float64) - b) for a, b in zip(got, exact, strict=True)]
        for f, got in ((f, with_gradients(f, *half)) for f in (by_moments, in_turn))
    }
    for ours, theirs in zip(errors[by_moments], errors[in_turn], strict=True):
        assert ours < 1.5 * theirs


def layers(conv: Conv, parts: int = 1) -> tuple[Conv, BatchNorm]:
    norm = BatchNorm(conv.kernel.shape[-1])
    norm.parts = parts
    for layer in (conv, norm):
        initialise(layer, seed=0)
    return conv, norm


def test_running_statistics_move_as_in_turn():
    x = jnp.asarray(np.random.default_rng(0).normal(1, 2, (4, 6, 6, 2)), jnp.bfloat16)
    (conv, norm), (_, other) = (layers(Conv(2, 8, 1, use_bias=False), parts=2) for _ in "ab")
    np.testing.assert_array_equal(conv_norm(conv, norm, x), other(conv(x)))
    assert np.all(norm.mean[...] != 0)
    for a, b in ((norm.mean, other.mean), (norm.var, other.var)):
        np.testing.assert_allclose(a[...], b[...], rtol=1e-6)


def test_statistics_are_those_of_all_devices_along_a_mapped_axis():
    x = jnp.asarray(np.random.default_rng(0).normal(1, 2, (2, 2, 6, 6, 2)), jnp.bfloat16)

    def run(x, function):
        conv, norm = layers(Conv(2, 8, 1, use_bias=False))
        norm.axis_name = "devices"
        return function(conv, norm, x), norm.mean[...]

    ours, theirs = (
        jax.vmap(partial(run, function=f), axis_name="devices")(x)
        for f in (conv_norm, lambda conv, norm, x: norm(conv(x)))
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def has_covariance(options: dict, dtype, platform: str, training: bool = True) -> bool:
    """Whether a program for a platform computes the covariance of the 4 inputs of a convolution."""
    images = jax.ShapeDtypeStruct((2, 5, 5, 4), dtype)

    def run(x):
        conv, norm = layers(Conv(4, **EXPANSION | options))
        norm.use_running_average = not training
        return conv_norm(conv, norm, x)

    lowered = jax.jit(run).trace(images).lower(lowering_platforms=(platform,))
    return "tensor<1x4x4xf32>" in lowered.as_text()


EXPANSION = {"out_features": 16, "kernel_size": 1, "use_bias": False}


def test_a_program_for_tpus_goes_by_moments():
    assert has_covariance({}, jnp.bfloat16, "tpu")


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_programs_for_others_do_not(platform):
    assert not has_covariance({}, jnp.bfloat16, platform)


@pytest.mark.parametrize(
    ("options", "dtype", "training"),
    [
        pytest.param({}, jnp.float32, True, id="float32"),
        pytest.param({}, jnp.bfloat16, False, id="evaluation"),
        pytest.param({"out_features": 15}, jnp.bfloat16, True, id="hardly wider"),
        pytest.param({"use_bias": True}, jnp.bfloat16, True, id="bias"),
        pytest.param({"groups": 2}, jnp.bfloat16, True, id="groups"),
        pytest.param({"kernel_size": 3}, jnp.bfloat16, True, id="3x3"),
        pytest.param({"stride": 2}, jnp.bfloat16, True, id="stride"),
        pytest.param({"padding": 1}, jnp.bfloat16, True, id="padding"),
    ],
)
def test_where_moments_do_not_pay_it_is_in_turn(options, dtype, training):
    assert not has_covariance(options, dtype, "tpu", training)
