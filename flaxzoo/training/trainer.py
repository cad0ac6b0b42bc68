"""Everything that is fixed during a run, made from its config before anything is compiled."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from flaxzoo import data
from flaxzoo.config import Config
from flaxzoo.errors import UserError
from flaxzoo.models import create_model, takes
from flaxzoo.models.base import Classifier
from flaxzoo.training.clock import Clock
from flaxzoo.training.feed import Feed, resolve
from flaxzoo.training.optimizer import make_optimizer
from flaxzoo.training.parallel import Devices, all_devices
from flaxzoo.training.plateau import Plateau
from flaxzoo.training.schedule import Schedule, make_schedule
from flaxzoo.training.state import ModelDef, TrainState, first_state, split_model
from flaxzoo.training.step import Plan, make_eval_step, make_train_step


@dataclass(frozen=True)
class Trainer:
    """A run without what changes in it.

    Attributes:
        feeds: "train", and "validation" and "test" where there are such.
        every: steps between "log", "eval" and "save".
        train_steps: compiled, by the number of the last update that each of them takes.
        resident: what the train step finds on the device: small data, a teacher.
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

    def train_step(self, step: int) -> Callable[..., Any]:
        """Returns the compiled step that takes update number `step`, counted from 1."""
        return next(compiled for last, compiled in self.train_steps.items() if step <= last)


def build(config: Config) -> tuple[Trainer, TrainState]:
    """Loads the data, creates the model and prepares the steps.

    Raises:
        UserError: something in `config` does not exist or contradicts the data.
    """
    dataset = data.load(
        config.data.source,
        data_dir=config.data.data_dir or None,
        validation=config.data.validation,
        seed=config.seed,
    )
    config = resolve(config, dataset)
    devices = all_devices(config.parallel)
    devices.check_batch(config.batch_size, config.accumulate)
    splits = {
        "train": dataset.train, "validation": dataset.validation, "test": dataset.test
    }  # fmt: skip
    feeds = {k: Feed(s, config, devices) for k, s in splits.items() if s is not None}
    clock = Clock.of(config.duration, feeds["train"].steps_per_epoch, config.batch_size)
    every = {
        "log": clock.interval("config.log_every", config.log_every),
        "eval": clock.interval("config.eval_every", config.eval_every),
        "save": clock.interval("config.checkpoint.every", config.checkpoint.every),
    }
    learning_rate = make_schedule(config.schedule, config.optimizer.learning_rate, clock)
    plateau = Plateau.of(config.schedule, config.optimizer.learning_rate)
    if plateau is not None and "validation" not in feeds:
        raise UserError(
            "a plateau schedule follows the validation loss, and there is no validation split: "
            "set config.data.validation."
        )
    model = _model(config, dataset.channels, config.model.name, config.model.pretrained)
    optimizer = make_optimizer(config.optimizer, learning_rate, model)
    model_def, params, batch_stats = split_model(model)
    teacher_def, teacher = _teacher(config, dataset.channels)
    make_step = partial(make_train_step, model_def, optimizer, config)
    plan = partial(Plan, axis_name=devices.axis_name, teacher_def=teacher_def)
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
            last: devices.compile_train(make_step(plan(image_size=size)))
            for last, size in _sizes(config, clock).items()
        },
        eval_step=devices.compile_eval(make_eval_step(model_def, config)),
        resident=feeds["train"].resident | devices.replicate(teacher),
    )
    state = first_state(params, batch_stats, optimizer, config)
    if plateau is not None:
        state = state.replace(plateau=plateau.start())
    return trainer, devices.replicate(state)


def _model(config: Config, channels: int, name: str, weights: str) -> Classifier:
    """Returns the variant `name` with `weights`, for the images of this run.

    Raises:
        UserError: it does not take them.
    """
    size = config.data.image_size
    options: dict[str, Any] = {"stem": config.model.stem} if config.model.stem else {}
    if takes(name, "image_size"):
        options["image_size"] = size
    model = create_model(
        name,
        num_classes=config.model.num_classes,
        in_channels=channels,
        seed=config.seed,
        dtype=_compute_dtype(config.dtype),
        pretrained=weights or None,
        **options,
    )
    for seen in {size, *config.data.train_sizes}:
        model.check_shape((config.batch_size, seen, seen, channels))
        if seen < model.min_train_size:
            raise UserError(
                f"{name} trains on images of {model.min_train_size} pixels or more; got "
                f"config.data.image_size={size}, train_sizes={config.data.train_sizes}."
            )
    return model


def _teacher(config: Config, channels: int) -> tuple[ModelDef | None, dict[str, Any]]:
    """Returns the teacher without its arrays, and these as the train step takes them."""
    distill = config.distill
    if not distill.model:
        return None, {}
    if not distill.init_from:
        raise UserError(
            f"config.distill.model is {distill.model}, which has nothing to teach without weights: "
            "set config.distill.init_from."
        )
    model = _model(config, channels, distill.model, distill.init_from)
    teacher_def, params, batch_stats = split_model(model)
    return teacher_def, {"teacher": {"params": params, "batch_stats": batch_stats}}


def _sizes(config: Config, clock: Clock) -> dict[int, int | None]:
    """Returns the size of the training images by the last update that has it.

    They grow in equal parts of the run, as in EfficientNetV2's progressive learning (Tan and Le
    2021, https://arxiv.org/abs/2104.00298, section 4), which makes regularisation stronger as well:
    that is left to the recipe here, the same for all sizes.
    """
    sizes = config.data.train_sizes
    if not sizes:
        return {clock.total_steps: None}
    if sizes[-1] != config.data.image_size:
        raise UserError(
            f"config.data.train_sizes must end with image_size ({config.data.image_size}), which "
            f"is evaluated; got {sizes}."
        )
    if len(sizes) > clock.total_steps:
        raise UserError(f"{len(sizes)} train_sizes need as many steps; got {clock.total_steps}.")
    return {round(clock.total_steps * i / len(sizes)): s for i, s in enumerate(sizes, 1)}


def _compute_dtype(dtype: str) -> str:
    if dtype != "auto":
        return dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"
