"""Dropout and stochastic depth, and where their random numbers come from.

A model takes one key a call, `model(images, key=key)`. It is handed down by `random_key` rather
than through every block's signature: a layer asks for the next key, and the n-th request of a call
gets fold_in(key, n). Nothing random is kept in the model, so a step is a function of its inputs.
"""

import contextlib
import contextvars
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.errors import UserError, shown

_source: contextvars.ContextVar[tuple[jax.Array, Iterator[int]] | None] = contextvars.ContextVar(
    "random key of the running model call", default=None
)


@contextlib.contextmanager
def random_key(key: jax.Array | object | None) -> Iterator[None]:
    """Gives the layers called inside their random numbers; None keeps what is already given.

    Raises:
        UserError: it is no key.
    """
    if key is None:
        yield
        return
    if not (isinstance(key, jax.Array) and (_is_key(key) or _is_old_key(key))):
        raise UserError(f"key must be one of jax.random.key(SEED); got {shown(key)}.")
    token = _source.set((key, itertools.count()))
    try:
        yield
    finally:
        _source.reset(token)


def _is_key(key: jax.Array) -> bool:
    return key.shape == () and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _is_old_key(key: jax.Array) -> bool:
    """Whether it is of jax.random.PRNGKey, which is an array of numbers."""
    return key.ndim == 1 and key.dtype == jnp.uint32


def next_key() -> jax.Array:
    """Returns the next key of the running call.

    Raises:
        UserError: no key was given to the model.
    """
    source = _source.get()
    if source is None:
        raise UserError(
            "this model draws random numbers in training: call model(images, "
            "key=jax.random.key(0)), or model.eval() first."
        )
    key, counter = source
    return jax.random.fold_in(key, next(counter))


class Dropout(nnx.Module):
    """torch.nn.Dropout: zeroes elements with probability `rate`, divides the rest by 1 - rate."""

    def __init__(self, rate: float | object):
        self.rate = _checked_rate(rate)
        self.deterministic = False

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return x if self.deterministic else _drop(x, self.rate, x.shape)


class StochasticDepth(nnx.Module):
    """torchvision.ops.StochasticDepth in "row" mode: drops a residual branch for whole images.

    Deep Networks with Stochastic Depth, Huang et al. 2016, https://arxiv.org/abs/1603.09382; as in
    torchvision the kept branches are scaled by 1 / (1 - rate) in training, not by (1 - rate) in
    eval.
    """

    def __init__(self, rate: float | object):
        self.rate = _checked_rate(rate)
        self.deterministic = False

    def __call__(self, x: Float[Array, "n *rest"]) -> Float[Array, "n *rest"]:
        return x if self.deterministic else _drop(x, self.rate, (x.shape[0],) + (1,) * (x.ndim - 1))


def rising_rates(last: float | object, blocks: int) -> Iterator[float]:
    """Yields the rate of each block: 0 for the first, evenly up to `last` (Huang et al. 2016)."""
    last = _checked_rate(last)
    return (last * i / max(1, blocks - 1) for i in range(blocks))


def _drop(x: Array, rate: float, mask_shape: tuple[int, ...]) -> Array:
    if rate == 0.0:
        return x
    if rate == 1.0:
        return jnp.zeros_like(x)
    keep = jax.random.bernoulli(next_key(), np.float32(1 - rate), mask_shape)
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)


def _checked_rate(rate: float | object) -> float:
    if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 <= rate <= 1:
        return float(rate)
    raise UserError(f"a rate of dropout or stochastic depth lies between 0 and 1; got {rate!r}.")
