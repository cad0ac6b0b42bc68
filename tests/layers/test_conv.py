"""conv2d equals XLA's convolution, in value and gradients, however it is called; on accelerators it
is that convolution."""

from functools import cache, partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from flaxzoo.layers import conv_cpu
from flaxzoo.layers.conv import conv2d

# The numbers are the same, and most of this file's time is LLVM's.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SAME3 = ((1, 1), (1, 1))
NONE = ((0, 0), (0, 0))

# name: image (n, h, w, c), kernel (kh, kw, c_out), stride, padding, dilation, groups
CASES = {
    "dense": ((3, 9, 8, 6), (3, 3, 4), (1, 1), SAME3, (1, 1), 1),
    "dense, stride 2": ((2, 9, 8, 6), (3, 3, 4), (2, 2), SAME3, (1, 1), 1),
    "dense, dilated": ((2, 9, 8, 6), (3, 3, 4), (1, 1), ((2, 2), (2, 2)), (2, 2), 1),
    "dense, dilated, uneven strides": (
        (2, 9, 8, 3),
        (3, 2, 4),
        (2, 3),
        ((0, 2), (1, 0)),
        (2, 1),
        1,
    ),
    "7x7 stem, images in turn": ((3, 33, 34, 3), (7, 7, 4), (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    "kernel larger than the image": ((3, 2, 2, 4), (3, 3, 4), (1, 1), SAME3, (1, 1), 1),
    "kernel as large as the image": ((3, 4, 4, 4), (4, 4, 4), (1, 1), NONE, (1, 1), 1),
    "padding beyond the kernel": ((2, 3, 3, 4), (3, 3, 4), (1, 1), ((4, 3), (5, 4)), (1, 1), 1),
    "unused last rows": ((2, 9, 11, 4), (3, 2, 4), (4, 3), NONE, (1, 1), 1),
    "1x1": ((3, 5, 4, 6), (1, 1, 4), (1, 1), NONE, (1, 1), 1),
    "1x1, stride 2": ((3, 5, 4, 6), (1, 1, 4), (2, 2), NONE, (1, 1), 1),
    "1x1, padded": ((3, 5, 4, 6), (1, 1, 4), (2, 1), ((1, 0), (0, 2)), (1, 1), 1),
    "grouped": ((4, 6, 5, 8), (3, 3, 12), (1, 1), SAME3, (1, 1), 4),
    "grouped, images in turn": ((3, 12, 11, 8), (3, 3, 8), (1, 1), SAME3, (1, 1), 4),
    "grouped, stride 2": ((4, 6, 7, 8), (3, 3, 12), (2, 2), SAME3, (1, 1), 4),
    "grouped, dilated": ((2, 8, 9, 8), (3, 3, 8), (2, 1), ((2, 1), (2, 2)), (2, 2), 2),
    "grouped, 5x5, stride 2": ((2, 8, 9, 8), (5, 5, 4), (2, 2), ((2, 2), (2, 1)), (1, 1), 2),
    "grouped, padding beyond the kernel": (
        (2, 3, 3, 4),
        (3, 3, 4),
        (1, 1),
        ((4, 3), (5, 4)),
        (1, 1),
        2,
    ),
    "grouped, 1x1": ((3, 5, 4, 6), (1, 1, 4), (1, 1), NONE, (1, 1), 2),
    "depthwise": ((3, 6, 5, 8), (3, 3, 8), (1, 1), SAME3, (1, 1), 8),
    "depthwise, stride 2": ((3, 6, 5, 8), (3, 3, 8), (2, 2), ((0, 1), (1, 1)), (1, 1), 8),
    "depthwise, dilated": ((2, 8, 9, 4), (3, 3, 4), (1, 1), ((2, 2), (2, 2)), (2, 2), 4),
    "depthwise, 5x5, stride 2": ((2, 8, 9, 4), (5, 5, 4), (2, 2), ((2, 2), (2, 1)), (1, 1), 4),
    "depthwise, 7x7": ((2, 8, 9, 4), (7, 7, 4), (1, 1), ((3, 3), (3, 3)), (1, 1), 4),
    "depthwise, 7x7 on 2x2": ((2, 2, 2, 4), (7, 7, 4), (1, 1), ((3, 3), (3, 3)), (1, 1), 4),
    "depthwise, multiplier 2": ((2, 6, 5, 3), (3, 3, 6), (2, 1), SAME3, (1, 1), 3),
    "depthwise, padding beyond the kernel": (
        (2, 3, 3, 4),
        (3, 3, 4),
        (1, 1),
        ((4, 3), (5, 4)),
        (1, 1),
        4,
    ),
    "no images": ((0, 5, 5, 4), (3, 3, 4), (1, 1), SAME3, (1, 1), 2),
    "no output": ((2, 2, 2, 4), (3, 3, 4), (1, 1), NONE, (1, 1), 4),
}
# One of each formulation, for the tests of how conv2d is called.
FORMULATIONS = [
    "dense",
    "7x7 stem, images in turn",
    "grouped, images in turn",
    "grouped, stride 2",
    "depthwise, stride 2",
]


def convolution(name: str):
    """conv2d as a function of image and kernel."""
    _, _, stride, padding, dilation, groups = CASES[name]
    return partial(conv2d, stride=stride, padding=padding, dilation=dilation, groups=groups)


def value_and_gradients(conv, x, kernel, grad):
    y, pullback = jax.vjp(conv, x, kernel)
    return y, *pullback(grad)


@cache
def native(name: str):
    """The same convolution by XLA: value and gradients as a compiled function."""
    _, _, stride, padding, dilation, groups = CASES[name]
    conv = partial(
        lax.conv_general_dilated,
        window_strides=stride,
        padding=padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return jit(partial(value_and_gradients, conv))


def noise(name: str, dtype=jnp.float64):
    """Image, kernel and gradient of the output."""
    image, (*taps, c_out), stride, padding, dilation, groups = CASES[name]
    extent = [
        size + sum(pad) - (k - 1) * step - 1
        for size, pad, k, step in zip(image[1:3], padding, taps, dilation, strict=True)
    ]
    size = [max(e // s + 1, 0) for e, s in zip(extent, stride, strict=True)]
    shapes = image, (*taps, image[3] // groups, c_out), (image[0], *size, c_out)
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def assert_equal(got, expected, tolerance=1e-12):
    """Up to `tolerance` of the largest value of each array."""
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        largest = np.abs(other).max(initial=0)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * largest)


def assert_equal_on_scaled_copies(function, name: str):
    """`function` gets all arrays once and doubled: a convolution is linear in both its inputs."""
    got = jit(function)(*(jnp.stack([a, 2 * a]) for a in noise(name)))
    assert_equal(got, [jnp.stack([a, 4 * a]) for a in native(name)(*noise(name))])


@pytest.mark.parametrize("name", CASES)
def test_equals_the_native_convolution_and_its_gradients(name):
    got = jit(partial(value_and_gradients, convolution(name)))(*noise(name))
    assert_equal(got, native(name)(*noise(name)))


@pytest.mark.parametrize("name", FORMULATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 2**-7)])
def test_keeps_the_dtype_and_its_precision(name, dtype, tolerance):
    arrays = noise(name, dtype)
    got = jit(partial(value_and_gradients, convolution(name)))(*arrays)
    exact = native(name)(*(a.astype(jnp.float64) for a in arrays))
    assert_equal(got, [a.astype(dtype) for a in exact], tolerance)


@pytest.mark.parametrize("name", FORMULATIONS)
def test_under_vmap(name):
    function = jax.vmap(partial(value_and_gradients, convolution(name)))
    assert_equal_on_scaled_copies(function, name)


@pytest.mark.parametrize("name", FORMULATIONS)
def test_inside_scan(name):
    def step(carry, arrays):
        return carry, value_and_gradients(convolution(name), *arrays)

    assert_equal_on_scaled_copies(lambda *arrays: lax.scan(step, 0, arrays)[1], name)


@pytest.mark.parametrize("name", FORMULATIONS)
def test_under_checkpoint(name):
    function = partial(value_and_gradients, jax.checkpoint(convolution(name)))
    assert_equal(jit(function)(*noise(name)), native(name)(*noise(name)))


@pytest.mark.parametrize("name", FORMULATIONS)
def test_under_pmap(name):
    got = jax.pmap(partial(value_and_gradients, convolution(name)))(*(a[None] for a in noise(name)))
    assert_equal([a[0] for a in got], native(name)(*noise(name)))


SHARDED = "grouped, images in turn"


def mesh(axis_type):
    return jax.make_mesh((1,), ("data",), axis_types=(axis_type,))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_with_a_batch_sharded_over_a_mesh(axis_type):
    sharded, whole = (NamedSharding(mesh(axis_type), spec) for spec in (P("data"), P()))
    arrays = jax.device_put(noise(SHARDED), [sharded, whole, sharded])
    got = jit(partial(value_and_gradients, convolution(SHARDED)))(*arrays)
    assert_equal(got, native(SHARDED)(*noise(SHARDED)))


@pytest.mark.parametrize("check_vma", [False, True])
def test_under_shard_map(check_vma):
    sharded = jax.shard_map(
        partial(value_and_gradients, convolution(SHARDED)),
        mesh=mesh(AxisType.Auto),
        in_specs=(P("data"), P(), P("data")),
        out_specs=(P("data"), P("data"), P()),
        check_vma=check_vma,
    )
    assert_equal(jit(sharded)(*noise(SHARDED)), native(SHARDED)(*noise(SHARDED)))


@pytest.mark.parametrize("name", FORMULATIONS)
def test_exports_for_any_batch_size(name):
    x, kernel, _ = noise(name)
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    exported = jax.export.export(jax.jit(convolution(name)))(images, kernel)
    assert_equal([exported.call(x, kernel)], native(name)(*noise(name))[:1])


@pytest.mark.parametrize("name", FORMULATIONS)
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_on_accelerators_is_the_native_convolution_only(name, platform):
    function = jit(partial(value_and_gradients, convolution(name)))
    text = function.trace(*noise(name)).lower(lowering_platforms=(platform,)).as_text()
    found = [text.count(f"stablehlo.{op}") for op in ("convolution", "while", "dot_general")]
    assert found == [3, 0, 0]


def test_a_repeated_convolution_is_traced_once(monkeypatch):
    traces = []
    monkeypatch.setattr(conv_cpu, "forward", lambda x, *_, **__: traces.append(x) or x)
    x, kernel = jnp.ones((1, 6, 6, 13)), jnp.ones((3, 3, 1, 13))  # shapes of no other test
    conv = partial(conv2d, stride=(1, 1), padding=SAME3, groups=13)
    jax.eval_shape(lambda x: conv(conv(x, kernel), kernel), x)
    assert len(traces) == 1


def test_wrong_channels_are_named_in_the_error():
    with pytest.raises(ValueError, match=r"images \(1, 4, 4, 6\).*kernel \(3, 3, 6, 8\).*2 groups"):
        conv2d(
            jnp.ones((1, 4, 4, 6)), jnp.ones((3, 3, 6, 8)), stride=(1, 1), padding=SAME3, groups=2
        )
