"""2-D convolution for XLA's CPU backend: the same numbers as the native one, several times sooner.

XLA:CPU hands a plain dense convolution to Eigen, which is good. The rest runs in plain loops:
depthwise convolutions 10-40x slower than need be, gradients of grouped ones over 100x (1024@7: 4576
for 36), and so are gradients of dense ones inside a `lax.scan` (64@56: 12700 for 106). Here each of
them is a few operations that XLA:CPU does well: matrix products, slices, pads and sums.
`benchmarks/conv_cpu.py` measures the difference; the figures here, which made the choices, are the
best milliseconds on one core of a shared AVX-512 Xeon with jax 0.10.2, for a batch of 8, or of 64
where that is said.

Two ways to write a convolution as products and shifts:

* gather: slice the image once per kernel tap, multiply, sum (im2col, Chellapilla et al. 2006,
  https://hal.science/inria-00112631).
* scatter: multiply the image by every tap, shift each product to where it belongs, sum (col2im).
  It is the transpose of gather, and at stride 1 also a convolution, with the kernel flipped.

The file is longer than others: three cases, each in three directions, share what little they do.
"""

import functools
import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flaxzoo.layers.dtypes import widened
from flaxzoo.layers.fusion import divisor
from flaxzoo.layers.window import (
    Window,
    mirrored,
    num_taps,
    output_size,
    pad_image,
    shift_and_add,
    tap_offsets,
    tap_weights,
    taps_of,
)

# XLA:CPU fuses a sum of 9 shifted arrays into one loop, and no longer does so for 25: depthwise 3x3
# 144@56 takes 3.3 by scatter and 7.0 by gather, 5x5 240@28 takes 18.7 and 4.8.
MAX_SCATTER_TAPS = 9
# Positions per matrix product. A step over one large image keeps its columns in cache; small images
# share a step, since a short product wastes its setup: kernel gradient 512@7 from 46 to 29, 32
# groups 256@4 (batch 64) from 11 to 5.
DENSE_POSITIONS = 256
GROUPED_POSITIONS = 64
# Pixels of so few channels are too short to copy one by one: see `_kernel_grad_few_channels`.
FEW_CHANNELS = 4
DEPTHWISE_IMAGES = 16  # at most, in a step; XLA:CPU splits sums of more than 32 terms
# Positions in a batch up to which a dense kernel's gradient is best taken tap by tap, from all of
# them at once. 3x3 512@4 (batch 16, two cores of an AVX2 EPYC, as all figures for 16) takes 10.4 so
# and 13.8 by im2col, 256@14 33 and 35, 128@56 with stride 2 106 and 50.
TAP_POSITIONS = 3136


def native(x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw cg o"], window: Window):
    """XLA's own convolution: the definition of what every function here computes."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=window.groups,
    )


def forward(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw cg o"], window: Window
) -> Float[Array, "n ho wo o"]:
    """`native`, by the formulation that is fastest on a CPU for these shapes."""
    if _native_is_best(x, kernel, window) or not _known_and_not_empty(x, kernel, window):
        return native(x, kernel, window)
    dtype, x, kernel = x.dtype, widened(x), widened(kernel)
    gather, scatter = _gather_grouped, _scatter_grouped
    if _is_depthwise(x, window):
        gather, scatter = _gather_depthwise, _scatter_depthwise
        x = jnp.repeat(x, kernel.shape[3] // x.shape[3], axis=3)  # a channel per output
    if window.stride == (1, 1) and num_taps(kernel) <= MAX_SCATTER_TAPS:
        size = output_size(x, kernel, window)
        y = scatter(x, kernel[::-1, ::-1], mirrored(window, kernel), size)
    else:
        y = gather(x, kernel, window)
    return y.astype(dtype)


def backward(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw cg o"],
    grad: Float[Array, "n ho wo o"],
    window: Window,
) -> tuple[Float[Array, "n h w c"], Float[Array, "kh kw cg o"]]:
    """Gradients of `native` for the image and the kernel, given that of its output."""
    dtype, x, kernel, grad = x.dtype, *map(widened, (x, kernel, grad))
    if window.groups == 1:
        dx, dkernel = _backward_dense(x, kernel, grad, window)
    elif _is_depthwise(x, window):
        dx, dkernel = _backward_depthwise(x, kernel, grad, window)
    else:
        dx = _input_grad_grouped(grad, kernel, window, x.shape[1:3])
        dkernel = _kernel_grad_grouped(x, grad, kernel.shape, window)
    return dx.astype(dtype), dkernel.astype(dtype)


def has_fast_backward(x: Array, kernel: Array, window: Window) -> bool:
    """Whether `backward` knows these shapes: a batch of known size, and nothing empty."""
    return isinstance(x.shape[0], int) and _known_and_not_empty(x, kernel, window)


# --- which formulation ---------------------------------------------------------------------------


def _native_is_best(x, kernel, window: Window) -> bool:
    """A dense convolution with more than one tap, unless the kernel is larger than the image.

    Eigen is as fast as the matrix product where it is used at all (3x3 64@56: 29 against 72). XLA
    does not use it for a kernel larger than the image: 3x3 128@2 (batch 64) takes 15.7, as a
    matrix product 1.4. One tap is one matrix product: 1x1 256-64@56 with its gradients takes 161
    native, and so 41.
    """
    if window.groups > 1 or num_taps(kernel) == 1:
        return False
    sizes = zip(kernel.shape[:2], x.shape[1:3], strict=True)
    return all(not isinstance(size, int) or taps <= size for taps, size in sizes)


def _known_and_not_empty(x, kernel, window: Window) -> bool:
    """False sends to XLA: arrays with no elements, and images of symbolic size (`jax.export`)."""
    sizes = (*x.shape[1:], *kernel.shape)
    if not all(isinstance(size, int) for size in sizes) or 0 in sizes:
        return False
    batch_is_empty = isinstance(x.shape[0], int) and x.shape[0] == 0
    return not batch_is_empty and min(output_size(x, kernel, window)) > 0


def _is_depthwise(x, window: Window) -> bool:
    return window.groups == x.shape[3]


# --- depthwise: no product to speak of, so slices and sums of whole channels ----------------------


def _gather_depthwise(x, kernel, window: Window):
    """Shift-and-add: native 3x3 144@56 takes 153, this 7."""
    size = output_size(x, kernel, window)
    taps = taps_of(pad_image(x, window), tap_offsets(kernel.shape, window), size, window.stride)
    products = [tap * weight for tap, weight in zip(taps, tap_weights(kernel), strict=True)]
    return functools.reduce(jnp.add, products)


def _scatter_depthwise(x, kernel, window: Window, size: tuple[int, ...]):
    """Multiply-shift-and-add, with interior padding for the stride: half the time of gather."""
    offsets = tap_offsets(kernel.shape, window)
    products = [x * weight for weight in tap_weights(kernel)]
    return shift_and_add(products, offsets, window, size)


def _backward_depthwise(x, kernel, grad, window: Window):
    """Both gradients; a channel multiplier m is m kernels on copies of the channel."""
    *batch_and_size, channels = x.shape
    x = jnp.repeat(x, kernel.shape[3] // channels, axis=3)
    gather, scatter = _gather_depthwise, _scatter_depthwise
    dx = _input_grad(gather, scatter, grad, kernel, window, x.shape[1:3])
    dx = dx.reshape(*batch_and_size, channels, -1).sum(axis=4)
    return dx, _kernel_grad_depthwise(x, grad, kernel.shape, window)


def _kernel_grad_depthwise(x, grad, kernel_shape, window: Window):
    """One row of several images at a time, all taps while it is cached.

    Of what a tap sees times the gradient, the sum over images alone is taken in a step, which XLA
    fuses and spreads over the cores: 3x3 144@32 (batch 16) takes 4.9, with columns summed as well
    17.7. A row of one image at a time, 7x7 96@32: 35, so 11.
    """
    n, rows, columns, channels = grad.shape
    offsets, stride = tap_offsets(kernel_shape, window), window.stride
    x, images = pad_image(x, window), divisor(n, DEPTHWISE_IMAGES)
    band = (images, offsets[-1][0] + 1, x.shape[2], channels)

    def add_row(total, i):
        image, row = i // rows * images, i % rows
        seen = lax.dynamic_slice(x, (image, row * stride[0], 0, 0), band)
        grad_row = lax.dynamic_slice(grad, (image, row, 0, 0), (images, 1, columns, channels))
        taps = taps_of(seen, offsets, (1, columns), stride)
        return total + jnp.stack([(tap * grad_row).sum(axis=(0, 1)) for tap in taps]), None

    total = jnp.zeros((len(offsets), columns, channels), grad.dtype)
    total = lax.scan(add_row, total, jnp.arange(n // images * rows))[0]
    return total.sum(axis=1).reshape(kernel_shape)


# --- dense: matrix products with the kernel as it lies in memory ----------------------------------


def _backward_dense(x, kernel, grad, window: Window):
    """Both gradients of a convolution of one group."""
    taps, positions, size = num_taps(kernel), math.prod(grad.shape[:3]), x.shape[1:3]
    native = _native_is_best(x, kernel, window)
    # The native form flips and transposes the kernel first, which takes as long as the product
    # where positions are few: 3x3 512@4 (batch 16) 14.2, by scatter 8.4; 256@8 7.8 and 8.7.
    few = 2 * kernel.shape[3] >= positions
    if taps <= MAX_SCATTER_TAPS and (few or not native):
        dx = _scatter_dense(grad, kernel, window, size)
    elif native:
        dx = _input_grad_dense(grad, kernel, window, size)
    else:
        dx = _input_grad_grouped(grad, kernel, window, size)
    if taps > 1 and x.shape[3] <= FEW_CHANNELS:
        dkernel = _kernel_grad_few_channels(x, grad, kernel.shape, window)
    elif taps == 1 or (taps <= MAX_SCATTER_TAPS and positions <= TAP_POSITIONS):
        dkernel = _kernel_grad_by_tap(x, grad, kernel.shape, window)
    else:
        dkernel = _kernel_grad_grouped(x, grad, kernel.shape, window)
    return dx, dkernel


def _scatter_dense(grad, kernel, window: Window, size: tuple[int, ...]):
    """The gradient for the image: one product over the output channels, then the shifts."""
    products = jnp.einsum("nhwo,klio->nhwkli", grad, kernel)
    products = products.reshape(*grad.shape[:3], -1)
    pieces = jnp.split(products, num_taps(kernel), axis=-1)
    return shift_and_add(pieces, tap_offsets(kernel.shape, window), window, size)


def _kernel_grad_by_tap(x, grad, kernel_shape, window: Window):
    """A product for each tap, of which the narrower side comes first: that one is transposed.

    1x1 1024-256@8 (batch 16) takes 4.3 with the result transposed, 5.2 with the image; for the few
    positions of 2048-512@4 6.5 and 4.1.
    """
    channels, out = kernel_shape[2:]
    taps = taps_of(
        pad_image(x, window), tap_offsets(kernel_shape, window), grad.shape[1:3], window.stride
    )
    if out < channels and math.prod(grad.shape[:3]) >= channels:
        products = [jnp.einsum("nhwo,nhwi->oi", grad, tap).T for tap in taps]
    else:
        products = [jnp.einsum("nhwi,nhwo->io", tap, grad) for tap in taps]
    return jnp.stack(products).reshape(kernel_shape)


# --- grouped, and dense as one group: a batched matrix product ------------------------------------


def _gather_grouped(x, kernel, window: Window):
    """im2col: all taps side by side, one product per group."""
    kh, kw, cg, out = kernel.shape
    groups, size = window.groups, output_size(x, kernel, window)
    weights = kernel.reshape(kh * kw * cg, groups, out // groups).transpose(1, 0, 2)

    def images(x):
        columns = _columns(x, kernel.shape, window, size)
        return _from_groups(columns @ weights, (-1, *size))

    return _over_images(images, x, _images_per_step(x, size, kernel.shape, window))


def _scatter_grouped(x, kernel, window: Window, size: tuple[int, ...]):
    """col2im: one product per group with all taps at once, then the shifts.

    32 groups 128@56: 60, compiled in 0.3 s. By gather 220 and 0.8 s, an im2col of 4-channel pieces
    being mostly copying; native 208 to 284.
    """
    kh, kw, cg, out = kernel.shape
    groups, h, w = window.groups, *x.shape[1:3]
    offsets, width = tap_offsets(kernel.shape, window), out // groups
    weights = kernel.reshape(kh * kw, cg, groups, width).transpose(2, 1, 0, 3)
    weights = weights.reshape(groups, cg, -1)

    def images(x):
        products = (_to_groups(x, groups) @ weights).reshape(groups, -1, h, w, len(offsets) * width)
        pieces = jnp.split(products, len(offsets), axis=-1)
        y = shift_and_add(pieces, offsets, window, size)
        return _from_groups(y.reshape(groups, -1, width), (-1, *size))

    return _over_images(images, x, _images_per_step(x, (h, w), kernel.shape, window))


def _input_grad_grouped(grad, kernel, window: Window, size: tuple[int, ...]):
    swapped = _swap_channels(kernel, window.groups)
    return _input_grad(_gather_grouped, _scatter_grouped, grad, swapped, window, size)


def _kernel_grad_grouped(x, grad, kernel_shape, window: Window):
    """im2col of a few images at a time, summed by a scan.

    Dense 3x3 64@56 takes 99 native and 68 so; 32 groups 128@56 take 232 so, and seconds per image
    native. Output channels come first because that product is the faster: 68, the other 103.
    """
    kh, kw, cg, out = kernel_shape
    groups, size = window.groups, grad.shape[1:3]

    def images(x, grad):
        columns = _columns(x, kernel_shape, window, size)
        return jnp.einsum("gmo,gmk->gok", _to_groups(grad, groups), columns)

    step = _images_per_step(x, size, kernel_shape, window)
    total = jnp.zeros((groups, out // groups, kh * kw * cg), grad.dtype)
    if step == x.shape[0]:
        total = images(x, grad)
    else:
        steps = (_split(x, step), _split(grad, step))
        total = lax.scan(lambda total, step: (total + images(*step), None), total, steps)[0]
    return total.transpose(2, 0, 1).reshape(kernel_shape)


def _kernel_grad_few_channels(x, grad, kernel_shape, window: Window):
    """im2col of one image at a time, channels first: rows of pixels are copied, not pixels.

    The stem 7x7 s2 3-64@128 (batch 16) takes 62 of processor time so, 127 by the other.
    """
    offsets, size = tap_offsets(kernel_shape, window), grad.shape[1:3]
    x = pad_image(x, window).transpose(0, 3, 1, 2)

    def add_image(total, image_and_grad):
        image, grad = image_and_grad
        taps = taps_of(image[..., None], offsets, size, window.stride)
        columns = jnp.stack(taps).reshape(-1, math.prod(size))
        return total + columns @ grad.reshape(-1, grad.shape[-1]), None

    total = jnp.zeros((math.prod(kernel_shape[:3]), kernel_shape[3]), grad.dtype)
    return lax.scan(add_image, total, (x, grad))[0].reshape(kernel_shape)


def _columns(x, kernel_shape, window: Window, size: tuple[int, ...]):
    """Returns (groups, images * positions, taps * channels of a group)."""
    x, groups = pad_image(x, window), window.groups
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, groups, c // groups).transpose(3, 0, 1, 2, 4)
    taps = taps_of(x, tap_offsets(kernel_shape, window), size, window.stride)
    return jnp.concatenate(taps, axis=-1).reshape(groups, -1, len(taps) * c // groups)


def _to_groups(x, groups: int):
    """(n, h, w, groups * c) to (groups, n * h * w, c)."""
    return x.reshape(-1, groups, x.shape[-1] // groups).transpose(1, 0, 2)


def _from_groups(y, leading: tuple[int, ...]):
    """(groups, n * h * w, c) to (n, h, w, groups * c)."""
    return y.transpose(1, 0, 2).reshape(*leading, y.shape[0] * y.shape[2])


def _images_per_step(x, size: tuple[int, ...], kernel_shape, window: Window) -> int:
    """The smallest divisor of the batch that gives a product enough positions.

    All images for one tap: its columns are the image itself, so there is nothing to keep in cache.
    """
    n, positions = x.shape[0], math.prod(size)
    if not isinstance(n, int):
        return 1  # exported for any batch size
    if math.prod(kernel_shape[:2]) == 1 and window.groups == 1:
        return n
    enough = DENSE_POSITIONS if window.groups == 1 else GROUPED_POSITIONS
    return next(k for k in range(1, n + 1) if k == n or (n % k == 0 and k * positions >= enough))


def _over_images(function, x, step: int):
    """function(x), `step` images at a time."""
    if step == x.shape[0]:
        return function(x)
    y = lax.map(function, _split(x, step))
    return y.reshape(-1, *y.shape[2:])


def _split(x, step: int):
    return x.reshape(-1, step, *x.shape[1:])


# --- the gradient for the image ------------------------------------------------------------------


def _input_grad(gather, scatter, grad, swapped, window: Window, size: tuple[int, ...]):
    """Scatter is the transpose; with many taps, gather from the gradient with zeros in between."""
    if num_taps(swapped) <= MAX_SCATTER_TAPS:
        return scatter(grad, swapped, window, size)
    rows, columns = _input_grad_padding(grad, swapped, window, size)
    dilated = lax.pad(
        grad,
        jnp.zeros((), grad.dtype),
        ((0, 0, 0), (*rows, window.stride[0] - 1), (*columns, window.stride[1] - 1), (0, 0, 0)),
    )
    plain = window._replace(stride=(1, 1), padding=((0, 0), (0, 0)))
    return gather(dilated, swapped[::-1, ::-1], plain)


def _input_grad_dense(grad, kernel, window: Window, size: tuple[int, ...]):
    """The native gradient, written as a forward convolution with a flipped kernel.

    XLA:CPU runs its own form of it, with the flip in the convolution, as a plain loop inside a
    `lax.scan`: 3x3 64@56 takes 202 there, this 32.
    """
    return lax.conv_general_dilated(
        grad,
        _swap_channels(kernel, 1)[::-1, ::-1],
        window_strides=(1, 1),
        padding=_input_grad_padding(grad, kernel, window, size),
        lhs_dilation=window.stride,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _input_grad_padding(grad, kernel, window: Window, size: tuple[int, ...]):
    """Padding of the stride-dilated gradient that makes a stride-1 convolution give `size`."""
    reach = tap_offsets(kernel.shape, window)[-1]
    padding = []
    for axis in (0, 1):
        low = reach[axis] - window.padding[axis][0]
        dilated = (grad.shape[1 + axis] - 1) * window.stride[axis] + 1
        padding.append((low, size[axis] + reach[axis] - low - dilated))
    return padding


def _swap_channels(kernel, groups: int):
    """(kh, kw, i, groups * o) to (kh, kw, o, groups * i)."""
    kh, kw, cg, out = kernel.shape
    kernel = kernel.reshape(kh, kw, cg, groups, out // groups).transpose(0, 1, 4, 3, 2)
    return kernel.reshape(kh, kw, out // groups, groups * cg)
