"""Which arrays XLA:CPU computes once, where it would do so again in each loop that reads them."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Terms of a sum that are read side by side: 8 and 16 take the same time, 32 more than twice that,
# and XLA:CPU splits a sum of more than 32 into two.
SUMMED_AT_ONCE = 8


def materialised(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x; on a CPU it is computed once and kept, and so is its gradient.

    XLA:CPU repeats cheap operations in every loop that uses them. A residual stream is then
    computed from the start of its stage in each block, and an activation once for each tap of a
    depthwise kernel. Of a program that is compiled without `flaxzoo.training.parallel.CPU_OPTIONS`
    XLA:CPU drops this wish before it fuses; GPUs and TPUs, which fuse by cost, never see it.
    """
    return _materialised(x)


@jax.custom_vjp
def _materialised(x):
    return kept(x)


# The jit makes a network that says so a hundred times trace it once; inlined, it leaves no trace in
# the compiled program.
@partial(jax.jit, inline=True)
def kept(x):
    """`materialised` for arrays alone, without their gradients."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)


_materialised.defvjp(lambda x: (kept(x), None), lambda _, grad: (kept(grad),))


def residual(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x + y: a shortcut and what its block adds to it, materialised on a CPU."""
    return materialised(x + y)


def channel_sums(x: Float[Array, "*batch c"]) -> Float[Array, " c"]:
    """Returns the sum over all axes but the last."""
    return _channel_sums(x)


@partial(jax.jit, inline=True)
def _channel_sums(x):
    return lax.platform_dependent(x, cpu=_channel_sums_cpu, default=_channel_sums_anywhere)


def _channel_sums_anywhere(x):
    return jnp.sum(x, range(x.ndim - 1))


def _channel_sums_cpu(x):
    """A few sums in one loop on all cores, with what computes x in it; the rest by a product.

    XLA:CPU's own loop runs on one core: batch normalisation with its gradient, 256@32 (batch 16),
    takes 40 by it, so 8.1. The batch is the last to be summed: of one that is split over devices,
    each sends a number for each channel.
    """
    if x.ndim > 2:
        n, *sizes, channels = x.shape
        positions = math.prod(sizes)
        terms = divisor(positions, SUMMED_AT_ONCE)
        x = jnp.sum(x.reshape(n, terms, positions // terms, channels), 1)
        x = lax.optimization_barrier(x).reshape(-1, channels)
    # Of two rows, for a product of one XLA:CPU compiles a loop of its own: 19 ms for each shape.
    return (jnp.ones((2, x.shape[0]), x.dtype) @ x)[0]


def divisor(n: int, most: int) -> int:
    """Returns the largest divisor of n that is at most `most`."""
    return next(k for k in range(most, 0, -1) if n % k == 0)


def spread(values: Float[Array, " c"], shape: tuple[Any, ...]) -> Float[Array, "*batch c"]:
    """Returns `values` as an array of `shape`; their gradients are `channel_sums`."""
    return _spread(values, shape)  # type: ignore[return-value]


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _spread(values, shape):
    return jnp.broadcast_to(values, shape)


_spread.defvjp(
    lambda values, shape: (jnp.broadcast_to(values, shape), None),
    lambda _shape, _, grad: (channel_sums(grad),),
)
