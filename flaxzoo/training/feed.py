"""Feeds data to the steps: small sets live on the device, large ones stream to it."""

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np

from flaxzoo.config import Config, DataConfig, data_config
from flaxzoo.data import ArraySplit, Dataset, Split
from flaxzoo.data.order import batch_indices, check_batch_size, eval_batches
from flaxzoo.data.stream import balance_of, eval_batches_of, resident, train_batches
from flaxzoo.errors import UserError
from flaxzoo.sources import preparation_of
from flaxzoo.training.parallel import Devices

Batches = Iterator[dict[str, np.ndarray]]


class Feed:
    """The batches of one split, as this process's rows of each global batch.

    Attributes:
        resident: what the steps find on the device: {"image", "label"}, or nothing for a split that
            streams.
    """

    def __init__(self, split: Split, config: Config, devices: Devices):
        self.split = split
        self.config = config
        self._interpolation = config.data.interpolation or "bilinear"
        arrays = resident(split, config.data.image_size, interpolation=self._interpolation)
        self.resident = (
            {} if arrays is None else devices.replicate({"image": arrays[0], "label": arrays[1]})
        )
        n, k = jax.process_count(), jax.process_index()
        self._reported: set[str] = set()  # unreadable images, which every evaluation meets again
        self._rows = slice(config.batch_size // n * k, config.batch_size // n * (k + 1))

    def __len__(self) -> int:
        return len(self.split)

    @property
    def steps_per_epoch(self) -> int:
        """Training drops the incomplete last batch of an epoch."""
        return check_batch_size(len(self.split), self.config.batch_size)

    @contextmanager
    def train(self, start_step: int, num_steps: int) -> Iterator[Batches]:
        """Yields the training batches of steps start_step to start_step + num_steps."""
        config = self.config
        if self.resident:
            steps = range(start_step, start_step + num_steps)
            balance = balance_of(self.split, config.data.sampling)
            order = (
                batch_indices(config.seed, step, len(self.split), config.batch_size, balance)
                for step in steps
            )
            yield ({"index": indices[self._rows]} for indices in order)
            return
        with train_batches(
            self.split,
            seed=config.seed,
            batch_size=config.batch_size,
            start_step=start_step,
            num_steps=num_steps,
            crop=config.data.crop,
            sampling=config.data.sampling,
            **self._stream_options(),
        ) as batches:
            yield batches

    @contextmanager
    def evaluate(self) -> Iterator[Batches]:
        """Yields batches that cover the split once, with a mask that is False on padding."""
        size = self.config.batch_size
        if self.resident:
            batches = eval_batches(len(self.split), size)
            yield ({"index": i[self._rows], "mask": m[self._rows]} for i, m in batches)
            return
        with eval_batches_of(self.split, batch_size=size, **self._stream_options()) as batches:
            yield batches

    def _stream_options(self) -> dict:
        data = self.config.data
        short_side = data.resize or math.floor(data.image_size / 0.875)
        return {
            "image_size": data.image_size,
            # Arrays are made square, whether they stream or lie on the device.
            "resize": None if isinstance(self.split, ArraySplit) else short_side,
            "interpolation": self._interpolation,
            "workers": data.workers,
            "on_error": data.on_error,
            "reported": self._reported,
            "process_index": jax.process_index(),
            "process_count": jax.process_count(),
        }


def resolve(config: Config, dataset: Dataset) -> Config:
    """Returns `config` with what it leaves to the data filled in.

    Raises:
        UserError: the data contradicts the config; nothing was compiled yet.
    """
    wanted = config.model.num_classes
    if wanted and wanted != dataset.num_classes:
        raise UserError(
            f"config.model.num_classes is {wanted}, but {dataset.name} has {dataset.num_classes} "
            "classes: leave it at 0 to take the number from the data."
        )
    data = fill(config, dataset.channels, stored_size(dataset))
    if not data.image_size:
        raise UserError(
            f"the images of {dataset.name} may have any size: set config.data.image_size."
        )
    for field in ("mean", "std"):
        values = getattr(data, field)
        if len(values) not in (1, dataset.channels):
            raise UserError(
                f"config.data.{field} must have 1 number or one for each of the "
                f"{dataset.channels} channels of {dataset.name}; got {values}."
            )
    _check_geometry(config, dataset, data.image_size)
    model = dataclasses.replace(config.model, num_classes=dataset.num_classes)
    return dataclasses.replace(config, data=data, model=model)


def stored_size(dataset: Dataset) -> int | None:
    """Returns the larger side of the images of a set of arrays; None for files, of any size."""
    train = dataset.train
    return max(train.images.shape[1:3]) if isinstance(train, ArraySplit) else None


def fill(config: Config, channels: int, stored: int | None) -> DataConfig:
    """Returns config.data with images prepared as for the weights of `init_from`, if known.

    What the config says goes before. Arrays keep their size, and are not cropped. Where nothing
    says how large the images are to be, `image_size` is 0.

    Args:
        channels: of the data set.
        stored: its `stored_size`.
    """
    data, model = config.data, config.model.name
    known = preparation_of(config.init_from, model) if config.init_from else {}
    size, resize = data.image_size, data.resize
    if stored is not None:
        size = size or stored
    else:
        size = size or known.get("image_size", 0)
        resize = resize or (known.get("resize", 0) if size == known.get("image_size") else 0)
    own, values = data_config(data.source), {}
    for field in ("mean", "std"):
        found = getattr(data, field) or known.get(field) or getattr(own, field)
        one = channels == 1 and len(found) == 3 and not getattr(data, field)
        values[field] = (sum(found) / 3,) if one else found
    how = data.interpolation or known.get("interpolation", "bilinear")
    return dataclasses.replace(data, image_size=size, resize=resize, interpolation=how, **values)


def _check_geometry(config: Config, dataset: Dataset, size: int) -> None:
    """Refuses sizes that do not fit each other, and crops that the source never makes."""
    crop, resize = config.data.crop, config.data.resize
    if isinstance(dataset.train, ArraySplit) and (crop != "resize" or resize):
        raise UserError(
            f"config.data.crop and config.data.resize are for images from files; {dataset.name} "
            f"holds arrays of one size: leave them at 'resize' and 0; got {crop!r} and {resize}."
        )
    if 0 < resize < size:
        raise UserError(
            f"config.data.resize must be 0 or at least the image size ({size}); got {resize}."
        )
    if config.augment.shift >= size:
        raise UserError(
            f"config.augment.shift must be less than the image size ({size}); "
            f"got {config.augment.shift}."
        )
