"""What the steps of a run are made of, before anything is compiled or lies on a device."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flaxzoo.class_weights import class_weights
from flaxzoo.config import Config
from flaxzoo.data import Dataset
from flaxzoo.errors import UserError
from flaxzoo.models.base import Classifier
from flaxzoo.training.clock import Clock
from flaxzoo.training.optimizer import make_optimizer
from flaxzoo.training.parallel import Devices
from flaxzoo.training.schedule import Schedule
from flaxzoo.training.state import Arrays, ModelDef, TrainState, first_state, split_model
from flaxzoo.training.step import Plan, make_train_step


@dataclass(frozen=True)
class Program:
    """The train steps of a run, and the state that they start from.

    Attributes:
        params: of the model as it was given, like `batch_stats`: values, or shapes alone.
        sizes: of the images in training, by the last update that sees them; None for their own.
    """

    config: Config
    devices: Devices
    model_def: ModelDef
    params: Arrays
    batch_stats: Arrays
    optimizer: optax.GradientTransformation
    plan: Plan
    sizes: dict[int, int | None]

    def first_state(self, params: Arrays, batch_stats: Arrays) -> TrainState:
        """Returns the state before the first step, without what a plateau remembers."""
        return first_state(params, batch_stats, self.optimizer, self.config)

    def train_steps(self, state: Any) -> dict[int, Callable[..., Any]]:
        """Returns the steps, compiled when they are called, by the last update each takes.

        Args:
            state: any of the shapes that the steps will get.
        """
        make_step = partial(make_train_step, self.model_def, self.optimizer, self.config)
        return {
            last: self.devices.compile_train(make_step(replace(self.plan, image_size=size)), state)
            for last, size in self.sizes.items()
        }


def design(
    config: Config,
    dataset: Dataset,
    devices: Devices,
    clock: Clock,
    learning_rate: Schedule,
    model: Classifier,
    teacher_def: ModelDef | None = None,
) -> Program:
    """Puts together what a run does in its steps.

    Args:
        config: a resolved one.
        dataset: its labels and channels are looked at, and no image.

    Raises:
        UserError: something in `config` does not exist, or contradicts the rest.
    """
    check_sizes(model, config, dataset.channels)
    optimizer = make_optimizer(config.optimizer, learning_rate, model)
    model_def, params, batch_stats = split_model(model)
    _check_part(model_def, (params, batch_stats), config, devices.count, dataset.channels)
    return Program(
        config=config,
        devices=devices,
        model_def=model_def,
        params=params,
        batch_stats=batch_stats,
        optimizer=devices.with_whole_gradients(optimizer),
        plan=Plan(
            axis_name=devices.axis_name,
            devices=devices.count,
            strong_until=clock.steps(config.augment.off) if config.augment.off else None,
            class_weights=_class_weights(config, dataset),
            teacher_def=teacher_def,
        ),
        sizes=_sizes(config, clock),
    )


def check_sizes(model: Classifier, config: Config, channels: int) -> None:
    """Raises UserError where `model` does not take the images that it is to see in training."""
    for size in {config.data.image_size, *config.data.train_sizes}:
        model.check_shape((config.batch_size, size, size, channels))
        if size < model.min_train_size:
            raise UserError(
                f"{type(model).__name__} trains on images of {model.min_train_size} pixels or "
                f"more; got config.data.image_size={config.data.image_size}, "
                f"train_sizes={config.data.train_sizes}."
            )


def _check_part(
    model_def: ModelDef, weights: tuple[Arrays, Arrays], config: Config, devices: int, channels: int
) -> None:
    """Refuses a single image where batch normalisation needs more, by shapes alone."""
    sharing = devices if config.batch_norm == "per_device" else 1
    if config.batch_size // (sharing * config.accumulate) > 1 or config.model.freeze_norm:
        return

    def run(params: Arrays, batch_stats: Arrays, images: jax.Array, key: jax.Array) -> Any:
        model = model_def.bind(params, batch_stats)
        model.train()
        return model.forward_train(images, key=key)

    size = min({config.data.image_size, *config.data.train_sizes})
    images = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    try:
        jax.eval_shape(run, *weights, images, jax.eval_shape(lambda: jax.random.key(0)))
    except UserError as error:
        raise UserError(
            f"config.batch_size={config.batch_size} leaves one image at a time (config.accumulate="
            f"{config.accumulate}, {sharing} devices with statistics of their own): {error}"
        ) from None


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
