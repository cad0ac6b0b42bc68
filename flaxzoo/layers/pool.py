"""Pooling with torch's padding, rounding and counting, on (n, h, w, c) arrays."""

import functools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from flaxzoo.layers.dense import Pair, pair
from flaxzoo.layers.window import Window, shift_and_add, taps_of


def max_pool(
    x: Float[Array, "n h w c"],
    size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
) -> Float[Array, "n h_out w_out c"]:
    """torch.nn.functional.max_pool2d: pads with minus infinity; `stride` defaults to `size`.

    Of equal values in a window the first gets the gradient, as in torch. No forward-mode
    differentiation (`jax.jvp`), as for any `jax.custom_vjp`.
    """
    size, stride, pads, _ = _geometry(x, size, stride, padding, ceil_mode)
    return _max_pool(x, size, Window(stride, pads, (1, 1), 1))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _max_pool(x, size: tuple[int, int], window: Window):
    return _native_max_pool(x, size, window)


def _native_max_pool(x, size: tuple[int, int], window: Window):
    lowest = np.asarray(-np.inf, x.dtype)  # NumPy's: a constant that XLA sees as max's identity
    return _over_windows(x, lowest, lax.max, size, window.stride, window.padding)


def _over_windows(x, initial: np.ndarray, function, size, stride, pads):
    strides, pads = (1, *stride, 1), ((0, 0), *pads, (0, 0))
    return lax.reduce_window(x, initial, function, (1, *size, 1), strides, pads)


def _max_pool_with_residuals(x, size: tuple[int, int], window: Window):
    return _max_pool(x, size, window), x


def _max_pool_backward(size: tuple[int, int], window: Window, x, grad):
    def native(x, grad):
        return jax.vjp(partial(_native_max_pool, size=size, window=window), x)[1](grad)[0]

    by_taps = partial(_max_pool_backward_by_taps, size=size, window=window)
    return (lax.platform_dependent(x, grad, cpu=by_taps, default=native),)


def _max_pool_backward_by_taps(x, grad, size: tuple[int, int], window: Window):
    """What XLA:CPU makes of select-and-scatter takes 10 times as long: 3x3 s2 64@64, 185 for 18 ms.

    (16 images, two cores.) Each window's gradient goes to the first of its pixels that is the
    maximum; pixel by pixel of the window, the shares are shifted to where it looked, and added.
    """
    offsets = [(i, j) for i in range(size[0]) for j in range(size[1])]
    lowest = np.asarray(-np.inf, x.dtype)
    padded = lax.pad(x, lowest, ((0, 0, 0), *((*pad, 0) for pad in window.padding), (0, 0, 0)))
    taps = taps_of(padded, offsets, grad.shape[1:3], window.stride)
    largest = functools.reduce(jnp.maximum, taps)
    shares, free = [], jnp.ones(grad.shape, bool)
    for tap in taps:
        found = tap == largest
        shares.append(jnp.where(free & found, grad, 0))
        free &= ~found
    return shift_and_add(shares, offsets, window, x.shape[1:3])


_max_pool.defvjp(_max_pool_with_residuals, _max_pool_backward)


def avg_pool(
    x: Float[Array, "n h w c"],
    size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Float[Array, "n h_out w_out c"]:
    """torch.nn.functional.avg_pool2d: by default the padding counts as zeros in the average.

    What `ceil_mode` adds beyond the padding is never counted.
    """
    size, stride, pads, padding = _geometry(x, size, stride, padding, ceil_mode)
    total = _over_windows(x, np.zeros((), x.dtype), lax.add, size, stride, pads)
    counts = [
        _window_counts(x.shape[axis + 1], size[axis], stride[axis], padding[axis],
                       total.shape[axis + 1], count_include_pad)
        for axis in (0, 1)
    ]  # fmt: skip
    return total / jnp.asarray(np.outer(*counts)[:, :, None], x.dtype)


def global_avg_pool(x: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
    """The mean over height and width: AdaptiveAvgPool2d(1) and flatten."""
    return jnp.mean(x, axis=(1, 2))


def adaptive_avg_pool(x: Float[Array, "n h w c"], size: Pair) -> Float[Array, "n h_out w_out c"]:
    """torch.nn.functional.adaptive_avg_pool2d: output cell i averages rows floor(i h / out) up to
    ceil((i + 1) h / out); cells overlap where `out` does not divide h."""
    for axis, out in zip((1, 2), pair(size), strict=True):
        if x.shape[axis] != out:
            weights = jnp.asarray(_adaptive_weights(x.shape[axis], out), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(x, weights, axes=(axis, 1)), -1, axis)
    return x


def flatten(x: Float[Array, "n h w c"]) -> Float[Array, "n features"]:
    """Flattens in torch's order, channels first: what follows a convolution in AlexNet and VGG."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


def _geometry(x, size: Pair, stride: Pair | None, padding: Pair, ceil_mode: bool):
    """Returns size, stride, padding before and after each axis, and the padding asked for."""
    size, stride, padding = pair(size), pair(size if stride is None else stride), pair(padding)
    for side, pad in zip(size, padding, strict=True):
        if pad > side // 2:  # torch's own rule: a window of padding alone would have no maximum
            raise ValueError(f"padding must be at most half the window; got {padding} for {size}.")
    bottom, right = (
        p + _ceil_padding(n, k, s, p) if ceil_mode else p
        for n, k, s, p in zip(x.shape[1:3], size, stride, padding, strict=True)
    )
    return size, stride, ((padding[0], bottom), (padding[1], right)), padding


def _ceil_padding(length: int, size: int, stride: int, padding: int) -> int:
    """How much longer the padded input must be so that the last, partial window counts.

    torch drops a last window that would start beyond the input and its left padding.
    """
    span = length + 2 * padding - size
    out = -(-span // stride) + 1
    if (out - 1) * stride >= length + padding:
        out -= 1
    return max(0, (out - 1) * stride - span)


def _window_counts(
    length: int, size: int, stride: int, padding: int, out: int, include_pad: bool
) -> np.ndarray:
    """Returns the number of positions that each of the `out` windows divides by, along one axis."""
    first, last = (-padding, length + padding) if include_pad else (0, length)
    starts = np.arange(out) * stride - padding
    return np.minimum(starts + size, last) - np.maximum(starts, first)


def _adaptive_weights(length: int, out: int) -> np.ndarray:
    """Returns the (out, length) matrix that averages each output cell's range."""
    weights = np.zeros((out, length))
    for i in range(out):
        start, stop = i * length // out, math.ceil((i + 1) * length / out)
        weights[i, start:stop] = 1 / (stop - start)
    return weights
