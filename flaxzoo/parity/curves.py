"""The losses of both twins in a longer training: same data, same start, nothing drawn at random.

Both start from the torch model's own initial values and see the bundled digits, another batch in
every step. In float64 alone: a training amplifies rounding, and float32 has too much of it for two
curves to stay together.

One thing is not as initialised: the biases of batch normalisation start at NORM_BIAS. At 0 they put
half of the units below the kinks of their ReLUs, where gradients explode through a deep network:
MobileNetV2 then amplifies rounding 50-fold in each of its first steps, at any learning rate, and
torch's own losses, with every weight moved by one unit in the last place, are 0.5 apart after 200
steps. At 1 they are 1e-13 apart after 40.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flaxzoo import data
from flaxzoo.convert import load_torch
from flaxzoo.errors import UserError
from flaxzoo.parity.training import Batches, train, train_torch
from flaxzoo.parity.twins import Twins, make_twins

BATCH_SIZE = 16
LEARNING_RATE = 1e-3
NORM_BIAS = 1.0
HYPER = {"momentum": 0.9, "weight_decay": 1e-4}


@dataclass(frozen=True)
class LossCurves:
    """The losses of both twins in every step, in nats (steps,).

    Attributes:
        rounding: how far torch's own losses are apart (steps,) where every weight starts one unit
            in the last place higher or lower; None where that was not asked.
    """

    ours: np.ndarray
    theirs: np.ndarray
    rounding: np.ndarray | None = None

    @property
    def gap(self) -> np.ndarray:
        return np.abs(self.ours - self.theirs)

    def __str__(self) -> str:
        return (
            f"loss from {self.theirs[0]:.4f} to {self.theirs[-1]:.4f} in {len(self.ours)} steps: "
            f"{self.gap[-1]:.1e} apart at the last, {self.gap.max():.1e} at most"
        )


def compare_losses(
    name: str,
    steps: int,
    *,
    batch_size: int | None = None,
    learning_rate: float = LEARNING_RATE,
    norm_bias: float = NORM_BIAS,
    rounding: bool = False,
    **options: Any,
) -> LossCurves:
    """Trains variant `name` and its PyTorch twin for so many steps of SGD, in float64.

    Args:
        batch_size: of a step; by default BATCH_SIZE.
        norm_bias: what the biases of batch normalisation start at; 0 is as initialised.
        rounding: also train torch against itself, to see what this training makes of rounding.
        **options: what `make_twins` takes beside: against, image_size, seed, options of the model.

    Raises:
        UserError: the model has fewer classes than the digits, or what `compare` refuses.
    """
    batch_size = batch_size or BATCH_SIZE
    twins = make_twins(name, dtype="float64", batch_size=batch_size, calibrated=False, **options)
    _start_norms_at(norm_bias, twins)
    batches = digit_batches(twins, steps, options.get("seed", 0))
    ours = train(twins.flax_model, batches, learning_rate, **HYPER).losses
    theirs = train_torch(twins, batches, learning_rate, **HYPER).losses
    if not rounding:
        return LossCurves(ours, theirs)
    _move_by_one_ulp(twins)
    moved = train_torch(twins, batches, learning_rate, **HYPER).losses
    return LossCurves(ours, theirs, np.abs(moved - theirs))


def digit_batches(twins: Twins, steps: int, seed: int) -> Batches:
    """Returns the bundled digits in batches of the shape of `twins.images`.

    Pixels are repeated to the size and the channels. The images of a step depend on (seed, step).
    """
    count, height, width, channels = twins.images.shape
    digits = data.load("digits", validation=0)
    if twins.flax_model.num_classes < digits.num_classes:
        raise UserError(
            f"the losses of a long training are those of {digits.num_classes} digits; this model "
            f"has {twins.flax_model.num_classes} classes."
        )
    split: Any = digits.train  # in memory
    images, labels = split.images, split.labels.astype(np.int64)
    side = images.shape[1]
    rows, columns = (np.arange(n) * side // n for n in (height, width))
    mean, deviation = images.mean(), images.std()

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for step in range(steps):
            chosen = np.random.default_rng([seed, step]).choice(len(images), count, replace=False)
            grey = (images[chosen][:, rows][:, :, columns] - mean) / deviation
            yield np.repeat(grey, channels, axis=-1), labels[chosen]

    return list(batches())


def _start_norms_at(bias: float, twins: Twins) -> None:
    import torch

    norms: list[Any] = [m for m in twins.torch_model.modules() if hasattr(m, "running_mean")]
    for norm in norms:
        torch.nn.init.constant_(norm.bias, bias)
    load_torch(twins.flax_model, twins.torch_model.state_dict())


def _move_by_one_ulp(twins: Twins) -> None:
    import torch

    rng = np.random.default_rng(0)
    with torch.no_grad():
        for parameter in twins.torch_model.parameters():
            value = parameter.numpy()
            parameter.copy_(
                torch.from_numpy(np.nextafter(value, rng.choice([-np.inf, np.inf], value.shape)))
            )


def plot_losses(curves: dict[str, LossCurves], path: str | Path | BinaryIO) -> None:
    """Draws both losses of each model, and below how far they are apart, into a picture.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # the figure class alone: no window, no global state

    figure = Figure(figsize=(3.2 * max(2, len(curves)), 4.8), layout="constrained")
    rows = figure.subplots(2, len(curves), sharex=True, sharey="row", squeeze=False)
    for (title, curve), upper, lower in zip(curves.items(), *rows, strict=True):
        steps = np.arange(1, len(curve.ours) + 1)
        upper.plot(steps, curve.theirs, label="torch", linewidth=2.5, color="silver")
        upper.plot(steps, curve.ours, label="flaxzoo", linewidth=0.8, color="tab:blue")
        upper.set_title(title)
        # What is equal to the bit has no place on a logarithmic axis.
        if curve.rounding is not None:
            moved = np.maximum(curve.rounding, 1e-17)
            label = "torch, moved by one ulp"
            lower.semilogy(steps, moved, label=label, linewidth=2.5, color="silver")
        gap = np.maximum(curve.gap, 1e-17)
        lower.semilogy(steps, gap, label="flaxzoo", linewidth=0.8, color="tab:blue")
        lower.set_xlabel("step")
        for axes in (upper, lower):
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
    rows[0, 0].set_ylabel("loss")
    rows[1, 0].set_ylabel("apart from torch")
    for axes in rows[:, 0]:
        axes.legend(frameon=False)
    try:
        figure.savefig(path, dpi=100)
    except (OSError, ValueError) as error:  # ValueError: a format that matplotlib does not know
        raise UserError(f"cannot write the plot {path}: {error}") from None
