"""In which type numbers are computed."""

import jax.numpy as jnp
from jaxtyping import Array


def widened(x: Array) -> Array:
    """Returns x in float32 if it is of a half type, in which sums and functions lose digits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
