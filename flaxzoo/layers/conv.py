"""2-D convolution: XLA's own on accelerators, faster formulations on CPUs."""

from functools import partial

import jax
from jax import lax
from jaxtyping import Array, Float

from flaxzoo.layers import conv_cpu
from flaxzoo.layers.conv_cpu import native
from flaxzoo.layers.window import Window


def conv2d(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c_group c_out"],
    *,
    stride: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Float[Array, "n h_out w_out c_out"]:
    """Convolves a batch of images, as `lax.conv_general_dilated` does, with equal gradients.

    GPUs and TPUs run exactly that convolution. On a CPU the shapes choose one of the formulations
    in `conv_cpu`; `benchmarks/conv_cpu.py` times them, layer by layer.

    Limits, on every platform: no forward-mode differentiation (`jax.jvp`), as for any
    `jax.custom_vjp`. On CPUs only: some formulations scan over the images, so a jitted function of
    a batch sharded over devices gathers the batch on each of them. The result is right. Arrays
    whose type carries a mesh axis (an explicit mesh, `jax.shard_map` with check_vma) get the
    native convolution everywhere, since the types do not follow the reshapes.

    Args:
      x: images. Same dtype as the kernel.
      kernel: weights; c_group is c // groups, and c_out a multiple of groups.
      stride: of the rows, of the columns.
      padding: zeros before and after the rows, before and after the columns.
      dilation: distance between neighbouring taps of the kernel, along rows and columns.
      groups: channels are split into this many groups, each convolved on its own.

    >>> import jax.numpy as jnp
    >>> image, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5))
    >>> conv2d(image, kernel, stride=(2, 2), padding=((1, 1), (1, 1))).shape
    (1, 2, 2, 5)
    """
    if x.shape[3] != kernel.shape[2] * groups or kernel.shape[3] % groups:
        raise ValueError(
            f"got images {x.shape} and kernel {kernel.shape} with {groups} groups; the kernel "
            "should have channels / groups inputs and a multiple of groups outputs."
        )
    window = Window(stride, padding, dilation, groups)
    if type_has_mesh_axis(x) or type_has_mesh_axis(kernel):
        return native(x, kernel, window)
    return _conv2d(x, kernel, window)


def type_has_mesh_axis(x) -> bool:
    """Whether x's type says how x is spread over a mesh. All branches are typed everywhere."""
    aval = jax.typeof(x)
    varying = getattr(aval, "vma", ())  # in jax 0.7; manual_axis_type in 0.10
    varying = varying or getattr(getattr(aval, "manual_axis_type", None), "varying", ())
    return bool(varying) or any(axis is not None for axis in aval.sharding.spec)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv2d(x, kernel, window: Window):
    return _forward(x, kernel, window)


# The jits make a network that repeats a convolution trace it once; inlined, they leave no trace in
# the compiled program.
@partial(jax.jit, static_argnums=2, inline=True)
def _forward(x, kernel, window: Window):
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(conv_cpu.forward, window=window),
        default=partial(native, window=window),
    )


@partial(jax.jit, static_argnums=3, inline=True)
def _backward(x, kernel, grad, window: Window):
    def native_backward(x, kernel, grad):
        return jax.vjp(partial(native, window=window), x, kernel)[1](grad)

    if not conv_cpu.has_fast_backward(x, kernel, window):
        return native_backward(x, kernel, grad)
    return lax.platform_dependent(
        x,
        kernel,
        grad,
        cpu=partial(conv_cpu.backward, window=window),
        default=native_backward,
    )


def _forward_with_residuals(x, kernel, window: Window):
    return _conv2d(x, kernel, window), (x, kernel)


def _backward_from_residuals(window: Window, residuals, grad):
    return _backward(*residuals, grad, window)


_conv2d.defvjp(_forward_with_residuals, _backward_from_residuals)
