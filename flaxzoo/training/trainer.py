"""Everything that is fixed during a run, made from its config before anything is compiled."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax

from flaxzoo import data
from flaxzoo.augment import check_mixing
from flaxzoo.config import Config
from flaxzoo.data import Dataset
from flaxzoo.errors import UserError
from flaxzoo.training.clock import Clock
from flaxzoo.training.feed import Feed, resolve
from flaxzoo.training.init_from import initial_model, warn_of_other_classes
from flaxzoo.training.parallel import Devices, all_devices
from flaxzoo.training.plateau import Plateau
from flaxzoo.training.program import check_sizes, design
from flaxzoo.training.saved_run import Origin
from flaxzoo.training.schedule import Schedule, make_schedule
from flaxzoo.training.state import Arrays, ModelDef, TrainState, split_model
from flaxzoo.training.step import make_eval_step


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
    teacher_def, teacher = _teacher(config, dataset.channels, dtype)
    program = design(config, dataset, devices, clock, learning_rate, model, teacher_def)
    # In place from the start: a large state need not fit on one device.
    weights = devices.place((program.params, program.batch_stats))
    state = devices.compile_create(program.first_state, *weights)
    if plateau is not None:
        state = state.replace(plateau=plateau.start())
    state = devices.place(state)
    trainer = Trainer(
        config=config,
        devices=devices,
        feeds=feeds,
        classes=dataset.classes,
        clock=clock,
        every=every,
        learning_rate=jax.jit(learning_rate),
        plateau=plateau,
        train_steps=program.train_steps(state),
        eval_step=devices.compile_eval(make_eval_step(program.model_def, config)),
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
    config = teacher_config(config)
    teacher, _ = initial_model(config, channels, dtype)
    check_sizes(teacher, config, channels)
    teacher_def, params, batch_stats = split_model(teacher)
    return teacher_def, {"teacher": {"params": params, "batch_stats": batch_stats}}


def teacher_config(config: Config) -> Config:
    """Returns the config of a run with the teacher of `config` for its model."""
    distill = config.distill
    model = replace(
        config.model, name=distill.model, stem=distill.stem, options=(), norm_momentum=None
    )
    return replace(config, model=model, init_from=distill.init_from)


def compute_dtype(dtype: str, platform: str = "") -> str:
    """Returns what "auto" means on a platform; other types are themselves.

    Args:
        platform: cpu, gpu or tpu; by default that of the devices that are here.
    """
    if dtype != "auto":
        return dtype
    return "float32" if (platform or jax.default_backend()) == "cpu" else "bfloat16"
