"""Batch normalisation with torch's statistics, and layer normalisation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.errors import UserError
from flaxzoo.layers.init import ONES, ZEROS
from flaxzoo.layers.module import Buffer, param, statistic


class BatchNorm(nnx.Module):
    """torch.nn.BatchNorm2d (and 1d) over all axes but the last.

    Batch Normalization, Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167. As in torch, and
    unlike flax: `momentum` is the weight of the new value, the batch is normalised with the biased
    variance while the running variance takes the unbiased one (n / (n - 1)), and the variance is
    computed in two passes, which keeps its digits where the mean is large.

    Statistics are computed in float32 or better, whatever the input's dtype. With `axis_name`, a
    mapped axis of jax.pmap, they are those of the batch over all devices; under jit they always
    are. With `parts` above 1 the batch is split into so many, in its order, and each is normalised
    with statistics of its own; the running ones take their mean. Where the devices share a batch in
    as many parts, nothing crosses between them before the step ends.

    Where the input is bfloat16 or float16 the variance is E[x^2] - E[x]^2, in float32: a second
    pass would read all of it again (two bottlenecks on a TPU v5e: 82 MB an image, not 71), for
    digits that rounding the input to 8 or 11 bits has mostly taken already.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        self.eps = self.own_eps = eps  # weights of timm's may need another for a while
        self.momentum = momentum
        self.use_running_average = False
        self.axis_name: str | None = None
        self.parts = 1
        self.scale = param((num_features,), ONES)
        self.bias = param((num_features,), ZEROS)
        self.mean = statistic((num_features,), ZEROS)
        self.var = statistic((num_features,), ONES)
        self.num_batches_tracked = Buffer(np.zeros, ((), np.int64))

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        if self.use_running_average:
            return self._normalise(x, self.mean[...], self.var[...])
        if self.parts == 1:
            return self._normalise(x, *self._batch_statistics(x))
        split = x.reshape(self.parts, -1, *x.shape[1:])
        return self._normalise(split, *self._batch_statistics(split, first=1)).reshape(x.shape)

    def _normalise(self, x: Array, mean: Array, var: Array) -> Array:
        wide = _widened(x)
        scale = self.scale[...] * jax.lax.rsqrt(var + self.eps)
        y = (wide - mean.astype(wide.dtype)) * scale.astype(wide.dtype)
        return (y + self.bias[...].astype(wide.dtype)).astype(x.dtype)

    def _batch_statistics(self, x: Array, first: int = 0) -> tuple[Array, Array]:
        """Returns mean and biased variance over the axes from `first`, and moves the running ones.

        Without a first axis of parts they are of shape (c,), otherwise (parts, 1, ..., 1, c).
        """
        axes = tuple(range(first, x.ndim - 1))
        count = math.prod(x.shape[axis] for axis in axes)
        if self.axis_name is not None:
            count *= jax.lax.psum(1, self.axis_name)
        if count < 2:
            raise UserError(
                "batch normalisation needs more than one value per channel in training; "
                f"got an input of shape {x.shape}: use a larger batch or larger images."
            )
        wide = _widened(x)

        def average(values: Array) -> Array:
            own = jnp.mean(values, axes, keepdims=first > 0)
            return own if self.axis_name is None else jax.lax.pmean(own, self.axis_name)

        mean = average(wide)
        if x.dtype == wide.dtype:
            var = average(jnp.square(wide - mean))
        else:
            var = jnp.maximum(average(jnp.square(wide)) - jnp.square(mean), 0)
        self._move(self.mean, mean)
        self._move(self.var, var * (count / (count - 1)))
        return mean, var

    def _move(self, running: nnx.BatchStat, new: Float[Array, "*parts c"]) -> None:
        old = running[...]
        new = jnp.mean(new.reshape(-1, len(old)), 0) if new.ndim > 1 else new
        running[...] = (1 - self.momentum) * old + self.momentum * new.astype(old.dtype)


def _widened(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def set_momentum(model: nnx.Module, momentum: float) -> None:
    """Sets the momentum of every BatchNorm in `model`.

    Raises:
        UserError: it has none.
    """
    norms = [module for _, module in nnx.iter_graph(model) if isinstance(module, BatchNorm)]
    if not norms:
        raise UserError(
            f"{type(model).__name__} has no batch normalisation; got its momentum, {momentum}."
        )
    for norm in norms:
        norm.momentum = momentum


def freeze_statistics(model: nnx.Module) -> None:
    """Has the batch normalisation of `model` use its running statistics and leave them as they are.

    What `bn.eval()` on every BatchNorm does in torch; scales and biases still train. To be called
    after `model.train()`, which ends it.
    """
    model.set_attributes(BatchNorm, use_running_average=True, raise_if_not_found=False)


class LayerNorm(nnx.Module):
    """torch.nn.LayerNorm over the last axis, with two-pass statistics in float32 or better.

    Layer Normalization, Ba et al. 2016, https://arxiv.org/abs/1607.06450. `eps` is torch's 1e-5 by
    default, not flax's 1e-6; many families set their own. On (n, h, w, c) arrays it is also
    torchvision's LayerNorm2d.
    """

    def __init__(self, num_features: int, eps: float = 1e-5):
        self.eps = eps
        self.scale = param((num_features,), ONES)
        self.bias = param((num_features,), ZEROS)

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centred = wide - jnp.mean(wide, -1, keepdims=True)
        var = jnp.mean(jnp.square(centred), -1, keepdims=True)
        y = centred * jax.lax.rsqrt(var + self.eps) * self.scale[...].astype(wide.dtype)
        return (y + self.bias[...].astype(wide.dtype)).astype(x.dtype)
