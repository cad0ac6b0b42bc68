"""Recipes as data: what config files share, and how their argument chooses among them.

A recipe is a dict of settings by the names that the command line gives them, such as
{"optimizer.learning_rate": 0.1}. A config file says what is its own, on one of the bases here:

    def get_config(arg="digits"):
        return choose(
            arg,
            digits=DIGITS | {"model.name": "resnet_tiny"},
            small=SMALL | {"model.name": "resnet20"},
            imagenet={"v1": TORCHVISION | {"model.name": "resnet50"}},
        )

`arg` is SOURCE[,recipe=NAME][,model=NAME], like "cifar10" or "folder=PATH,model=resnet18".

torchvision's recipes were compared with the README of its reference scripts and its issue 3995, and
what the configs say of papers with their text or their authors' code. What could not be compared is
named there, as "not checked against the paper".

The file is longer than others since its first half is data, which config files get from where they
get `choose`.
"""

import operator
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flaxzoo.arguments import one_of, text
from flaxzoo.config import PHOTOGRAPHS, Config, data_config
from flaxzoo.data.options import COLUMNS
from flaxzoo.errors import UserError, shown, unknown
from flaxzoo.models.info import model_info

Settings = dict[str, Any]

# Handwritten digits, 1,293 to train on: seconds to minutes on a CPU. Not mirrored: a mirrored 2 is
# no digit.
DIGITS: Settings = {
    "batch_size": 64,
    "duration": "30 epochs",
    "augment.shift": 1,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
    "optimizer.nesterov": True,
    "optimizer.weight_decay": 5e-4,
    "schedule.name": "cosine",
    "schedule.warmup": "2 epochs",
}

# MNIST, CIFAR and the like. What depends on the images themselves is in BY_SOURCE.
SMALL: Settings = {
    "batch_size": 128,
    "duration": "100 epochs",
    "augment.shift": 2,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
    "optimizer.nesterov": True,
    "optimizer.weight_decay": 5e-4,
    "schedule.name": "cosine",
    "schedule.warmup": "5 epochs",
}

_CIFAR: Settings = {"duration": "200 epochs", "augment.flip": True, "augment.shift": 4}
BY_SOURCE: dict[str, Settings] = {
    "mnist": {"duration": "20 epochs", "schedule.warmup": "1 epochs"},
    "fashion_mnist": {"duration": "60 epochs", "schedule.warmup": "2 epochs"},
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
}


def based_on(base: Settings, own: Settings) -> Settings:
    """Returns `own` on `base`; one that names an optimizer or a schedule says all about it.

    >>> step = {"seed": 1, "schedule.name": "step", "schedule.gamma": 0.5}
    >>> based_on(step, {"schedule.name": "linear"})
    {'seed': 1, 'schedule.name': 'linear'}
    """
    renamed = tuple(
        f"{group}." for group in ("optimizer", "schedule") if f"{group}.name" in own
    )  # fmt: skip
    return {k: v for k, v in base.items() if not k.startswith(renamed)} | own


# What transformers and MLPs change on small images: AdamW (Loshchilov and Hutter 2017,
# https://arxiv.org/abs/1711.05101), which SGD at one rate for all layers does not replace there.
SMALL_ADAMW: Settings = {
    "label_smoothing": 0.1,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 1e-3,
    "optimizer.weight_decay": 0.05,
    "optimizer.decay_on": "weights",
    "optimizer.clip_norm": 1.0,
}

# The digits for transformers and MLPs, which know nothing of neighbours and have to learn it.
DIGITS_ADAMW: Settings = based_on(DIGITS, SMALL_ADAMW) | {
    "duration": "90 epochs",
    "optimizer.learning_rate": 4e-3,
}

_READ_IMAGENET: Settings = {
    "data.image_size": 224,
    "data.crop": "random_resized",
    "data.validation": 0.01,  # the published validation set is the test set here
    "data.workers": 8,
    "augment.flip": True,
}

# The defaults of torchvision's training script, on 8 GPUs with 32 images each
# (https://github.com/pytorch/vision/tree/main/references/classification).
TORCHVISION: Settings = _READ_IMAGENET | {
    "batch_size": 256,
    "duration": "90 epochs",
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 1e-4,
    "schedule.name": "step",
    "schedule.every": "30 epochs",
    "schedule.gamma": 0.1,
}


def ema_per_step(decay: float, every: int, batch_size: int, epochs: int) -> float:
    """Returns the decay of a step that averages as long as torchvision's `--model-ema`.

    torchvision updates the average `every` so many steps by 1 - `decay` times batch * every /
    epochs; a decay in every step keeps as much of the old weights over as many.

    >>> round(ema_per_step(0.99998, 32, 1024, 600), 7)
    0.9999658
    """
    return (1 - (1 - decay) * batch_size * every / epochs) ** (1 / every)


# torchvision's "new recipe" (https://github.com/pytorch/vision/issues/3995), on 8 GPUs with 128
# images each, on 224 pixels. Departures from torchvision's script: warm-up and cosine move with
# every step, not every epoch; a box is erased after images are mixed, not before; biases have no
# weight decay, as norms; each image comes once an epoch, where most of torchvision's runs take a
# quarter of them four times (`--ra-sampler --ra-reps 4`); and the average of the weights, updated
# in every step and not in each 32nd, starts softly and not after the warm-up.
NEW_RECIPE: Settings = _READ_IMAGENET | {
    "batch_size": 1024,
    "duration": "600 epochs",
    "label_smoothing": 0.1,
    "data.resize": 232,
    "augment.policy": "trivialaugment",
    "augment.erase": 0.1,
    "augment.mixup": 0.2,
    "augment.cutmix": 1.0,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.5,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 2e-5,
    "optimizer.decay_on": "weights",
    "schedule.name": "cosine",
    "schedule.warmup": "5 epochs",
    "schedule.warmup_factor": 0.01,
    "ema.decay": ema_per_step(0.99998, 32, 1024, 600),
}

# The same with training on 176 pixels, which are shown as large as the 224 that are evaluated
# (FixRes, Touvron et al. 2019, https://arxiv.org/abs/1906.06423). The crop is read with 224 pixels
# and reduced on the device.
NEW_RECIPE_176: Settings = NEW_RECIPE | {"data.train_sizes": (176,)}

# DeiT (Touvron et al. 2020, https://arxiv.org/abs/2012.12877, table 9), whose rate of 5e-4 for 512
# images is scaled to 1024; the lowest rate and the noise in erased boxes are from its code
# (https://github.com/facebookresearch/deit). Without repeated augmentation. RandAugment has
# torchvision's scale of magnitudes, and no noise on them. Stochastic depth, 0.1, is the models'.
DEIT: Settings = _READ_IMAGENET | {
    "batch_size": 1024,
    "duration": "300 epochs",
    "label_smoothing": 0.1,
    "augment.policy": "randaugment",
    "augment.erase": 0.25,
    "augment.erase_value": "random",
    "augment.mixup": 0.8,
    "augment.cutmix": 1.0,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 1e-3,
    "optimizer.weight_decay": 0.05,
    "optimizer.decay_on": "weights",
    "schedule.name": "cosine",
    "schedule.warmup": "5 epochs",
    "schedule.min_rate": 1e-5,
}

# Tan and Le 2019 (https://arxiv.org/abs/1905.11946, section 5.2), as Tan et al. 2018 for MnasNet
# before (https://arxiv.org/abs/1807.11626, section 5), whose rates for 4096 images are scaled to
# 1024. From their code (https://github.com/tensorflow/tpu) are the 350 epochs, TensorFlow's RMSprop
# with an eps of 1e-3, label smoothing and the average of the weights.
MNASNET: Settings = _READ_IMAGENET | {
    "batch_size": 1024,
    "duration": "350 epochs",
    "label_smoothing": 0.1,
    "optimizer.name": "rmsprop_tf",
    "optimizer.learning_rate": 0.064,
    "optimizer.alpha": 0.9,
    "optimizer.momentum": 0.9,
    "optimizer.eps": 1e-3,
    "optimizer.weight_decay": 1e-5,
    "optimizer.decay_on": "weights",
    "schedule.name": "step",
    "schedule.every": "2.4 epochs",
    "schedule.gamma": 0.97,
    "schedule.warmup": "5 epochs",
    "ema.decay": 0.9999,
}

# torchvision's for MobileNetV2, which serves the first MobileNet as well.
MOBILENET: Settings = TORCHVISION | {
    "duration": "300 epochs",
    "optimizer.learning_rate": 0.045,
    "optimizer.weight_decay": 4e-5,
    "schedule.every": "1 epochs",
    "schedule.gamma": 0.98,
}

# Zhang et al. 2017 (https://arxiv.org/abs/1707.01083, section 4), and ShuffleNet V2's as well.
SHUFFLENET: Settings = based_on(
    TORCHVISION,
    {
        "batch_size": 1024,
        "duration": "300000 steps",
        "optimizer.learning_rate": 0.5,
        "optimizer.weight_decay": 4e-5,
        "schedule.name": "linear",
    },
)


def upsampled(size: int) -> Settings:
    """Returns what shows the digits with `size` pixels, and shifts them by an eighth of that."""
    return {"data.image_size": size, "augment.shift": size // 8}


def choose(
    arg: str | object,
    *,
    digits: Settings | object,
    small: Settings | object,
    imagenet: Mapping[str, Settings] | object,
    cifar: Settings | object | None = None,
    variants: Mapping[str, Mapping[str, Settings]] | object | None = None,
) -> Config:
    """Returns the config that the argument of a config file asks for.

    Args:
        arg: SOURCE[,recipe=NAME][,model=NAME].
        digits: for the bundled ones.
        small: for MNIST, CIFAR and npz=; what BY_SOURCE has for the source goes before what this
            changes of SMALL.
        imagenet: by name, the first one by default. Those for other photographs follow from them.
            Where torchvision has published weights of the model by that name, images have the size
            and the preparation that it evaluates them with: nothing about it need be said here.
        cifar: what CIFAR-10 and CIFAR-100 have besides `small`.
        variants: by recipe and variant, what that one changes of a recipe for ImageNet.

    Raises:
        UserError: an option or a recipe that does not exist, or one that is no dict of settings.
    """
    cifar, variants = _table("cifar", cifar), _table("variants", variants)
    source, options = parse(text("arg", arg, "SOURCE[,recipe=NAME][,model=NAME]"))
    kind = source.partition("=")[0]
    if kind in PHOTOGRAPHS:
        imagenet = _table("imagenet", imagenet)
        recipe = one_of("recipe", options.get("recipe", next(iter(imagenet), "")), imagenet)
        changes = _table(f"variants[{recipe!r}]", variants.get(recipe, {}))
        settings = choose_model(_recipe(recipe, imagenet[recipe]), options, changes)
        settings |= evaluated(settings["model.name"], recipe)
        settings = settings if kind == "imagenet2012" else for_thousands(settings)
        return config_of(source, settings)
    if "recipe" in options:
        raise UserError(
            f"recipe= chooses among those for ImageNet and folders of images; got {arg!r}."
        )
    if kind == "digits":
        settings = _recipe("digits", digits)
    else:
        settings = _small(kind, _recipe("small", small), cifar)
    return config_of(source, choose_model(settings, options))


def _table(name: str, value: object) -> dict[str, Any]:
    """Returns what `choose` takes as a dict by name, empty where it is None."""
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    raise UserError(f"{name} must be a dict with strings for keys; got {shown(value)}.")


def _recipe(name: str, value: object) -> Settings:
    """Returns settings, among which is a model."""
    settings = _table(name, value)
    if not isinstance(settings.get("model.name"), str):
        raise UserError(f"the recipe {name} must have a 'model.name'; got {shown(value)}.")
    return settings


def evaluated(model: str, recipe: str) -> Settings:
    """Returns how torchvision evaluates its weights of a model: v1 or v2, as our recipes.

    {} where it has none of that name.

    >>> evaluated("swin_t", "v1")["data.resize"], evaluated("swin_t", "v1")["data.interpolation"]
    (232, 'bicubic')
    """
    found = [w for w in model_info(model).weights if w.name == f"IMAGENET1K_{recipe.upper()}"]
    return {f"data.{name}": value for w in found for name, value in w.preparation.items()}


def parse(arg: str, known: Sequence[str] = ("model", "recipe")) -> tuple[str, dict[str, str]]:
    """Splits "SOURCE,key=value,..." into the source and its options.

    A path may hold "=" and ","; at its end, ",word=word" is an option, unless there is a file or a
    folder of the whole name. Columns of a table belong to the source.

    >>> parse("folder=a=b/c,model=resnet18")
    ('folder=a=b/c', {'model': 'resnet18'})
    >>> parse("csv=a.csv,label=breed,model=resnet18")
    ('csv=a.csv,label=breed', {'model': 'resnet18'})

    Raises:
        UserError: an option that is not `known`, stands twice or has no value.
    """
    source, options, columns = arg, {}, ""
    while match := re.fullmatch(r"(.+),\s*(\w+)=([\w.-]*)\s*", source):
        if os.path.exists(os.path.expanduser(source.partition("=")[2])):
            break
        source, key, value = match.groups()
        if key in COLUMNS and source.startswith(("csv=", "hf=")):
            columns = f",{key}={value}{columns}"
            continue
        if key not in known:
            raise unknown(f"option in {arg!r}:", key, known)
        if key in options or not value:
            raise UserError(f"{key}= takes one value; got {arg!r}.")
        options[key] = value
    return source + columns, options


def choose_model(
    settings: Settings,
    options: Mapping[str, str],
    variants: Mapping[str, Settings] | None = None,
) -> Settings:
    """Returns `settings` with the model that is asked for, and what that one changes.

    `model.options` are for the recipe's own net alone.
    """
    name = options.get("model", settings["model.name"])
    if name != settings["model.name"]:
        settings = {k: v for k, v in settings.items() if k != "model.options"}
    return based_on(settings, {"model.name": name} | (variants or {}).get(name, {}))


def _small(kind: str, small: Settings, cifar: Settings) -> Settings:
    """Returns `small`, with the source's own settings where it has those of SMALL, and `cifar`."""
    own = {k: v for k, v in BY_SOURCE.get(kind, {}).items() if small.get(k) == SMALL.get(k)}
    return based_on(small | own, cifar if kind.startswith("cifar") else {})


def for_thousands(imagenet: Settings) -> Settings:
    """Returns a recipe for ImageNet, changed to train on some thousands of images from scratch.

    Small batches, at a rate that is scaled with them (Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677), a short warm-up and a cosine, since times in epochs of
    ImageNet mean nothing here. No average of the weights, which would take longer than the run.
    """
    scale = 64 / imagenet["batch_size"]
    kept = {
        k: v for k, v in imagenet.items()
        if not k.startswith("ema.") and k not in ("data.workers", "data.validation")
    }  # fmt: skip
    return based_on(
        kept,
        {
            "batch_size": 64,
            "duration": "100 epochs",
            "schedule.name": "cosine",
            "schedule.warmup": "5 epochs",
        },
    ) | {"optimizer.learning_rate": imagenet["optimizer.learning_rate"] * scale}


def config_of(source: str, settings: Settings) -> Config:
    """Returns the config of a source with `settings`, and all else by default."""
    config = Config(data=data_config(source))
    for name, value in settings.items():
        group, _, field = name.rpartition(".")
        setattr(operator.attrgetter(group)(config) if group else config, field, value)
    return config
