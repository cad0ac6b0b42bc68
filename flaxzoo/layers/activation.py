"""Activations whose names say which of two formulas they are."""

import jax
from jaxtyping import Array, Float


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.GELU(): x times the normal distribution function, exactly (with erf).

    jax.nn.gelu's default is the tanh approximation, which is off by up to 4.7e-4.
    """
    return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """torch.nn.GELU(approximate="tanh")."""
    return jax.nn.gelu(x, approximate=True)
