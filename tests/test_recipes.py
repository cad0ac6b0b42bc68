"""The configs: valid for every kind of data, published settings, slips, and steps on the digits."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from flaxzoo import create_model
from flaxzoo.cli import parse_train_flags
from flaxzoo.config import Config
from flaxzoo.errors import UserError
from flaxzoo.layers.module import named_variables
from flaxzoo.recipes import NEW_RECIPE, TORCHVISION, ema_per_step, for_thousands, parse
from flaxzoo.sources import preparation_of
from flaxzoo.training.clock import Clock
from flaxzoo.training.groups import matching
from flaxzoo.training.init_from import model_options
from flaxzoo.training.optimizer import make_optimizer
from flaxzoo.training.schedule import make_schedule
from flaxzoo.training.trainer import build

FOLDER = Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
# Pixels of the images, 0 where the recipe must say, and how many there are.
SOURCES = {
    "digits": (8, 1293),
    "mnist": (28, 54_000),
    "cifar10": (32, 45_000),
    "cifar100": (32, 45_000),
    "imagenet2012": (0, 1_268_000),
    "imagenette": (0, 8_500),
    "folder=a=b/c,d": (0, 2_000),
    "csv=a.csv,label=b": (0, 2_000),
    "hf=a/b,label=c": (0, 2_000),
    "tfds=name": (0, 2_000),
    "npz=a.npz": (32, 5_000),
}
each_config = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in NAMES]
)


def config_of(name: str, arg: str = "") -> Config:
    return parse_train_flags([f"--config={FOLDER / name}.py{arg and ':'}{arg}"])[0]


@functools.cache
def abstract(name: str, stem: str, options: tuple[str, ...], size: int):
    """Returns the model that a run would make, but for classes and channels."""
    config = Config()
    config.model.name, config.model.stem, config.model.options = name, stem, options
    config.data.image_size = size
    return create_model(name, abstract=True, **model_options(config))


def check_parts(config: Config, size: int, images: int) -> None:
    """Raises where a run of `config` could not be prepared."""
    prepared = preparation_of(config.init_from, config.model.name) if config.init_from else {}
    size = config.data.image_size or size or prepared["image_size"]
    clock = Clock.of(config.duration, images // config.batch_size, config.batch_size)
    learning_rate = make_schedule(config.schedule, config.optimizer.learning_rate, clock)
    model = abstract(config.model.name, config.model.stem, config.model.options, size)
    make_optimizer(config.optimizer, learning_rate, model)
    for seen in {size, *config.data.train_sizes}:
        model.check_shape((1, seen, seen, 3))
        assert model.min_train_size <= seen <= size
    assert config.augment.shift < size


@pytest.mark.parametrize("source", SOURCES)
@each_config
def test_every_config_suits_every_kind_of_data(name, source):
    config = config_of(name, source)
    assert config.data.source == source
    check_parts(config, *SOURCES[source])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, "recipe=v2") for name in (
            "mnasnet", "mobilenet_v2", "regnet", "resnet", "resnext", "shufflenet_v2"
        )),
        ("efficientnet", "model=efficientnet_b7"),
        ("efficientnet_v2", "model=efficientnet_v2_m"),
        ("swin", "model=swin_v2_t"),
        ("vit", "model=vit_l_16"),
    ],
)  # fmt: skip
def test_other_recipes_and_variants_are_valid_for_imagenet(name, options):
    config = config_of(name, f"imagenet2012,{options}")
    check_parts(config, *SOURCES["imagenet2012"])


@each_config
def test_without_an_argument_the_digits_are_trained(name):
    assert config_of(name) == config_of(name, "digits")


@each_config
def test_the_default_run_trains(name):
    config = config_of(name)
    config.batch_size = 16
    trainer, state = build(config)
    before = jax.device_get(state.params)
    with trainer.feeds["train"].train(0, 2) as batches:
        for batch in batches:
            state, metrics = trainer.train_step(1)(state, batch, trainer.resident)
    assert np.isfinite(float(metrics["loss"]))
    after = jax.device_get(state.params)
    assert any((before[key] != after[key]).any() for key in before)


# ------------------------------------------------------------------------------- published settings


def test_resnets_second_recipe_is_torchvisions():
    config = config_of("resnet", "imagenet2012,recipe=v2")
    assert (config.model.name, config.batch_size, config.duration) == (
        "resnet50", 8 * 128, "600 epochs"
    )  # fmt: skip
    assert (config.data.train_sizes, config.data.image_size, config.data.resize) == (
        (176,), 224, 232
    )  # fmt: skip
    assert config.label_smoothing == 0.1
    augment = config.augment
    assert (augment.policy, augment.erase, augment.mixup, augment.cutmix, augment.flip) == (
        "trivialaugment", 0.1, 0.2, 1.0, True
    )  # fmt: skip
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.momentum) == ("sgd", 0.5, 0.9)
    assert (optimizer.weight_decay, optimizer.nesterov) == (2e-5, None)
    schedule = config.schedule
    assert (schedule.name, schedule.warmup, schedule.warmup_factor) == ("cosine", "5 epochs", 0.01)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_and_leaves_only_norms_without_weight_decay(name):
    config = config_of("resnet", f"imagenet2012,recipe=v2,model={name}")
    model = create_model(name, abstract=True)
    names = named_variables(model, nnx.Param)
    norms = {n.rpartition(".")[0] for n in named_variables(model, nnx.BatchStat)}
    (pattern,) = config.optimizer.decay_exclude
    found = matching([pattern], names, "decay_exclude")[pattern]
    assert config.optimizer.decay_on == "all"
    assert set(found) == {n for n in names if n.rpartition(".")[0] in norms}


def test_its_average_forgets_as_torchvisions_does():
    kept = ema_per_step(0.99998, every=32, batch_size=1024, epochs=600) ** 32
    assert kept == pytest.approx(1 - 2e-5 * 1024 * 32 / 600, rel=1e-12)
    assert config_of("resnet", "imagenet2012,recipe=v2").ema.decay == NEW_RECIPE["ema.decay"]


def test_a_variant_changes_its_recipe_and_no_other():
    rate, second = (
        config_of("regnet", f"imagenet2012,recipe={recipe},model=regnet_x_8gf")
        for recipe in ("v1", "v2")
    )
    assert (rate.batch_size, rate.optimizer.learning_rate) == (512, 0.4)
    assert (second.batch_size, second.optimizer.learning_rate) == (1024, 0.5)


@pytest.mark.parametrize(
    ("name", "options", "setting", "value"),
    [
        ("maxvit", "model=maxvit_t", "augment.cutmix", 0.0),
        ("resmlp", "model=resmlp_24_224", "model.options", ("stochastic_depth=0.1",)),
        ("resnext", "recipe=v2,model=resnext101_64x4d", "data.train_sizes", (176,)),
        ("vit", "model=vit_l_16", "data.resize", 242),
    ],
)
def test_what_is_published_goes_before_the_base(name, options, setting, value):
    group, field = setting.split(".")
    assert getattr(getattr(config_of(name, f"imagenet2012,{options}"), group), field) == value


def test_a_folder_gets_imagenets_recipe_for_small_batches():
    settings = for_thousands(TORCHVISION | {"ema.decay": 0.9})
    assert settings["batch_size"] == 64
    assert settings["optimizer.learning_rate"] == pytest.approx(0.1 / 4)
    assert settings["schedule.name"] == "cosine"
    assert {"schedule.every", "schedule.gamma", "ema.decay", "data.workers"}.isdisjoint(settings)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("resnet", "", (224, 256, "bilinear")),
        ("resnet", ",recipe=v2", (224, 232, "bilinear")),
        ("resnet", ",recipe=v2,model=resnet18", (224, 232, "")),  # none are published
        ("regnet", ",recipe=v2,model=regnet_x_8gf", (224, 232, "bilinear")),
        ("convnext", "", (224, 236, "bilinear")),
        ("convnext", ",model=convnext_base", (224, 232, "bilinear")),
        ("vit", ",model=vit_l_16", (224, 242, "bilinear")),
        ("swin", "", (224, 232, "bicubic")),
        ("swin", ",model=swin_v2_b", (256, 272, "bicubic")),
        ("maxvit", "", (224, 224, "bicubic")),
        ("inception", "", (299, 342, "bilinear")),
        ("efficientnet", ",model=efficientnet_b5", (456, 456, "bicubic")),
        ("efficientnet_v2", "", (384, 384, "bilinear")),
        ("efficientnet_v2", ",model=efficientnet_v2_l", (480, 480, "bicubic")),
        ("xception", "", (299, 0, "")),  # timm's weights were trained otherwise
    ],
)
@pytest.mark.parametrize("source", ["imagenet2012", "folder=a"])
def test_photographs_are_prepared_as_torchvision_evaluates(source, name, options, expected):
    data = config_of(name, source + options).data
    assert (data.image_size, data.resize, data.interpolation) == expected
    assert data.mean == ((0.5,) * 3 if "v2_l" in options else (0.485, 0.456, 0.406))


def test_only_photographs_are_mirrored():
    mirrored = {source for source in SOURCES if config_of("vgg", source).augment.flip}
    assert mirrored == set(SOURCES) - {"digits", "mnist", "npz=a.npz"}


# ------------------------------------------------------------------------------------------- slips


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("imagenet2012,recipe=v3", "unknown recipe 'v3'.* known: v1, v2"),
        ("folder=a,label=b", "'label'"),
        ("imagenet2012,recip=v2", "'recip'; did you mean 'recipe'"),
        ("folder=a/b,modle=resnet18", "'modle'; did you mean 'model'"),
        ("imagenet2012,recipe=", "recipe= takes one value"),
        ("digits,model=resnet18,model=resnet34", "model= takes one value"),
        ("cifar10,recipe=v2", "recipe= chooses among those for ImageNet and folders"),
    ],
)
def test_a_slip_in_the_argument_is_explained(arg, words):
    with pytest.raises(UserError, match=words):
        config_of("resnet", arg)


@pytest.mark.parametrize(
    ("arg", "expected"),
    [
        ("digits", ("digits", {})),
        ("folder=a=b,c/d", ("folder=a=b,c/d", {})),
        ("folder=a,b=c/d", ("folder=a,b=c/d", {})),
        ("npz=a=b.npz,recipe=v2", ("npz=a=b.npz", {"recipe": "v2"})),
        ("csv=a,image=b,model=c,label=d", ("csv=a,image=b,label=d", {"model": "c"})),
        ("csv=a,label=two words,model=c", ("csv=a,label=two words", {"model": "c"})),
        ("hf=a/b:c,label=d", ("hf=a/b:c,label=d", {})),
        ("imagenet2012,recipe=v2,model=resnet101",
         ("imagenet2012", {"recipe": "v2", "model": "resnet101"})),
    ],
)  # fmt: skip
def test_options_are_told_from_paths(arg, expected):
    assert parse(arg) == expected


def test_a_path_that_exists_is_no_option(tmp_path):
    (tmp_path / "images,size=big").mkdir()
    arg = f"folder={tmp_path}/images,size=big"
    assert parse(arg) == (arg, {})
    assert parse(f"{arg},model=resnet18") == (arg, {"model": "resnet18"})
