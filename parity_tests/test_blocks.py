"""Activations, layer normalisation, attention and other blocks against torch, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from flaxzoo.layers import (
    LayerNorm,
    MultiheadAttention,
    SqueezeExcitation,
    attention,
    channel_shuffle,
    gelu,
    gelu_tanh,
    hard_sigmoid,
    hard_swish,
    initialise,
    leaky_relu,
    make_divisible,
    relu,
    relu6,
    sigmoid,
    silu,
)
from parity_tests.comparing import assert_close, assert_same


def torch_hard_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """F.hardsigmoid, but for its gradient: torch 2.13 multiplies that by a sixth in float32."""
    return F.relu6(x + 3) / 6


ACTIVATIONS = {
    "gelu": (gelu, F.gelu),
    "gelu_tanh": (gelu_tanh, partial(F.gelu, approximate="tanh")),
    "relu": (relu, F.relu),
    "relu6": (relu6, F.relu6),
    "leaky_relu": (leaky_relu, F.leaky_relu),
    "leaky_relu 0.1": (partial(leaky_relu, slope=0.1), partial(F.leaky_relu, negative_slope=0.1)),
    "hard_sigmoid": (hard_sigmoid, torch_hard_sigmoid),
    "hard_swish": (hard_swish, F.hardswish),
    "sigmoid": (sigmoid, torch.sigmoid),
    "silu": (silu, F.silu),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    ours, theirs = ACTIVATIONS[name]
    assert_same(lambda x: ours(4 * x), lambda x: theirs(4 * x), (20, 20))


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "hard_sigmoid"])
def test_gradient_at_the_kinks(name):
    """Pixels of exactly zero are common: a black border through a convolution without bias."""
    ours, theirs = ACTIVATIONS[name]
    x = np.array([-3.0, 0.0, 3.0, 6.0])
    torch_x = torch.from_numpy(x).requires_grad_()
    theirs(torch_x).sum().backward()
    assert_close(jax.grad(lambda x: ours(x).sum())(jnp.asarray(x)), torch_x.grad)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gelu_of_half_types_is_rounded_once(dtype):
    x = np.linspace(-5, 5, 101).astype(dtype)
    torch_x = torch.from_numpy(x.astype(np.float32)).to(getattr(torch, dtype)).requires_grad_()
    theirs = F.gelu(torch_x)
    theirs.sum().backward()
    y, vjp = jax.vjp(gelu, jnp.asarray(x))
    for ours, torchs in ((y, theirs), (vjp(jnp.ones_like(y))[0], torch_x.grad)):
        assert ours.dtype == dtype
        # One unit in the last place, where the two round to different sides; and what float32's
        # 1 + erf loses in the left tail.
        bound = float(jnp.finfo(dtype).eps)
        expected = torchs.detach().float().numpy()
        np.testing.assert_allclose(np.asarray(ours, np.float32), expected, rtol=bound, atol=1e-6)


@pytest.mark.parametrize("eps", [1e-5, 1e-6, 1e-1])
@pytest.mark.parametrize("shape", [(3, 7), (2, 4, 7)])
def test_layer_norm(eps, shape):
    assert_same(LayerNorm(7, eps), torch.nn.LayerNorm(7, eps), shape)


class LayerNorm2d(torch.nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_layer_norm_of_maps():
    assert_same(LayerNorm(7), LayerNorm2d(7), (2, 3, 4, 7))


def test_layer_norm_keeps_its_digits_where_the_mean_is_large():
    norm = LayerNorm(64)
    initialise(norm, seed=0)
    x = np.random.default_rng(0).normal(1000, 1, size=(4, 64)).astype(np.float32)
    exact = F.layer_norm(torch.from_numpy(x).double(), (64,)).float()
    assert_close(norm(jnp.asarray(x)), exact, tolerance=1e-4)  # float32 resolves 6e-5 at 1000


def test_layer_norm_of_bfloat16_returns_bfloat16():
    norm = LayerNorm(64)
    initialise(norm, seed=0)
    assert norm(jnp.ones((2, 64), jnp.bfloat16)).dtype == jnp.bfloat16


class SelfAttention(torch.nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("heads", [1, 3])
def test_multihead_attention(heads):
    assert_same(
        MultiheadAttention(12, heads), SelfAttention(12, heads, batch_first=True), (2, 5, 12)
    )


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("biased", [False, True])
def test_attention(scale, biased):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 3, n, 4)) for n in (5, 6, 6))
    bias = rng.normal(size=(3, 5, 6)) if biased else None
    theirs = F.scaled_dot_product_attention(
        *map(torch.from_numpy, (q, k, v)), scale=scale,
        attn_mask=None if bias is None else torch.from_numpy(bias),
    )  # fmt: skip
    ours = attention(
        *map(jnp.asarray, (q, k, v)), None if bias is None else jnp.asarray(bias), scale
    )
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-14)


class TorchSqueezeExcitation(torch.nn.Module):
    def __init__(self, activation, gate):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Conv2d(6, 2, 1), torch.nn.Conv2d(2, 6, 1)
        self.activation, self.gate = activation, gate

    def forward(self, x):
        means = F.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.fc2(self.activation(self.fc1(means))))


GATES = {
    "relu, sigmoid": (relu, F.relu, sigmoid, torch.sigmoid),
    "silu, hard sigmoid": (silu, F.silu, hard_sigmoid, torch_hard_sigmoid),
}


@pytest.mark.parametrize("name", GATES)
def test_squeeze_excitation(name):
    ours, theirs, our_gate, their_gate = GATES[name]
    assert_same(
        SqueezeExcitation(6, 2, ours, our_gate), TorchSqueezeExcitation(theirs, their_gate),
        (2, 3, 4, 6),
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_channel_shuffle(groups):
    assert_same(
        partial(channel_shuffle, groups=groups),
        lambda x: F.channel_shuffle(x, groups), (2, 3, 4, 6),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(32, 32), (33, 32), (36, 40), (11, 16), (10, 16), (1, 8), (8.9, 16), (44, 48), (91, 88)],
)
def test_make_divisible_never_takes_more_than_a_tenth(value, rounded):
    assert make_divisible(value) == rounded
    assert rounded >= 0.9 * value


def test_hard_sigmoid_has_torchs_values():
    x = np.linspace(-5, 5, 41)
    assert_close(hard_sigmoid(jnp.asarray(x)), F.hardsigmoid(torch.from_numpy(x)))
