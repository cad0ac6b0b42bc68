"""Activations with torch's values and torch's gradients, kinks included."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxzoo.layers.dtypes import widened
from flaxzoo.layers.fusion import kept, materialised


def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.ReLU(). As in torch the gradient is taken from the output, which is kept anyway."""
    return _relu(x)


@jax.custom_vjp
def _relu(x):
    return kept(jnp.maximum(x, 0))


_relu.defvjp(lambda x: (_relu(x),) * 2, lambda y, grad: (jnp.where(y > 0, grad, 0),))


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.GELU(): x times the normal distribution function, exactly (with erf).

    jax.nn.gelu's default is the tanh approximation, which is off by up to 4.7e-4. Its exact form is
    by erfc, which on a CPU takes twice the time of erf. As in torch, half types are computed in
    float32, where 1 + erf keeps its digits.
    """
    return _gelu(x)


@jax.custom_vjp
def _gelu(x):
    wide = widened(x)
    return kept((wide * _normal_cdf(wide)).astype(x.dtype))


def _gelu_gradient(x, grad):
    wide = widened(x)
    density = jnp.exp(-0.5 * jnp.square(wide)) * (2 * math.pi) ** -0.5
    slope = _normal_cdf(wide) + wide * density
    return (kept((widened(grad) * slope).astype(x.dtype)),)


_gelu.defvjp(lambda x: (_gelu(x), x), _gelu_gradient)


def _normal_cdf(x):
    return 0.5 * (1 + jax.lax.erf(x * 0.5**0.5))


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.GELU(approximate="tanh")."""
    return materialised(jax.nn.gelu(x, approximate=True))


def leaky_relu(x: Float[Array, "..."], slope: float = 0.01) -> Float[Array, "..."]:
    """torch.nn.LeakyReLU(slope): slope * x where x is not positive."""
    return materialised(jnp.where(x > 0, x, slope * x))


def relu6(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.ReLU6(): x cut to [0, 6]. At both kinks the gradient is 0, not jnp.clip's half."""
    return materialised(_cut(x))


def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.SiLU(): x * sigmoid(x)."""
    return materialised(jax.nn.silu(x))


def hard_sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.Hardsigmoid(): relu6(x + 3) / 6."""
    return _cut(x + 3) / 6


def hard_swish(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.Hardswish(): x * relu6(x + 3) / 6 (Howard et al. 2019, section 5.2)."""
    return materialised(x * hard_sigmoid(x))


def _cut(x: Array) -> Array:
    return jnp.where((x > 0) & (x < 6), x, jax.lax.stop_gradient(jnp.clip(x, 0, 6)))
