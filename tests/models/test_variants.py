"""What every variant promises, checked by shapes: nothing is computed."""

import hashlib
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from flaxzoo import UserError, create_model, list_models, to_torch
from flaxzoo.layers import BatchNorm, LayerNorm, named_variables
from flaxzoo.models import FAMILIES, VARIANTS, takes
from flaxzoo.models.info import count_multiply_adds, count_parameters, model_info, published
from flaxzoo.training.state import split_model
from tests.models.zoo import (
    EVERY,
    SMALL,
    abstract,
    each,
    evaluated,
    shapes,
    smallest,
    without_noise,
)

_NAMES = json.loads((Path(__file__).parent / "published_names.json").read_text())
PUBLISHED = _NAMES["torchvision"] | _NAMES["timm"]


@pytest.mark.parametrize("name", each(EVERY))
def test_features_shrink_towards_the_head(name):
    model, out = shapes(name)
    maps = out["maps"]
    assert len(maps) >= 2
    assert all(x.ndim in (3, 4) and x.shape[0] == 2 and x.size for x in maps)
    heights = [x.shape[1] for x in maps if x.ndim == 4]
    assert heights == sorted(heights, reverse=True)
    assert out["logits"].shape == (2, model.num_classes)
    assert out["pre_logits"].ndim == 2


@pytest.mark.parametrize("name", each(EVERY))
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


@pytest.mark.parametrize("name", SMALL)
def test_float32_stays_float32_where_float64_is_on(name, x64):
    model = without_noise(create_model(name, abstract=True))  # jax draws with float64 scalars
    model_def, params, stats = split_model(model)

    def loss(params, stats, images):
        model = model_def.bind(params, stats)
        logits, aux = model.forward_train(images)
        return sum(map(jnp.sum, aux.values()), jnp.sum(logits)), model_def.batch_stats_of(model)

    images = jax.ShapeDtypeStruct((2, *smallest(model), 3), jnp.float32)
    program = jax.make_jaxpr(jax.grad(loss, has_aux=True))(params, stats, images)
    assert re.findall(r"f64\[\d", str(program)) == []  # Python's scalars are f64[] for a moment


# --------------------------------------------------------------------------- what families declare


def shapes_of(name: str, **options) -> dict[str, tuple[int, ...]]:
    return {k: v.shape for k, v in to_torch(create_model(name, abstract=True, **options)).items()}


@pytest.mark.parametrize("name", SMALL)
def test_heads_are_all_that_depends_on_the_number_of_classes(name):
    model = abstract(name)
    ours, other = shapes_of(name), shapes_of(name, num_classes=model.num_classes + 1)
    declared = {f"{head}.{leaf}" for head in model.head_names for leaf in ("weight", "bias")}
    assert {k for k in ours if ours[k] != other[k]} == declared & ours.keys()


@pytest.mark.parametrize("name", SMALL)
def test_the_first_convolution_is_all_that_depends_on_the_channels(name):
    ours, grey = shapes_of(name), shapes_of(name, in_channels=1)
    assert {k for k in ours if ours[k] != grey[k]} == {f"{abstract(name).first_conv}.weight"}


def one_of_each_class(names: list[str]) -> list[str]:
    return sorted({VARIANTS[name].func: name for name in names}.values())


@pytest.mark.parametrize(
    "name", one_of_each_class([n for n in EVERY if not takes(n, "image_size")])
)
def test_the_smallest_size_is_true_and_told(name):
    model = create_model(name, abstract=True)
    least = model.min_size
    assert evaluated(model, (2, least, least, 3))["logits"].shape == (2, model.num_classes)
    with pytest.raises(UserError, match=f"takes images of {least}x{least} pixels or more; got"):
        model.check_shape((2, least - 1, least - 1, 3))
    model.min_size = 0
    try:
        maps = evaluated(model, (2, least - 1, least - 1, 3))["maps"]
    except (ValueError, TypeError, ZeroDivisionError):
        return  # no layer takes so small a map
    assert not all(x.size for x in maps)


@pytest.mark.parametrize("name", [name for name in SMALL if takes(name, "image_size")])
def test_another_size_than_a_model_was_made_for_is_refused(name):
    height, width = abstract(name).image_size
    with pytest.raises(UserError, match=rf"made for images of {height}x{width} .*image_size"):
        abstract(name).check_shape((2, height + 1, width, 3))


WITH_STEM = [n for n in SMALL if takes(n, "stem") and VARIANTS[n].keywords.get("stem") != "cifar"]


@pytest.mark.parametrize("name", WITH_STEM)
def test_the_cifar_stem_keeps_small_images_at_their_size(name):
    model = create_model(name, abstract=True, stem="cifar", num_classes=10)
    maps = evaluated(model, (2, 32, 32, 3))["maps"]
    imagenet = create_model(name, abstract=True, num_classes=10)
    assert maps[0].shape[1] == 32
    assert maps[-1].shape[1] > 1
    assert imagenet.min_size >= model.min_size


@pytest.mark.parametrize("name", WITH_STEM)
def test_another_stem_is_refused(name):
    with pytest.raises(UserError, match="unknown stem 'cifr'; did you mean 'cifar'"):
        create_model(name, abstract=True, stem="cifr")


# ------------------------------------------------------------------------------- what is published


@pytest.mark.parametrize("name", each(sorted(PUBLISHED)))
def test_names_and_shapes_are_the_published_ones(name):
    state_dict = to_torch(abstract(name))
    lines = sorted(f"{key} {'x'.join(map(str, v.shape))}" for key, v in state_dict.items())
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    count, expected = PUBLISHED[name]
    assert (len(lines), digest) == (count, expected), (
        f"{name} has {len(lines)} names, the published one {count}, or a name or shape differs. "
        f"List ours with flaxzoo.to_torch(flaxzoo.create_model({name!r}, abstract=True)), theirs "
        "with the state_dict() of torchvision's or timm's model."
    )


def published_sizes() -> list[tuple[str, int, int, float]]:
    """(model, parameters, image size, 10^9 multiply-adds) of each published size of each model."""
    rows = {
        (name, int(row["parameters"]), int(row["gmacs_size"] or 0), float(row["gmacs"] or 0))
        for name, rows in published().items()
        for row in rows
    }
    return sorted(rows)


def options_for(name: str, image_size: int) -> dict:
    if name == "googlenet":  # torchvision counts without the auxiliary heads
        return {"aux_logits": False}
    return {"image_size": image_size} if image_size and takes(name, "image_size") else {}


@pytest.mark.parametrize(
    ("name", "parameters", "image_size", "gmacs"),
    [pytest.param(*size, marks=pytest.mark.xdist_group(size[0])) for size in published_sizes()],
)
def test_has_as_many_parameters_as_published(name, parameters, image_size, gmacs):
    options = options_for(name, image_size)
    model = create_model(name, abstract=True, **options) if options else abstract(name)
    assert count_parameters(model) == parameters


def cheapest_of_each_class() -> list[tuple[str, int, int, float]]:
    cases = sorted((c for c in published_sizes() if c[-1]), key=lambda c: c[-1], reverse=True)
    return sorted({VARIANTS[case[0]].func: case for case in cases}.values())


@pytest.fixture
def normalised(monkeypatch) -> dict[type, int]:
    """Counts the values that go through layers of normalisation while a model is traced."""
    counts = {BatchNorm: 0, LayerNorm: 0}
    for layer in counts:

        def counting(self, x, layer=layer, call=layer.__call__):
            counts[layer] += x.size
            return call(self, x)

        monkeypatch.setattr(layer, "__call__", counting)
    return counts


@pytest.mark.parametrize(("name", "parameters", "image_size", "gmacs"), cheapest_of_each_class())
def test_needs_as_many_multiply_adds_as_published(name, parameters, image_size, gmacs, normalised):
    options = options_for(name, image_size=0)
    counted = count_multiply_adds(name, image_size, **options)
    half_of_the_last_digit = 5e-4
    if model_info(name).library == "timm":  # counts normalisation as well, by fvcore's rule
        counted += 2 * normalised[BatchNorm] + 5 * normalised[LayerNorm]
        half_of_the_last_digit = 5e-3
    assert counted / 1e9 == pytest.approx(gmacs, rel=5e-3, abs=half_of_the_last_digit)


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
    assert f"{count_parameters(abstract(name)) / 1e6:.{digits}f}" == millions


@pytest.mark.parametrize("name", ["resnet50", "xception", "mixer_s16_224", "shufflenet_v1_g3_x1_0"])
def test_model_info(name):
    info = model_info(name)
    known = {
        "resnet50": ("resnet", "torchvision", "resnet50", 4.089, 2),
        "xception": ("xception", "timm", "legacy_xception", 8.4, 1),
        "mixer_s16_224": ("mlp_mixer", "timm", "mixer_s16_224", 3.79, 0),
        "shufflenet_v1_g3_x1_0": ("shufflenet_v1", "", "", None, 0),
    }
    got = (info.family, info.library, info.library_name, info.gmacs, len(info.weights))
    assert got == known[name]


def test_weights_say_which_images_they_expect():
    first, second = model_info("resnet50").weights
    assert (first.image_size, first.resize, second.resize) == (224, 256, 232)
    assert (first.top1, second.top1) == (76.13, 80.858)
    assert first.mean == (0.485, 0.456, 0.406)
    assert first.url.startswith("https://download.pytorch.org/models/resnet50-")


def test_every_published_row_is_of_a_variant():
    assert published().keys() <= VARIANTS.keys()
    weights = [
        weights for name in ("vgg16", "resmlp_12_224") for weights in model_info(name).weights
    ]
    assert {w.top1 is None for w in weights if w.classes == 0} == {True}


def test_an_unknown_model_has_no_info():
    with pytest.raises(UserError, match=r"unknown model 'resnet5'; did you mean .*'resnet50'"):
        model_info("resnet5")


def test_every_family_has_a_small_variant_for_the_tests():
    of_tests = {name for family in FAMILIES for name in family.VARIANTS if name in SMALL}
    assert of_tests == set(SMALL)
    assert [f.__name__ for f in FAMILIES if not f.VARIANTS.keys() & set(SMALL)] == []


def test_variants_for_tests_are_listed_only_when_asked_for():
    assert not [name for name in list_models() if name.startswith("test_")]
    assert "test_vgg" in list_models("test_*")
