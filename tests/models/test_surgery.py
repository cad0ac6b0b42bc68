"""Features by stage, new heads and embeddings: on shapes, and in numbers on a few small models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo import UserError, create_model, load_torch, to_torch
from flaxzoo.layers import named_variables
from flaxzoo.layers.module import value_of
from flaxzoo.models.surgery import FeatureInfo
from flaxzoo.training.state import split_model
from tests.models.zoo import EVERY, SMALL, each, noise, shapes, smallest


def sizes(model) -> dict[str, tuple[int, ...]]:
    return {name: v.shape for name, v in named_variables(model).items()}


def in_heads(model, name: str) -> bool:
    return name.startswith(tuple(f"{head}." for head in model.head_names))


# Every kind of stage: padded or not, maps or tokens, of any size or made for one.
KINDS = [
    "resnet_tiny", "convnet_bn", "test_alexnet", "test_darknet19", "test_gmlp", "test_lenet",
    "test_maxvit", "test_mlp_mixer", "test_nin", "test_resnet_v2", "test_squeezenet", "test_swin",
    "test_vit", "test_xception",
]  # fmt: skip


@pytest.mark.parametrize("name", each(KINDS))
def test_channels_and_strides_are_those_of_the_maps(name):
    model, out = shapes(name)
    height, width = model.image_size or (max(model.min_size, 32),) * 2
    info = model.feature_info()
    assert [(i.name, i.channels, i.layout) for i in info] == [
        (stage, x.shape[-1], "nhwc" if x.ndim == 4 else "nlc")
        for stage, x in zip([i.name for i in info], out["maps"], strict=True)
    ]
    assert {i.name for i in info} == out["features"].keys()
    strides = [i.stride for i in info]
    assert strides == sorted(strides)
    for stage, x in zip(info, out["maps"], strict=True):
        if x.ndim == 4:  # unpadded convolutions make maps smaller than the stride does
            assert x.shape[1] <= -(-height // stage.stride)
        else:
            assert x.shape[1] - height * width // stage.stride**2 in (0, 1)  # a class token


@pytest.mark.parametrize(
    ("name", "strides", "channels"),
    [
        ("resnet18", [2, 4, 8, 16, 32], [64, 64, 128, 256, 512]),
        ("inception_v3", [2, 4, 8, 16, 32], [64, 192, 288, 768, 2048]),  # 299 pixels become 8
        ("lenet5_bn", [1, 2, 2, 4], [6, 6, 16, 16]),  # made for one size, without padding
        ("vit_b_16", [16] * 6, [768] * 6),
    ],
)
def test_published_strides(name, strides, channels):
    info = create_model(name, abstract=True).feature_info()
    assert [i.stride for i in info] == strides
    assert [i.channels for i in info] == channels


@pytest.mark.parametrize("name", each(EVERY))
def test_the_embedding_is_what_enters_the_head(name):
    model, out = shapes(name)
    (kernel,) = (
        v for n, v in named_variables(model).items() if n == f"{model.head_names[0]}.kernel"
    )
    assert out["pre_logits"].shape == (2, kernel.shape[-2])


@pytest.mark.parametrize("name", each(SMALL))  # a head is its class's, whatever the variant
def test_a_new_head_changes_the_classes_and_nothing_else(name):
    model, _ = shapes(name)
    classes, before = model.num_classes, sizes(model)
    try:
        model.reset_classifier(7)
        assert sizes(model) == {
            n: (*shape[:-1], 7) if in_heads(model, n) else shape for n, shape in before.items()
        }
        model.reset_classifier(0)
        assert sizes(model) == {n: s for n, s in before.items() if not in_heads(model, n)}
        assert model.num_classes == 0
    finally:
        model.reset_classifier(classes)
    assert sizes(model) == before
    assert model.abstract


@pytest.mark.parametrize("name", ["resnet_tiny", "test_vgg", "test_googlenet", "test_vit"])
def test_new_heads_begin_as_those_of_a_new_model(name):
    model = create_model(name, param_dtype="bfloat16")
    before = {n: value_of(v) for n, v in named_variables(model).items()}
    model.reset_classifier(0)
    model.reset_classifier(5, seed=3)
    fresh = create_model(name, param_dtype="bfloat16", num_classes=5, seed=3)
    for n, variable in named_variables(model).items():
        if in_heads(model, n):
            expected = value_of(named_variables(fresh)[n])
            assert value_of(variable).dtype == expected.dtype
            np.testing.assert_array_equal(value_of(variable), expected)
        else:
            assert value_of(variable) is before[n]


@pytest.mark.parametrize("name", each(["resnet_tiny", "test_squeezenet", "test_vit"]))
def test_a_model_without_a_head_returns_the_embedding(name):
    model = create_model(name)
    with_head = split_model(model)
    model.reset_classifier(0)
    headless = split_model(model)

    @jax.jit
    def run(with_head, headless, images):
        first, second = (
            definition.bind(*arrays)
            for definition, arrays in zip(definitions, (with_head, headless), strict=True)
        )
        first.eval()
        second.eval()
        features = first.forward_features(images)
        return first.forward_head(features, pre_logits=True), second(images)

    definitions = (with_head[0], headless[0])
    embedding, returned = run(with_head[1:], headless[1:], noise((2, *smallest(model), 3)))
    assert np.ptp(embedding) > 0
    np.testing.assert_allclose(returned, embedding, rtol=0, atol=1e-6 * np.abs(embedding).max())


def test_without_classes_auxiliary_heads_are_not_evaluated():
    model = create_model("test_googlenet", abstract=True, num_classes=0)
    definition, params, stats = split_model(model)

    def run(params, stats, images):
        model = definition.bind(params, stats)
        model.eval()
        return model.forward_train(images)

    images = jax.ShapeDtypeStruct((2, *smallest(model), 3), jnp.float32)
    embedding, aux = jax.eval_shape(run, params, stats, images)
    assert (embedding.shape, aux) == ((2, model.feature_info()[-1].channels), {})


def test_weights_with_and_without_a_head_load_into_a_model_without():
    weights = to_torch(create_model("resnet_tiny", seed=1))
    model = create_model("resnet_tiny", num_classes=0)
    assert load_torch(model, weights).ignored == ("fc.bias", "fc.weight")
    np.testing.assert_array_equal(to_torch(model)["conv1.weight"], weights["conv1.weight"])
    headless = {k: v for k, v in weights.items() if not k.startswith("fc.")}
    assert load_torch(model, headless).ignored == ()


def maps_of_the_first_layers(stages: list[str]) -> dict:
    model = create_model("resnet_tiny", abstract=True)
    definition, params, stats = split_model(model)

    def run(params, stats, images):
        model = definition.bind(params, stats)
        model.eval()
        model.layer2 = None  # what is not asked for is not called
        return model.feature_maps(images, stages)

    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    return jax.eval_shape(run, params, stats, images)


def test_only_the_stages_asked_for_are_returned_and_nothing_after_them_is_computed():
    maps = maps_of_the_first_layers(["layer1"])
    assert {name: x.shape for name, x in maps.items()} == {"layer1": (2, 8, 8, 16)}


def test_an_unknown_stage_is_refused():
    model = create_model("resnet_tiny")
    model.eval()
    with pytest.raises(UserError, match=r"unknown stage of ResNet 'layr1'; did you mean 'layer1'"):
        jax.eval_shape(
            lambda x: model.feature_maps(x, ["layr1"]),
            jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32),
        )


@pytest.mark.parametrize("classes", [-1, 2.0, True, "3"])
def test_a_number_of_classes_that_is_none_is_refused(classes):
    with pytest.raises(UserError, match=r"num_classes must be an integer of at least 0; got"):
        create_model("resnet_tiny", abstract=True).reset_classifier(classes)


def test_feature_info_is_data():
    info = create_model("resnet_tiny", abstract=True).feature_info()
    assert info[0] == FeatureInfo("relu", 16, 1, "nhwc")
