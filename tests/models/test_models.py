"""What every variant promises: shapes for all of them, numbers for the small ones."""

import functools
import hashlib
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxzoo import UserError, create_model, list_models, load_torch, to_torch
from flaxzoo.layers import Linear, global_avg_pool, initialise, named_variables
from flaxzoo.models.base import Classifier
from flaxzoo.training.state import split_model

EVERY = list_models()
TINY = list_models("*_tiny")
_NAMES = json.loads((Path(__file__).parent / "published_names.json").read_text())
PUBLISHED = _NAMES["torchvision"] | _NAMES["timm"]


def call_parts(model, images):
    """Everything that a classifier returns, but for the logits of a direct call."""
    features = model.features(images)
    maps = list(features.values())  # in order: what jit returns as a dict comes back sorted
    return {
        "features": features,
        "maps": maps,
        "logits": model.forward_head(maps[-1]),
        "pre_logits": model.forward_head(maps[-1], pre_logits=True),
    }


# ------------------------------------------------------------------ every variant, without a value


@functools.cache
def shapes(name: str):
    """What `name` returns for two 32x32 images, computing in bfloat16, as shapes and dtypes."""
    model = create_model(name, abstract=True, dtype="bfloat16")
    model.eval()
    model_def, params, stats = split_model(model)
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    out = jax.eval_shape(lambda p, s, x: call_parts(model_def.bind(p, s), x), params, stats, images)
    return model, out


@pytest.mark.parametrize("name", EVERY)
def test_features_shrink_towards_the_head(name):
    model, out = shapes(name)
    maps = out["maps"]
    assert all(x.ndim == 4 and x.shape[0] == 2 for x in maps)
    heights = [x.shape[1] for x in maps]
    assert heights == sorted(heights, reverse=True)
    assert out["logits"].shape == (2, model.num_classes)
    assert out["pre_logits"].shape == (2, maps[-1].shape[-1])


@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_computes_in_bfloat16_and_keeps_variables_in_float32(name):
    model, out = shapes(name)
    assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype("bfloat16")}
    assert {v.dtype for v in named_variables(model).values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", {"relu": (16, 64), "layer1": (8, 64), "layer2": (4, 128),
                      "layer3": (2, 256), "layer4": (1, 512)}),
        ("resnext50_32x4d", {"relu": (16, 64), "layer1": (8, 256), "layer2": (4, 512),
                             "layer3": (2, 1024), "layer4": (1, 2048)}),
        ("resnext29_8x64d", {"relu": (32, 64), "layer1": (32, 256), "layer2": (16, 512),
                             "layer3": (8, 1024)}),
        ("resnet20", {"relu": (32, 16), "layer1": (32, 16), "layer2": (16, 32),
                      "layer3": (8, 64)}),
    ],
)  # fmt: skip
def test_features_of_32_pixels(name, stages):
    _, out = shapes(name)
    got = {stage: (x.shape[1], x.shape[3]) for stage, x in out["features"].items()}
    assert got == stages


@pytest.mark.parametrize("name", TINY)
def test_float32_stays_float32_where_float64_is_on(name, x64):
    model_def, params, stats = split_model(create_model(name, abstract=True))

    def loss(params, stats, images):
        model = model_def.bind(params, stats)
        return jnp.sum(model(images)), model_def.batch_stats_of(model)

    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    program = jax.make_jaxpr(jax.grad(loss, has_aux=True))(params, stats, images)
    assert "f64" not in str(program)


def parameter_count(name: str) -> int:
    variables = named_variables(create_model(name, abstract=True), nnx.Param)
    return sum(v.size for v in variables.values())


PARAMETERS = {  # torchvision's table of weights
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_has_as_many_parameters_as_torchvision_says(name):
    assert parameter_count(name) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "millions"),
    [  # He et al. 2015, table 6; Xie et al. 2016, table 7
        ("resnet20", "0.27"),
        ("resnet32", "0.46"),
        ("resnet44", "0.66"),
        ("resnet56", "0.85"),
        ("resnet110", "1.7"),
        ("resnext29_8x64d", "34.4"),
    ],
)
def test_has_as_many_parameters_as_the_paper_says(name, millions):
    digits = len(millions.partition(".")[2])
    assert f"{parameter_count(name) / 1e6:.{digits}f}" == millions


@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() & set(EVERY)))
def test_names_and_shapes_are_the_published_ones(name):
    state_dict = to_torch(create_model(name, abstract=True))
    lines = sorted(f"{key} {'x'.join(map(str, v.shape))}" for key, v in state_dict.items())
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    count, expected = PUBLISHED[name]
    assert (len(lines), digest) == (count, expected), (
        f"{name} has {len(lines)} names, the published one {count}, or a name or shape differs. "
        f"List ours with flaxzoo.to_torch(flaxzoo.create_model({name!r}, abstract=True)), theirs "
        "with the state_dict() of torchvision's or timm's model."
    )


# ---------------------------------------------------------------------- small variants, in numbers


@functools.cache
def small(name: str, dtype: str = "float32"):
    """A small model, its parameters and running statistics, and images."""
    model_def, params, stats = split_model(create_model(name, dtype=dtype))
    images = np.random.default_rng(0).normal(size=(4, 12, 9, 3)).astype(np.float32)
    return model_def, params, stats, images


@functools.cache
def evaluation(name: str, dtype: str):
    """Returns a jitted evaluation, and a list that grows by one with each compilation."""
    model_def, traces = small(name, dtype)[0], []

    @jax.jit
    def run(params, stats, images):
        traces.append(1)
        model = model_def.bind(params, stats)
        model.eval()
        out = call_parts(model, images)
        out["called"], out["last"] = model(images), model.forward_features(images)
        return out, model_def.batch_stats_of(model)

    return run, traces


def evaluate(name: str, images=None, dtype: str = "float32"):
    _, params, stats, default = small(name, dtype)
    run, _ = evaluation(name, dtype)
    return run(params, stats, default if images is None else images)


@pytest.mark.parametrize("name", TINY)
def test_a_call_is_the_head_of_the_last_features(name):
    out, _ = evaluate(name)
    np.testing.assert_array_equal(out["logits"], out["called"])
    np.testing.assert_array_equal(out["last"], out["maps"][-1])
    assert np.isfinite(out["logits"]).all()


@pytest.mark.parametrize("name", TINY)
def test_a_second_call_does_not_compile_again(name):
    _, _, _, images = small(name)
    first, second = (evaluate(name, x)[0]["logits"] for x in (images, 2 * images))
    assert (np.asarray(first) != np.asarray(second)).all()
    assert len(evaluation(name, "float32")[1]) == 1


@pytest.mark.parametrize("name", TINY)
def test_in_evaluation_an_image_does_not_see_its_neighbours(name):
    _, _, _, images = small(name)
    alone = images * np.array([1, 0, 5, -1], np.float32)[:, None, None, None]
    a, b = (evaluate(name, x)[0]["logits"][0] for x in (images, alone))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(a).max())


@pytest.mark.parametrize("name", TINY)
def test_evaluation_leaves_the_running_statistics(name):
    _, _, before, _ = small(name)
    _, after = evaluate(name)
    assert [k for k in before if not np.array_equal(before[k], after[k])] == []


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_is_close_to_float32(name):
    a, b = (
        np.asarray(evaluate(name, dtype=dtype)[0]["logits"], np.float32)
        for dtype in ("float32", "bfloat16")
    )
    # bfloat16 rounds by 2e-3; about ten layers add up to less than ten times that.
    assert np.linalg.norm(a - b) < 2e-2 * np.linalg.norm(a)


@functools.cache
def trained(name: str):
    """Returns the gradients of one training pass and the running statistics after it."""
    model_def, params, stats, images = small(name)

    @jax.jit
    def run(params, stats, images):
        def loss(params):
            model = model_def.bind(params, stats)
            model.train()
            weights = jnp.arange(1.0, 1 + model.num_classes)
            return jnp.mean(model(images) @ weights), model_def.batch_stats_of(model)

        return jax.grad(loss, has_aux=True)(params)

    return run(params, stats, images)


@pytest.mark.parametrize("name", TINY)
def test_the_gradient_reaches_every_parameter(name):
    gradients, _ = trained(name)
    assert [k for k, g in gradients.items() if not (np.isfinite(g).all() and np.any(g))] == []


@pytest.mark.parametrize("name", TINY)
def test_training_moves_every_running_statistic(name):
    _, after = trained(name)
    before = small(name)[2]
    assert [k for k in before if np.array_equal(before[k], after[k])] == []


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet5"}, r"unknown model 'resnet5'; did you mean .*'resnet50'"),
        ({"name": "ResNet-18"}, r"unknown model 'ResNet-18'"),
        ({"stm": "cifar"}, r"unknown option of resnet18 'stm'; did you mean 'stem'"),
        ({"depths": (1, 1)}, r"unknown option of resnet18 'depths'"),
        ({"stem": "cifr"}, r"unknown stem 'cifr'; did you mean 'cifar'\? known: cifar, imagenet"),
        ({"num_classes": 0}, r"num_classes must be an integer of at least 1; got 0\.$"),
        ({"num_classes": 10.5}, r"num_classes .*; got 10\.5\.$"),
        ({"num_classes": True}, r"num_classes .*; got True\.$"),
        ({"num_classes": "10"}, r"num_classes .*; got '10'\.$"),
        ({"in_channels": 0}, r"in_channels must be an integer of at least 1; got 0\.$"),
        ({"in_channels": 3.0}, r"in_channels .*; got 3\.0\.$"),
        ({"seed": -1}, r"seed must be an integer of at least 0; got -1\.$"),
        ({"seed": 1.5}, r"seed .*; got 1\.5\.$"),
        ({"planes": 0}, r"planes must be an integer of at least 1; got 0\.$"),
        ({"planes": -4}, r"planes .*; got -4\.$"),
        ({"name": "resnext18", "planes": 8}, r"planes must make 32 groups .*; got 8\.$"),
        ({"name": "resnext18", "planes": 40}, r"planes must make 32 groups .*; got 40\.$"),
        ({"name": "resnext50_32x4d", "planes": 8}, r"planes must make 32 groups .*; got 8\.$"),
        ({"dtype": "int8"}, r"one of float16, bfloat16, float32, float64; got int8"),
        ({"dtype": "float8_e4m3fn"}, r"one of .*; got float8_e4m3fn"),
        ({"param_dtype": "flot32"}, r"one of .*; got 'flot32'"),
        ({"dtype": "float64"}, r"float64 needs .*jax_enable_x64"),
        ({"name": 18}, r"named by a string, one of list_models\(\); got 18"),
        ({"name": ["resnet18"]}, r"named by a string, .* got \['resnet18'\]"),
        ({"pretrained": True}, r"the path of a file of weights; got True"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        create_model(**{"name": "resnet18", "abstract": True} | arguments)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 1)), "made for 3 channels; got images of shape (2, 8, 8, 1)"),
        (np.zeros((2, 3, 8, 8)), "shape (2, 3, 8, 8) (channels come last)"),
        (np.zeros((8, 8, 3)), "images of shape (n, h, w, c); got (8, 8, 3)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "floating-point images; got uint8: divide by 255"),
        (np.zeros((2, 0, 8, 3)), "1x1 pixels or more; got 0x8"),
    ],
    ids=["channels", "channels first", "rank", "integers", "empty"],
)
def test_images_that_do_not_fit_are_refused(images, message):
    with pytest.raises(UserError, match=re.escape(message)):
        create_model("resnet_tiny", abstract=True)(images)


def test_a_model_without_values_says_so():
    images = np.zeros((2, 8, 8, 3), np.float32)
    model = create_model("resnet_tiny", abstract=True)
    with pytest.raises(UserError, match=r"this ResNet has no values yet: fill it with load_torch"):
        model(images)
    load_torch(model, to_torch(create_model("resnet_tiny")))
    assert model(images).shape == (2, 10)


class AtLeastFour(Classifier):
    min_size = 4

    def __init__(self):
        super().__init__(in_channels=1, num_classes=2)
        self.fc = Linear(1, 2)

    def stages(self, x):
        yield "all", x

    def forward_head(self, x, pre_logits=False):
        return self.fc(global_avg_pool(x))


@pytest.mark.parametrize("shape", [(1, 3, 4, 1), (1, 4, 3, 1)])
def test_images_below_the_smallest_size_are_refused(shape):
    with pytest.raises(UserError, match=rf"AtLeastFour .* 4x4 .* got {shape[1]}x{shape[2]}"):
        AtLeastFour()(np.zeros(shape, np.float32))


def test_images_of_the_smallest_size_are_taken():
    model = AtLeastFour()
    initialise(model, seed=0)
    assert model(np.zeros((1, 4, 4, 1), np.float32)).shape == (1, 2)
