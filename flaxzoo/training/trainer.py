"""Everything that is fixed during a run, made from its config before anything is compiled."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxzoo import data
from flaxzoo.augment import check_mixing
from flaxzoo.class_weights import class_weights
from flaxzoo.config import Config
from flaxzoo.data import Dataset
from flaxzoo.errors import UserError
from flaxzoo.models.base import Classifier
from flaxzoo.training.clock import Clock
from flaxzoo.training.feed import Feed, resolve
from flaxzoo.training.init_from import initial_model, warn_of_other_classes
from flaxzoo.training.optimizer import make_optimizer
from flaxzoo.training.parallel import Devices, all_devices
from flaxzoo.training.plateau import Plateau
from flaxzoo.training.saved_run import Origin
from flaxzoo.training.schedule import Schedule, make_schedule
from flaxzoo.training.state import Arrays, ModelDef, TrainState, first_state, split_model
from flaxzoo.training.step import Plan, make_eval_step, make_train_step


@dataclass(frozen=True)
class Trainer:
    """A run without what changes in it.

    Attributes:
        feeds: "train", and "validation" and "test" where there are such.
        every: steps between "log", "eval" and "save".
        train_steps: compiled, by the number of the last update that each of them takes.
        resident: what the train step finds on the device: small data, a teacher.
        origin: of the first weights.
    """

    config: Config
    devices: Devices
    feeds: dict[str, Feed]
    classes: tuple[str, ...]
    clock: Clock
    every: dict[str, int]
    learning_rate: Schedule
    plateau: Plateau | None
    train_steps: dict[int, Callable[..., Any]]
    eval_step: Callable[..., Any]
    resident: dict[str, Any]
    origin: Origin | None

    def train_step(self, step: int) -> Callable[..., Any]:
        """Returns the compiled step that takes update number `step`, counted from 1."""
        return next(compiled for last, compiled in self.train_steps.items() if step <= last)


def build(config: Config, origin: Origin | None = None) -> tuple[Trainer, TrainState]:
    """Loads the data, creates the model and prepares the steps.

    Args:
        origin: of a run that goes on from its checkpoint; see `initial_model`.

    Raises:
        UserError: something in `config` does not exist or contradicts the data.
    """
    dataset = data.load(
        config.data.source,
        data_dir=config.data.data_dir or None,
        validation=config.data.validation,
        seed=config.seed,
        on_error=config.data.on_error,
    )
    config = resolve(config, dataset)
    devices = all_devices(config.parallel, config.shard_params)
    devices.check_batch(config.batch_size, config.accumulate)
    check_mixing(config.augment, config.batch_size, devices.count)
    feeds = _feeds(dataset, config, devices)
    clock = Clock.of(config.duration, feeds["train"].steps_per_epoch, config.batch_size)
    every = _every(config, clock)
    learning_rate = make_schedule(config.schedule, config.optimizer.learning_rate, clock)
    plateau = _plateau(config, feeds)
    dtype = compute_dtype(config.dtype)
    if origin is None and config.init_from:
        warn_of_other_classes(config, dataset.classes, dataset.name)
    model, origin = initial_model(config, dataset.channels, dtype, origin)
    _check_sizes(model, config, dataset.channels)
    optimizer = make_optimizer(config.optimizer, learning_rate, model)
    optimizer = devices.with_whole_gradients(optimizer)
    model_def, params, batch_stats = split_model(model)
    teacher_def, teacher = _teacher(config, dataset.channels, dtype)
    # In place from the start: a large state need not fit on one device.
    state = devices.compile_create(
        partial(first_state, optimizer=optimizer, config=config),
        *devices.place((params, batch_stats)),
    )
    if plateau is not None:
        state = state.replace(plateau=plateau.start())
    state = devices.place(state)
    plan = Plan(
        axis_name=devices.axis_name,
        strong_until=clock.steps(config.augment.off) if config.augment.off else None,
        class_weights=_class_weights(config, dataset),
        teacher_def=teacher_def,
    )
    make_step = partial(make_train_step, model_def, optimizer, config)
    trainer = Trainer(
        config=config,
        devices=devices,
        feeds=feeds,
        classes=dataset.classes,
        clock=clock,
        every=every,
        learning_rate=jax.jit(learning_rate),
        plateau=plateau,
        train_steps={
            last: devices.compile_train(make_step(replace(plan, image_size=size)), state)
            for last, size in _sizes(config, clock).items()
        },
        eval_step=devices.compile_eval(make_eval_step(model_def, config)),
        origin=origin,
        resident=feeds["train"].resident | devices.replicate(teacher),
    )
    return trainer, state


def _feeds(dataset: Dataset, config: Config, devices: Devices) -> dict[str, Feed]:
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {k: Feed(split, config, devices) for k, split in splits.items() if split is not None}


def _every(config: Config, clock: Clock) -> dict[str, int]:
    return {
        "log": clock.interval("config.log_every", config.log_every),
        "eval": clock.interval("config.eval_every", config.eval_every),
        "save": clock.interval("config.checkpoint.every", config.checkpoint.every),
    }


def _plateau(config: Config, feeds: dict[str, Feed]) -> Plateau | None:
    plateau = Plateau.of(config.schedule, config.optimizer.learning_rate)
    if plateau is not None and "validation" not in feeds:
        raise UserError(
            "a plateau schedule follows the validation loss, and there is no validation split: "
            "set config.data.validation."
        )
    return plateau


def _check_sizes(model: Classifier, config: Config, channels: int) -> None:
    """Raises UserError where `model` does not take the images that it is to see in training."""
    for size in {config.data.image_size, *config.data.train_sizes}:
        model.check_shape((config.batch_size, size, size, channels))
        if size < model.min_train_size:
            raise UserError(
                f"{type(model).__name__} trains on images of {model.min_train_size} pixels or "
                f"more; got config.data.image_size={config.data.image_size}, "
                f"train_sizes={config.data.train_sizes}."
            )


def _teacher(
    config: Config, channels: int, dtype: str
) -> tuple[ModelDef | None, dict[str, dict[str, Arrays]]]:
    """Returns the teacher without its arrays, and these as the train step takes them."""
    distill = config.distill
    if not distill.model:
        return None, {}
    if not distill.init_from:
        raise UserError(
            f"config.distill.model is {distill.model}, which has nothing to teach without weights: "
            "set config.distill.init_from."
        )
    model_config = replace(
        config.model, name=distill.model, stem=distill.stem, options=(), norm_momentum=None
    )
    config = replace(config, model=model_config, init_from=distill.init_from)
    teacher, _ = initial_model(config, channels, dtype)
    _check_sizes(teacher, config, channels)
    teacher_def, params, batch_stats = split_model(teacher)
    return teacher_def, {"teacher": {"params": params, "batch_stats": batch_stats}}


def _class_weights(config: Config, dataset: Dataset) -> jax.Array | None:
    if config.class_weights == "none":
        return None
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    return jnp.asarray(class_weights(counts, config.class_weights))


def _sizes(config: Config, clock: Clock) -> dict[int, int | None]:
    """Returns the size of the training images by the last update that has it.

    Several grow in equal parts of the run, as in EfficientNetV2's progressive learning (Tan and Le
    2021, https://arxiv.org/abs/2104.00298, section 4), which makes regularisation stronger as well:
    that is left to the recipe here, the same for all sizes. A last one below `image_size`, which is
    evaluated, makes objects look as large in both: a random crop is enlarged, a centre crop is not
    (Touvron et al. 2019, https://arxiv.org/abs/1906.06423).
    """
    sizes = config.data.train_sizes
    if not sizes:
        return {clock.total_steps: None}
    if max(sizes) > config.data.image_size:
        raise UserError(
            f"config.data.train_sizes must be at most image_size ({config.data.image_size}), to "
            f"which images are read; got {sizes}."
        )
    if len(sizes) > clock.total_steps:
        raise UserError(f"{len(sizes)} train_sizes need as many steps; got {clock.total_steps}.")
    return {round(clock.total_steps * i / len(sizes)): s for i, s in enumerate(sizes, 1)}


def compute_dtype(dtype: str) -> str:
    """Returns what "auto" means on the devices that are here; other types are themselves."""
    if dtype != "auto":
        return dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"
