"""Convolution, normalisation, pooling and losses against torch, in float64, gradients included."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn import functional as F

from flaxzoo import load_torch
from flaxzoo.errors import UserError
from flaxzoo.layers import (
    BatchNorm,
    Conv,
    Linear,
    adaptive_avg_pool,
    avg_pool,
    flatten,
    global_avg_pool,
    initialise,
    max_pool,
)
from flaxzoo.losses import cross_entropy, cross_entropy_per_image
from parity_tests.comparing import assert_close, assert_close_as_stored, assert_same, to_nchw

# ---------------------------------------------------------------------- convolution, linear layer

CONVS = {  # in, out, kernel, then what Conv and torch.nn.Conv2d call by the same name
    "3x3": (4, 6, 3, {"padding": 1}),
    "3x3 without padding": (4, 6, 3, {"padding": 0}),
    "1x1": (4, 6, 1, {}),
    "1x1 of stride 2": (4, 6, 1, {"stride": 2}),
    "3x3 of stride 2": (4, 6, 3, {"stride": 2, "padding": 1}),
    "7x7 of stride 2": (3, 4, 7, {"stride": 2, "padding": 3}),
    "11x11 of stride 4": (3, 2, 11, {"stride": 4, "padding": 2}),
    "even kernel": (3, 4, 4, {"stride": 4, "padding": 0}),
    "not square": (4, 6, (1, 5), {"padding": (0, 2)}),
    "stride and padding not square": (4, 6, (5, 3), {"stride": (1, 2), "padding": (2, 0)}),
    "padding beyond the kernel": (4, 6, 1, {"padding": 2}),
    "dilated": (4, 6, 3, {"dilation": 2, "padding": 2}),
    "dilated, not square, stride 2": (
        4, 6, 3, {"dilation": (1, 2), "padding": (1, 2), "stride": 2},
    ),
    "grouped": (6, 9, 3, {"groups": 3, "padding": 1}),
    "grouped 1x1": (6, 4, 1, {"groups": 2}),
    "grouped of stride 2": (8, 8, 3, {"groups": 4, "stride": 2, "padding": 1}),
    "depthwise": (6, 6, 3, {"groups": 6, "padding": 1}),
    "depthwise of stride 2": (6, 6, 5, {"groups": 6, "stride": 2, "padding": 2}),
    "depthwise, dilated": (6, 6, 3, {"groups": 6, "dilation": 2, "padding": 2}),
    "channel multiplier": (4, 12, 3, {"groups": 4, "padding": 1}),
}  # fmt: skip


@pytest.mark.parametrize("case", CONVS)
def test_conv(case):
    c_in, c_out, kernel, options = CONVS[case]
    padding = {"padding": 0} | options
    twin = torch.nn.Conv2d(c_in, c_out, kernel, bias=False, **options)
    assert_same(Conv(c_in, c_out, kernel, use_bias=False, **padding), twin, (2, 13, 12, c_in))


def test_conv_with_bias():
    assert_same(Conv(3, 5, 3), torch.nn.Conv2d(3, 5, 3, padding=1), (2, 6, 7, 3))


@pytest.mark.parametrize("kernel", [1, 3, (5, 3)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_conv_keeps_the_size_where_no_padding_is_given(kernel, dilation):
    twin = torch.nn.Conv2d(2, 3, kernel, padding="same", dilation=dilation)
    assert_same(Conv(2, 3, kernel, dilation=dilation), twin, (2, 9, 8, 2))


@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 4, 7)], ids=["2-d", "4-d"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape, bias):
    ours, twin = Linear(7, 5, use_bias=bias), torch.nn.Linear(7, 5, bias=bias)
    if len(shape) == 4:  # over channels, which torch has to move to the end
        twin = OverChannels(twin)
        ours = Holder(ours)
    assert_same(ours, twin, shape)


class OverChannels(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Holder(nnx.Module):
    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)


# ------------------------------------------------------------------------------ batch normalisation


def batch_norms(features: int, dtype=torch.float64, **options):
    """Returns BatchNorm and its twin with equal, random variables."""
    rng = np.random.default_rng(7)
    theirs = torch.nn.BatchNorm2d(features, **options).to(dtype)
    with torch.no_grad():
        for value in (theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var):
            value.copy_(torch.from_numpy(rng.uniform(0.5, 2, features)))
    ours = BatchNorm(features, **options)
    initialise(ours, seed=0, param_dtype=jnp.dtype(str(dtype).removeprefix("torch.")))
    load_torch(ours, theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_batch_norm_in_training(eps):
    assert_same(BatchNorm(5, eps), torch.nn.BatchNorm2d(5, eps), (3, 4, 5, 5))


def test_batch_norm_of_vectors():
    assert_same(BatchNorm(5), torch.nn.BatchNorm1d(5), (8, 5))


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_batch_norm_in_evaluation(eps):
    ours, theirs = batch_norms(5, eps=eps)
    ours.use_running_average = True
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 5))
    assert_close(ours(jnp.asarray(x)), theirs.eval()(torch.from_numpy(to_nchw(x))))
    assert_close_as_stored(np.asarray(ours.mean[...]), theirs.running_mean)


@pytest.mark.parametrize("momentum", [0.1, 0.01])
@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (4, 3, 2, 3)], ids=["n=2", "n=24"])
def test_running_statistics_after_several_steps(momentum, shape):
    ours, theirs = batch_norms(3, momentum=momentum)
    rng = np.random.default_rng(0)
    for step in range(4):
        x = rng.normal(loc=step, scale=1 + step, size=shape)
        ours(jnp.asarray(x))
        theirs(torch.from_numpy(to_nchw(x)))
    assert_close_as_stored(np.asarray(ours.mean[...]), theirs.running_mean)
    assert_close_as_stored(np.asarray(ours.var[...]), theirs.running_var)


def test_batch_norm_keeps_its_digits_where_the_mean_is_large():
    ours, _ = batch_norms(3, torch.float32, momentum=1.0)
    x = np.random.default_rng(0).normal(1000, 1, size=(4, 8, 8, 3)).astype(np.float32)
    ours(jnp.asarray(x))
    exact = x.astype(np.float64).reshape(-1, 3).var(axis=0, ddof=1)
    # float32 resolves 6e-5 at 1000, which enters a two-pass variance squared.
    np.testing.assert_allclose(ours.var[...], exact, rtol=1e-5)


def test_batch_norm_of_bfloat16_has_float32_statistics():
    ours, _ = batch_norms(3, torch.float32, momentum=1.0)
    x = jnp.asarray(np.random.default_rng(0).normal(3, 1, size=(4, 8, 8, 3)), jnp.bfloat16)
    y = ours(x)
    exact = np.asarray(x, np.float64).reshape(-1, 3)
    assert y.dtype == jnp.bfloat16
    assert ours.mean[...].dtype == ours.var[...].dtype == jnp.float32
    np.testing.assert_allclose(ours.mean[...], exact.mean(0), rtol=1e-6)
    # In one pass: E[x^2], ten times the variance here, has the error of float32.
    error = np.abs(ours.var[...] - exact.var(0, ddof=1))
    assert np.all(error < 1e-6 * np.square(exact).mean(0))


def test_batch_norm_of_one_value_is_refused():
    with pytest.raises(UserError, match=r"more than one value per channel.*\(1, 1, 1, 5\)"):
        batch_norms(5)[0](jnp.ones((1, 1, 1, 5)))


# ------------------------------------------------------------------------------------------ pooling

POOLS = [  # size, stride, padding, ceil_mode, (h, w)
    (2, None, 0, False, (6, 8)),
    (2, None, 0, False, (7, 9)),
    (3, 2, 1, False, (8, 9)),
    (3, 2, 0, False, (8, 9)),
    (3, 1, 1, False, (5, 4)),
    (3, 2, 0, True, (8, 9)),  # GoogLeNet, SqueezeNet: a last, partial window
    (3, 2, 1, True, (8, 9)),
    (2, 2, 0, True, (7, 5)),
    (2, 3, 1, True, (5, 8)),  # 5: the last window would start in the right padding; dropped
    (1, 3, 0, True, (2, 3)),  # beyond the input; dropped
    (3, 3, 1, True, (7, 8)),
    (5, 3, 2, True, (10, 11)),
    ((3, 2), (2, 1), (1, 0), False, (7, 5)),
    ((2, 3), (1, 2), (1, 1), True, (6, 6)),
]


@pytest.mark.parametrize(("size", "stride", "padding", "ceil_mode", "hw"), POOLS)
def test_max_pool(size, stride, padding, ceil_mode, hw):
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    assert_same(
        partial(max_pool, size=size, **options),
        partial(F.max_pool2d, kernel_size=size, **options),
        (2, *hw, 3),
    )


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(("size", "stride", "padding", "ceil_mode", "hw"), POOLS)
def test_avg_pool(size, stride, padding, ceil_mode, hw, count_include_pad):
    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    options["count_include_pad"] = count_include_pad
    assert_same(
        partial(avg_pool, size=size, **options),
        partial(F.avg_pool2d, kernel_size=size, **options),
        (2, *hw, 3),
    )


def test_max_pool_ignores_its_padding_where_all_values_are_negative():
    x = -1 - np.random.default_rng(0).random((1, 4, 4, 1))
    theirs = F.max_pool2d(torch.from_numpy(to_nchw(x)), 3, 2, 1)
    assert_close(max_pool(jnp.asarray(x), 3, 2, 1), theirs)


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_padding_of_more_than_half_a_window_is_refused_as_in_torch(pool):
    twin = getattr(F, f"{pool.__name__}2d")
    with pytest.raises(RuntimeError, match="at most half"):
        twin(torch.ones(1, 1, 8, 8), 3, 2, 2)
    with pytest.raises(ValueError, match=r"at most half the window; got \(2, 2\) for \(3, 3\)"):
        pool(jnp.ones((1, 8, 8, 1)), 3, 2, 2)


@pytest.mark.parametrize("hw", [(8, 12), (7, 5), (4, 4), (2, 3), (1, 1)])
@pytest.mark.parametrize("size", [1, 4, (3, 2)])
def test_adaptive_avg_pool(hw, size):
    assert_same(
        partial(adaptive_avg_pool, size=size),
        partial(F.adaptive_avg_pool2d, output_size=size),
        (2, *hw, 3),
    )


def test_global_avg_pool():
    assert_same(global_avg_pool, lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), (2, 5, 7, 3))


def test_flatten_orders_channels_first():
    assert_same(flatten, lambda x: torch.flatten(x, 1), (2, 4, 5, 3))


# ------------------------------------------------------------------------------------------- losses

LABELS = np.array([2, 0, 6, 6])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    assert_same(
        lambda x: cross_entropy(x, jnp.asarray(LABELS), smoothing)[None],
        lambda x: F.cross_entropy(x, torch.from_numpy(LABELS), label_smoothing=smoothing)[None],
        (4, 7),
    )


def test_cross_entropy_of_each_image():
    assert_same(
        lambda x: cross_entropy_per_image(x, jnp.asarray(LABELS), 0.2),
        lambda x: F.cross_entropy(
            x, torch.from_numpy(LABELS), label_smoothing=0.2, reduction="none"
        ),
        (4, 7),
    )


def test_cross_entropy_of_huge_logits_is_finite():
    logits = np.array([[1e5, -1e5], [-1e5, 1e5]], np.float32)
    theirs = F.cross_entropy(torch.from_numpy(logits), torch.tensor([0, 0]))
    assert_close(cross_entropy(jnp.asarray(logits), jnp.array([0, 0])), theirs)


def test_cross_entropy_of_bfloat16_logits_is_computed_in_float32():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 7)), jnp.bfloat16)
    theirs = F.cross_entropy(
        torch.from_numpy(np.asarray(logits, np.float32)), torch.from_numpy(LABELS)
    )
    assert_close(cross_entropy(logits, jnp.asarray(LABELS)), theirs, tolerance=1e-6)
