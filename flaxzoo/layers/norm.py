"""Batch normalisation with torch's statistics, and layer normalisation."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from flaxzoo.errors import UserError
from flaxzoo.layers.dtypes import widened
from flaxzoo.layers.fusion import channel_sums, spread
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
        self.across_devices = False  # whether a batch under jit lies on several, for conv_norm
        self.scale = param((num_features,), ONES)
        self.bias = param((num_features,), ZEROS)
        self.mean = statistic((num_features,), ZEROS)
        self.var = statistic((num_features,), ONES)
        self.num_batches_tracked = Buffer(np.zeros, ((), np.int64))

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch c"]:
        if self.use_running_average:
            return self._normalise(x, self.mean[...], self.var[...])
        if self.parts == 1:
            return self._normalise_batch(x)
        return self._normalise_batch(self.split(x), first=1).reshape(x.shape)

    def split(self, x: Float[Array, "n *rest"]) -> Float[Array, "parts n_part *rest"]:
        """Returns the parts of a batch that have statistics of their own."""
        return x.reshape(self.parts, -1, *x.shape[1:])

    def _normalise(self, x: Array, mean: Array, var: Array) -> Array:
        wide = widened(x)
        scale = self.scale[...] * jax.lax.rsqrt(var + self.eps)
        y = (wide - mean.astype(wide.dtype)) * scale.astype(wide.dtype)
        return (y + self.bias[...].astype(wide.dtype)).astype(x.dtype)

    def _normalise_batch(self, x: Array, first: int = 0) -> Array:
        """Normalises with statistics over the axes from `first`, and moves the running ones."""
        axes = Axes(tuple(range(first, x.ndim - 1)), self.axis_name)
        outputs: Any = batch_norm(x, self.scale[...], self.bias[...], axes, self.eps)
        y, mean, var = outputs
        self.move_statistics(mean, var, axes.count(x))
        return y

    def move_statistics(self, mean: Array, var: Array, count: int) -> None:
        """Moves the running statistics towards mean and biased variance of `count` values."""
        self._move(self.mean, mean)
        self._move(self.var, var * (count / (count - 1)))

    def _move(self, running: nnx.BatchStat, new: Float[Array, "*ones c"]) -> None:
        old, new = running[...], jax.lax.stop_gradient(new)
        new = jnp.mean(new.reshape(-1, len(old)), 0)
        running[...] = (1 - self.momentum) * old + self.momentum * new.astype(old.dtype)


class Axes(NamedTuple):
    """What statistics are taken over: axes of an array, and the devices along a mapped axis."""

    axes: tuple[int, ...]
    axis_name: str | None = None

    def count(self, x: Array) -> int:
        devices = 1 if self.axis_name is None else jax.lax.psum(1, self.axis_name)
        count = math.prod(x.shape[axis] for axis in self.axes) * devices
        if count < 2:
            raise UserError(
                "batch normalisation needs more than one value per channel in training; "
                f"got an input of shape {x.shape}: use a larger batch or larger images."
            )
        return count

    def sum(self, x: Array) -> Array:
        """Over this device's part of the batch, with the axes summed over left in."""
        first = self.axes[0]
        sums = channel_sums if first == 0 else jax.vmap(channel_sums)
        return sums(x).reshape(*x.shape[:first], *(1 for _ in self.axes), -1)

    def mean(self, x: Array) -> Array:
        return self.average(self.sum(x), x)

    def average(self, sums: Any, x: Array) -> Any:
        """Turns this device's sums over parts of the batch `x` into means over all of it."""
        if self.axis_name is not None:
            sums = jax.lax.psum(sums, self.axis_name)
        return jax.tree.map(lambda total: total / self.count(x), sums)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(x, scale, bias, axes: Axes, eps: float):
    """Returns the normalised x, and mean and biased variance with as many axes as x.

    The gradient is written out, for jax's own takes two more sums over x that are zero, and keeps
    what can be had from x, mean and deviation. None flows back through mean and variance.
    """
    return _with_residuals(x, scale, bias, axes, eps)[0]


def _with_residuals(x, scale, bias, axes: Axes, eps: float):
    return _pooled_with_residuals(x, x, scale, bias, axes, eps)


def _gradient(axes: Axes, _eps: float, residuals, grads):
    x, _, _, _, mean, inverse = residuals
    grad, mean_grad, slope, factor, *affine = _gradient_sums(axes, residuals, grads)
    dx = (grad - mean_grad - (widened(x) - mean) * (inverse * slope)) * factor
    return dx.astype(x.dtype), *affine


batch_norm.defvjp(_with_residuals, _gradient)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def batch_norm_pooled(x, pooled, scale, bias, axes: Axes, eps: float):
    """`batch_norm` of the maxima `pooled` of x, with the statistics of x.

    Where a scale is negative they would have to be minima: `flaxzoo.layers.pooled_stem`.
    """
    return _pooled_with_residuals(x, pooled, scale, bias, axes, eps)[0]


def _pooled_with_residuals(x, pooled, scale, bias, axes: Axes, eps: float):
    wide = widened(x)
    mean = axes.mean(wide)
    if x.dtype == wide.dtype:
        var = axes.mean(jnp.square(wide - mean))
    else:
        var = jnp.maximum(axes.mean(jnp.square(wide)) - jnp.square(mean), 0)
    inverse = jax.lax.rsqrt(var + eps)
    factor = inverse * scale.astype(wide.dtype)
    y = (widened(pooled) - mean) * factor + bias.astype(wide.dtype)
    return (y.astype(x.dtype), mean, var), (x, pooled, scale, bias, mean, inverse)


def _pooled_gradient(axes: Axes, _eps: float, residuals, grads):
    x, pooled, _, _, mean, inverse = residuals
    grad, mean_grad, slope, factor, *affine = _gradient_sums(axes, residuals, grads)
    dx = -(mean_grad + (widened(x) - mean) * (inverse * slope)) * factor
    return dx.astype(x.dtype), (grad * factor).astype(pooled.dtype), *affine


def _gradient_sums(axes: Axes, residuals, grads):
    """Returns what a gradient of x consists of, and the gradients of scale and bias."""
    x, pooled, scale, bias, mean, inverse = residuals
    grad = widened(grads[0])
    # Of scale and bias this device's share: the step adds up those of all devices.
    dbias = axes.sum(grad)
    dscale = axes.sum(grad * (widened(pooled) - mean)) * inverse
    mean_grad, slope = axes.average((dbias, dscale), x)
    factor = inverse * scale.astype(grad.dtype)
    dscale, dbias = (total.reshape(-1, len(scale)).sum(0) for total in (dscale, dbias))
    return grad, mean_grad, slope, factor, dscale.astype(scale.dtype), dbias.astype(bias.dtype)


batch_norm_pooled.defvjp(_pooled_with_residuals, _pooled_gradient)


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
        wide = widened(x)
        centred = wide - jnp.mean(wide, -1, keepdims=True)
        var = jnp.mean(jnp.square(centred), -1, keepdims=True)
        y = centred * jax.lax.rsqrt(var + self.eps)
        scale, bias = (spread(v[...].astype(wide.dtype), x.shape) for v in (self.scale, self.bias))
        return (y * scale + bias).astype(x.dtype)
