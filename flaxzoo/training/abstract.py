"""The train step of a run for devices that need not be there, of images that nobody has read."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from flaxzoo import data
from flaxzoo.augment import check_mixing
from flaxzoo.config import PHOTOGRAPHS, Config
from flaxzoo.data import ArraySplit, Dataset, FileSplit
from flaxzoo.data.order import check_batch_size
from flaxzoo.data.stream import resident
from flaxzoo.errors import UserError
from flaxzoo.training.clock import Clock
from flaxzoo.training.feed import resolve
from flaxzoo.training.init_from import abstract_model
from flaxzoo.training.parallel import Devices
from flaxzoo.training.plateau import Plateau
from flaxzoo.training.program import design
from flaxzoo.training.schedule import make_schedule
from flaxzoo.training.state import split_model
from flaxzoo.training.trainer import compute_dtype, teacher_config


@dataclass(frozen=True)
class Shapes:
    """Of a data set: training images, classes, channels, and the side of those that are arrays."""

    images: int
    classes: int
    channels: int = 3
    side: int | None = None


SETS = {
    "cifar10": Shapes(50_000, 10, 3, 32),
    "cifar100": Shapes(50_000, 100, 3, 32),
    "mnist": Shapes(60_000, 10, 1, 28),
    "fashion_mnist": Shapes(60_000, 10, 1, 28),
    "imagenet2012": Shapes(1_281_167, 1000),
    "imagenette": Shapes(9_469, 10),
    "imagenette_320px": Shapes(9_469, 10),
    "imagenette_160px": Shapes(9_469, 10),
    "tf_flowers": Shapes(3_670, 5),
    "oxford_flowers102": Shapes(1_020, 102),
    "oxford_iiit_pet": Shapes(3_680, 37),
}


def abstract_step(config: Config, devices: Devices) -> tuple[Callable[..., Any], tuple]:
    """Returns the compiled step of a run, not yet compiled, and the shapes of its arguments.

    `step.lower(*arguments).compile()` is the program that the run would execute: the same model,
    loss, augmentation, optimiser and layout. Where training images grow, it is the step of the
    largest. What a run starts from (`init_from`, `distill.init_from`) is not looked at.

    Args:
        devices: of a `jax.experimental.topologies` description, or real ones.

    Raises:
        UserError: something in `config` does not exist, or the data is neither known nor here.
    """
    dataset = blank_dataset(config)
    config = replace(resolve(config, dataset), init_from="")
    devices.check_batch(config.batch_size, config.accumulate)
    check_mixing(config.augment, config.batch_size, devices.count)
    steps_per_epoch = check_batch_size(len(dataset.train), config.batch_size)
    clock = Clock.of(config.duration, steps_per_epoch, config.batch_size)
    learning_rate = make_schedule(config.schedule, config.optimizer.learning_rate, clock)
    dtype = compute_dtype(config.dtype, devices.platform)
    model = abstract_model(config, dataset.channels, dtype)
    teacher_def, teacher = None, {}
    if config.distill.model:
        wise = abstract_model(teacher_config(config), dataset.channels, dtype)
        teacher_def, params, batch_stats = split_model(wise)
        teacher = {"teacher": {"params": params, "batch_stats": batch_stats}}
    program = design(config, dataset, devices, clock, learning_rate, model, teacher_def)
    state = jax.eval_shape(program.first_state, program.params, program.batch_stats)
    plateau = Plateau.of(config.schedule, config.optimizer.learning_rate)
    if plateau is not None:
        state = state.replace(plateau=jax.eval_shape(plateau.start))
    inputs, images = _inputs(config, dataset)
    arguments = devices.abstract(state, inputs, images | teacher)
    largest = max(program.sizes, key=lambda last: program.sizes[last] or 0)
    return program.train_steps(state)[largest], arguments


def most_images(config: Config) -> int | None:
    """Returns the largest batch that the training images make, None where their number is open."""
    if config.data.source not in SETS and _unread(config):
        return None
    return len(blank_dataset(config).train)


def blank_dataset(config: Config) -> Dataset:
    """Returns a data set like the one that `config` names, without images in it.

    Its shapes are known by name, or, of photographs, by `config.model.num_classes`; other sets are
    loaded.

    Raises:
        UserError: it would have to be loaded, and cannot be.
    """
    source, shapes = config.data.source, SETS.get(config.data.source)
    if shapes is None and _unread(config):
        images = math.ceil(max(10_000, config.batch_size) / (1 - config.data.validation))
        shapes = Shapes(images, config.model.num_classes)
    if shapes is None:
        try:
            return data.load(source, data_dir=config.data.data_dir or None)
        except UserError as error:
            raise UserError(
                f"{error} (The shapes of photographs are known without them where "
                "config.model.num_classes is set.)"
            ) from None
    labels = np.arange(round(shapes.images * (1 - config.data.validation))) % shapes.classes
    labels = labels.astype(np.int32)
    if shapes.side is None:
        split = FileSplit([], labels, channels=shapes.channels)
    else:
        side = config.data.image_size or shapes.side
        shape = (len(labels), side, side, shapes.channels)
        split = ArraySplit(np.broadcast_to(np.uint8(0), shape), labels)
    return Dataset(source, tuple(map(str, range(shapes.classes))), shapes.channels, split)


def _unread(config: Config) -> bool:
    """Whether the data are photographs whose number of classes the config says."""
    return bool(config.model.num_classes) and config.data.source.partition("=")[0] in PHOTOGRAPHS


def _inputs(config: Config, dataset: Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the shapes of what crosses to the devices in a step, and of what lies there."""
    size, batch = config.data.image_size, config.batch_size
    arrays = resident(dataset.train, size)
    if arrays is not None:
        images, labels = arrays
        kept = {"image": images, "label": labels}
        return {"index": jax.ShapeDtypeStruct((batch,), np.int32)}, kept
    return {
        "image": jax.ShapeDtypeStruct((batch, size, size, dataset.channels), np.uint8),
        "label": jax.ShapeDtypeStruct((batch,), np.int32),
    }, {}
