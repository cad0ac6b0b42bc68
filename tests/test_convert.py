"""torch's names and layouts, both ways, and refusal of whatever does not fit exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxzoo import UserError, create_model, load_torch, to_torch
from flaxzoo.convert import torch_name
from flaxzoo.layers import Conv, Linear, initialise, named_variables, param
from flaxzoo.layers.init import Normal


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        ("layer1.0.conv1.kernel", "layer1.0.conv1.weight"),
        ("bn1.scale", "bn1.weight"),
        ("bn1.bias", "bn1.bias"),
        ("bn1.mean", "bn1.running_mean"),
        ("bn1.var", "bn1.running_var"),
        ("kernel", "weight"),
        ("class_token", "class_token"),
        ("attn.in_proj_weight", "attn.in_proj_weight"),
        ("scale.0.kernel", "scale.0.weight"),  # only the last part is renamed
    ],
)
def test_torch_name(ours, torchs):
    assert torch_name(ours) == torchs


def filled(layer: nnx.Module) -> nnx.Module:
    initialise(layer, seed=0)
    return layer


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv_kernels_are_transposed(groups):
    conv = filled(Conv(4, 8, (2, 3), groups=groups))
    weight = to_torch(conv)["weight"]
    assert weight.shape == (8, 4 // groups, 2, 3)
    np.testing.assert_array_equal(weight[5, 0], conv.kernel[..., 0, 5])


def test_linear_kernels_are_transposed():
    linear = filled(Linear(3, 4))
    np.testing.assert_array_equal(to_torch(linear)["weight"], linear.kernel[...].T)


class Bare(nnx.Module):
    def __init__(self):
        self.in_proj_weight = param((6, 2), Normal(1.0))
        self.layer_scale = param((3, 1, 1), Normal(1.0))


def test_bare_parameters_keep_name_and_shape():
    bare = filled(Bare())
    exported = to_torch(bare)
    assert exported.keys() == {"in_proj_weight", "layer_scale"}
    np.testing.assert_array_equal(exported["in_proj_weight"], bare.in_proj_weight[...])
    np.testing.assert_array_equal(exported["layer_scale"], bare.layer_scale[...])


def assert_equal(a: dict, b: dict):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].dtype == b[key].dtype, key
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize("abstract", [True, False])
@pytest.mark.parametrize("name", ["resnet_tiny", "resnext_tiny", "resnet20"])
def test_a_round_trip_keeps_every_bit(name, abstract):
    exported = to_torch(create_model(name, seed=0))
    other = create_model(name, seed=1, abstract=abstract)
    load_torch(other, exported)
    assert_equal(to_torch(other), exported)


def test_an_export_is_a_copy_to_write_on():
    model = create_model("resnet_tiny")
    before = to_torch(model)
    for value in to_torch(model).values():
        assert value.flags.c_contiguous
        value[...] = 0
    assert_equal(to_torch(model), before)


def test_an_abstract_model_exports_shapes_and_dtypes():
    shapes = to_torch(create_model("resnet_tiny", abstract=True))
    arrays = to_torch(create_model("resnet_tiny"))
    assert all(isinstance(value, jax.ShapeDtypeStruct) for value in shapes.values())
    assert {k: (v.shape, v.dtype) for k, v in shapes.items()} == {
        k: (v.shape, v.dtype) for k, v in arrays.items()
    }


# --------------------------------------------------------------------------- what torch has besides


def test_counters_are_made_on_the_way_out():
    exported = to_torch(create_model("resnet_tiny"))
    counters = {k: v for k, v in exported.items() if k.endswith("num_batches_tracked")}
    norms = {k.removesuffix(".running_var") for k in exported if k.endswith("running_var")}
    assert {k.removesuffix(".num_batches_tracked") for k in counters} == norms
    assert all(v == 0 and v.shape == () and v.dtype == np.int64 for v in counters.values())


@pytest.mark.parametrize("count", [None, 7])
def test_counters_are_dropped_on_the_way_in(count):
    exported = to_torch(create_model("resnet_tiny"))
    counters = [key for key in exported if key.endswith("num_batches_tracked")]
    given = {key: value for key, value in exported.items() if key not in counters}
    if count is not None:
        given |= {key: np.array(count) for key in counters}
    model = create_model("resnet_tiny", seed=1)
    load_torch(model, given)
    assert_equal(to_torch(model), exported)


@pytest.mark.parametrize("stored", ["float16", "float64", "bfloat16"])
@pytest.mark.parametrize("kept", ["float32", "bfloat16"])
def test_a_model_keeps_its_dtype(stored, kept):
    exported = to_torch(create_model("resnet_tiny"))
    given = {
        key: value.astype(jnp.dtype(stored)) if value.dtype == np.float32 else value
        for key, value in exported.items()
    }
    model = create_model("resnet_tiny", seed=1, param_dtype=kept)
    before = {name: variable.dtype for name, variable in named_variables(model).items()}
    load_torch(model, given)
    assert {name: variable.dtype for name, variable in named_variables(model).items()} == before
    expected = given["fc.bias"].astype(before["fc.bias"])
    np.testing.assert_array_equal(model.fc.bias[...], expected)


@pytest.mark.parametrize("abstract", [True, False])
def test_bfloat16_is_exported_as_float32_which_numpy_and_torch_share(abstract):
    model = create_model("resnet_tiny", param_dtype="bfloat16", abstract=abstract)
    dtypes = {str(value.dtype) for value in to_torch(model).values()}
    assert dtypes == {"float32", "int64"}


# ----------------------------------------------------------------------------------------- refusals


def without(*keys):
    return lambda sd: {k: v for k, v in sd.items() if k not in keys}


def with_value(key, make):
    return lambda sd: sd | {key: make(sd)}


REFUSED = {
    "deleted": (
        without("layer1.0.conv1.weight"),
        r"not those of this ResNet: 1 missing: layer1\.0\.conv1\.weight$",
    ),
    "statistic deleted": (without("bn1.running_var"), r"1 missing: bn1\.running_var$"),
    "added": (with_value("extra.weight", lambda _: np.ones(3)), r"1 unexpected: extra\.weight$"),
    "renamed": (
        lambda sd: {k.replace("fc.", "head."): v for k, v in sd.items()},
        r"2 missing: fc\.bias, fc\.weight; 2 unexpected: head\.bias, head\.weight$",
    ),
    "other shape": (
        with_value("fc.bias", lambda _: np.ones(3)),
        r"1 of another shape: fc\.bias is \(3,\), not \(10,\)$",
    ),
    "one value for many": (
        with_value("fc.bias", lambda _: np.ones(1)),
        r"fc\.bias is \(1,\), not \(10,\)$",
    ),
    "transposed": (
        with_value("fc.weight", lambda sd: sd["fc.weight"].T),
        r"fc\.weight is \(32, 10\), not \(10, 32\)$",
    ),
    "in our own layout": (
        with_value("conv1.weight", lambda sd: sd["conv1.weight"].transpose(2, 3, 1, 0)),
        r"conv1\.weight is \(3, 3, 3, 16\), not \(16, 3, 3, 3\)$",
    ),
    "swapped": (
        lambda sd: sd | {"bn1.bias": sd["fc.bias"], "fc.bias": sd["bn1.bias"]},
        r"2 of another shape: bn1\.bias is \(10,\), not \(16,\), fc\.bias is \(16,\), not",
    ),
    "flat": (
        with_value("fc.weight", lambda sd: sd["fc.weight"].ravel()),
        r"fc\.weight is \(320,\), not \(10, 32\)$",
    ),
    "empty": (lambda _: {}, r"\d+ missing: bn1\.bias, .*, \.\.\. and \d+ more$"),
    "counter of a layer that does not exist": (
        with_value("ghost.num_batches_tracked", lambda _: np.array(7)),
        r"1 unexpected: ghost\.num_batches_tracked$",
    ),
    "counter of a convolution": (
        with_value("conv1.num_batches_tracked", lambda _: np.array(7)),
        r"1 unexpected: conv1\.num_batches_tracked$",
    ),
    "integers": (
        with_value("fc.bias", lambda _: np.ones(10, np.int8)),
        r"1 not of floating point: fc\.bias is int8$",
    ),
    "text": (with_value("fc.bias", lambda _: "x"), r"floating point: fc\.bias is str$"),
    "list": (with_value("fc.bias", lambda _: [[1.0], []]), r"floating point: fc\.bias is list$"),
    "shapes": (
        with_value("fc.bias", lambda _: jax.ShapeDtypeStruct((10,), np.float32)),
        r"floating point: fc\.bias is ShapeDtypeStruct$",
    ),
    "no state_dict": (lambda _: None, r"state_dict or as the path of a file .*; got a NoneType"),
    "numbered": (lambda sd: sd | {1: np.ones(3)}, r"a state_dict has names for keys; got 1\.$"),
    "of another model": (
        lambda _: to_torch(create_model("resnet20")),
        r"missing: .*; \d+ unexpected: .*, \.\.\. and \d+ more",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_do_not_fit_are_refused_by_name_and_change_nothing(case):
    change, message = REFUSED[case]
    model = create_model("resnet_tiny", seed=1)
    before = to_torch(model)
    with pytest.raises(UserError, match=message):
        load_torch(model, change(to_torch(create_model("resnet_tiny"))))
    assert_equal(to_torch(model), before)


def test_the_source_is_named():
    with pytest.raises(UserError, match=r"the weights in the best run are not those"):
        load_torch(create_model("resnet_tiny"), {}, source_name="the best run")
