"""Activations with torch's values and torch's gradients, kinks included."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.GELU(): x times the normal distribution function, exactly (with erf).

    jax.nn.gelu's default is the tanh approximation, which is off by up to 4.7e-4.
    """
    return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.GELU(approximate="tanh")."""
    return jax.nn.gelu(x, approximate=True)


def leaky_relu(x: Float[Array, "..."], slope: float = 0.01) -> Float[Array, "..."]:
    """torch.nn.LeakyReLU(slope): slope * x where x is not positive."""
    return jnp.where(x > 0, x, slope * x)


def relu6(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.ReLU6(): x cut to [0, 6]. At both kinks the gradient is 0, not jnp.clip's half."""
    return jnp.where((x > 0) & (x < 6), x, jax.lax.stop_gradient(jnp.clip(x, 0, 6)))


def hard_sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.Hardsigmoid(): relu6(x + 3) / 6."""
    return relu6(x + 3) / 6


def hard_swish(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.Hardswish(): x * relu6(x + 3) / 6 (Howard et al. 2019, section 5.2)."""
    return x * hard_sigmoid(x)
