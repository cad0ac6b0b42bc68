"""Dynamic loss scaling, which keeps small gradients above float16's smallest number."""

from collections.abc import Iterable

import jax.numpy as jnp
from jaxtyping import Array

Scale = dict[str, Array]

# Those of torch.amp.GradScaler (Micikevicius et al. 2017, https://arxiv.org/abs/1710.03740).
FIRST = 2.0**16
GROWTH, BACKOFF, INTERVAL = 2.0, 0.5, 2000


def first_scale() -> Scale:
    """Returns the scale before the first step."""
    return {"scale": jnp.float32(FIRST), "good_steps": jnp.int32(0)}


def next_scale(scale: Scale, grads: Iterable[Array]) -> tuple[Scale, Array]:
    """Returns the scale of the next step, and whether to take this one: no gradient overflowed.

    The scale is halved after an overflow and doubled after 2000 steps without one. At a scale of 1
    every step is taken: the loss itself is not finite, and the run has to hear of it.
    """
    now, good_steps = scale["scale"], scale["good_steps"]
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in grads]))
    taken = finite | (now <= 1)
    good_steps = jnp.where(taken, good_steps + 1, 0)
    grows = good_steps == INTERVAL
    grown = jnp.where(grows, now * GROWTH, now)
    return {
        "scale": jnp.where(taken, grown, jnp.maximum(now * BACKOFF, 1)),
        "good_steps": jnp.where(grows, 0, good_steps),
    }, taken
