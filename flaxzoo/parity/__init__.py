"""Proves that a model is the same function as its PyTorch twin: forward, backward and in training.

Both get the same weights and images; what they return is compared block by block. The weights are
calibrated, so that a mistake shows: every parameter is random, and the running statistics are those
of a real forward pass. (With near-default weights a wrong BatchNorm eps moved MobileNetV3's logits
by 2e-5; with calibrated ones by 224.)

This package is the only one of flaxzoo that imports torch, and only when it is called.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from flaxzoo.arguments import integer, one_of
from flaxzoo.errors import UserError
from flaxzoo.models import VARIANTS
from flaxzoo.parity.curves import LossCurves, compare_losses
from flaxzoo.parity.features import our_features, torch_features
from flaxzoo.parity.training import Batches, Trained, train, train_torch
from flaxzoo.parity.twins import LIBRARIES, Twins, make_twins, one_thread

KINDS = ("forward", "gradient", "training", "loss")

# The largest error allowed, one figure for each dtype and kind, for all models. Measured over
# ResNet-18, ResNet-50 and ResNeXt-50 at 64 pixels, float64 stays below 1e-14, 6e-13 and 3e-15, so
# that a larger gap is a semantic bug. float32 stays below 5e-6, 2e-4 and 3e-5 in most cases. But a
# unit that rounding moves over the kink of its ReLU passes its gradient in one framework and not in
# the other: of eight comparisons one or two have such a unit, and gradients 2e-2 apart. torch in
# float32 is then as far from torch in float64. Where these figures are exceeded, float64 decides:
# see `compare_with_float64`. A loss is in nats, and compared in every step of a long training.
TOLERANCES = {
    "float64": {"forward": 1e-9, "gradient": 1e-9, "training": 1e-9, "loss": 1e-6},
    "float32": {"forward": 1e-4, "gradient": 5e-2, "training": 1e-2},
}
TRAINING_RATE = 1e-3
TRAINING_HYPER = {"momentum": 0.9, "weight_decay": 1e-2}
# The most steps after which parameters are compared: from calibrated weights, on two images, each
# step amplifies rounding. Longer trainings are compared by their losses.
CALIBRATED_STEPS = 10
ROUNDED_RUNS = 4  # of torch in float32, to measure what rounding does there


@dataclass(frozen=True)
class Difference:
    """How far one tensor of the two frameworks is apart, relative to its size: see `difference`."""

    kind: str  # one of KINDS
    name: str
    error: float
    allowed: float
    shape: tuple[int, ...] = ()  # of features, as flaxzoo has them

    @property
    def equal(self) -> bool:
        return self.error <= self.allowed  # False for NaN


@dataclass
class Report:
    """What `compare` found; `equal` only if every difference is within tolerance.

    Attributes:
        weights: what the values were read from; "" where they are calibrated.
        losses: those of both twins, where the training was long.
        rounding: where torch in float64 had to decide about float32, by kind: the largest error of
            torch's own float32, which is then what is allowed.
    """

    model: str
    dtype: str
    image_size: tuple[int, int]
    against: str = "torch_ref"
    weights: str = ""
    differences: list[Difference] = field(default_factory=list)
    losses: LossCurves | None = None
    rounding: dict[str, float] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return bool(self.differences) and all(d.equal for d in self.differences)

    @property
    def failures(self) -> list[Difference]:
        return [d for d in self.differences if not d.equal]

    def worst(self, kind: str) -> float:
        """Returns the largest error of a kind, NaN if one is, and 0 where none was compared."""
        return float(np.max([d.error for d in self.differences if d.kind == kind], initial=0.0))


def compare(
    name: str | object,
    *,
    against: str | object = "torch_ref",
    dtype: str | object = "float64",
    image_size: int | tuple[int, int] | object | None = None,
    batch_size: int | object | None = None,
    seed: int | object = 0,
    train_steps: int | object = 3,
    **options: Any,
) -> Report:
    """Compares variant `name` with its PyTorch twin.

    Args:
        against: whose twin, one of LIBRARIES: ours, or torchvision's or timm's own model.
        dtype: "float64" (semantics; needs jax_enable_x64) or "float32" (at `highest` precision).
        image_size: height and width of the images, or one number for both; by default 64, or the
            least that the model takes in training.
        batch_size: by default 2, and 16 where losses are compared.
        train_steps: compare so many SGD steps, too: gradients, parameters, running statistics. More
            than CALIBRATED_STEPS compare those after three, and in float64 the losses of so many
            steps from the model's initial values (see `flaxzoo.parity.curves`).
        **options: passed to both create_model functions; but `weights`, what
            `create_model(pretrained=...)` takes, are compared instead of calibrated ones.

    Raises:
        UserError: a value that cannot be compared with, or the library is not installed.
    """
    name, against = one_of("model", name, VARIANTS), one_of("library", against, LIBRARIES)
    dtype, seed = one_of("dtype", dtype, TOLERANCES), integer("seed", seed, 0)
    train_steps = integer("train_steps", train_steps, 0)
    batch_size = None if batch_size is None else integer("batch_size", batch_size, 2)
    long = train_steps > CALIBRATED_STEPS
    if long and options.get("weights") is not None:
        raise UserError(
            f"more than {CALIBRATED_STEPS} training steps start from initial values, not from "
            f"given weights; got {train_steps}."
        )
    options |= {"image_size": image_size, "seed": seed}
    (report,) = compare_with_each(
        name,
        [against],
        dtype=dtype,
        batch_size=2 if batch_size is None else batch_size,
        train_steps=3 if long else train_steps,
        **options,
    )
    if long and dtype == "float64":
        with one_thread():
            report.losses = compare_losses(
                name, train_steps, batch_size=batch_size, against=against, **options
            )
        report.differences += loss_differences(report.losses)
    return report


def compare_with_each(
    name: str, libraries: Sequence[str], *, dtype: str, train_steps: int, **options: Any
) -> Iterator[Report]:
    """Yields what `compare` finds with the twin of each of `libraries`, in turn.

    All have the same weights and images, and what flaxzoo makes of them is computed once.
    `options` are what `make_twins` takes.
    """
    one_of("dtype", dtype, TOLERANCES)
    for library in libraries:
        one_of("library", library, LIBRARIES)
    with one_thread(), jax.default_matmul_precision("highest"):
        first, *others = libraries
        twins = make_twins(name, against=first, dtype=dtype, **options)
        batches = [(twins.images, twins.labels)] * train_steps
        features, stages = our_features(twins)
        trained = (
            train(twins.flax_model, batches, TRAINING_RATE, **TRAINING_HYPER) if batches else None
        )
        for library in libraries:
            if library in others:
                twins = twins.of_another(library)
            given = str(options.get("weights") or "")
            report = Report(name, dtype, twins.images.shape[1:3], library, given)
            report.differences += compare_forward(twins, features, stages, dtype)
            if trained:
                found, report.rounding = compare_training(twins, trained, batches, dtype)
                report.differences += found
            yield report


def compare_forward(
    twins: Twins, ours: dict[str, np.ndarray], stages: Collection[str], dtype: str
) -> list[Difference]:
    """Compares the logits and every feature that both have, in evaluation mode, in our order.

    Stages are in both, except that timm's modules are not all torchvision's. Of blocks those are
    compared that the torch model has under the same name and with the same shape.
    """
    theirs = torch_features(twins.torch_model.eval(), ours, twins.torch_images)
    needed = {*stages, "logits"} if twins.against == "torch_ref" else {"logits"}
    for name in needed - theirs.keys():
        raise AssertionError(f"the twin has no module {name}, whose output is a stage.")
    differences = []
    for name, value in ours.items():
        got = value
        if got.ndim == 4 and not twins.channels_last:
            got = got.transpose(0, 3, 1, 2)
        if name in theirs and (got.shape == theirs[name].shape or name in needed):
            found = difference("forward", name, got, theirs[name], dtype)
            differences.append(replace(found, shape=value.shape))
    logits = theirs["logits"]
    if not np.abs(logits[0] - logits[1]).max() > 1e-3 * np.abs(logits).max():
        raise AssertionError("the logits hardly depend on the image: nothing would be compared.")
    return differences


def compare_training(
    twins: Twins, ours: Trained, batches: Batches, dtype: str
) -> tuple[list[Difference], dict[str, float]]:
    """Compares SGD with momentum and weight decay, in training mode.

    First the gradient of every parameter in the first step, then parameters and running statistics
    after the last. Returns what it found, and `Report.rounding`.
    """
    theirs = train_torch(twins, batches, TRAINING_RATE, **TRAINING_HYPER)
    found = training_differences(ours, theirs, dtype)
    if dtype == "float32" and not all(d.equal for d in found):
        return compare_with_float64(twins, ours, batches)
    return found, {}


def training_differences(ours: Trained, theirs: Trained, dtype: str) -> list[Difference]:
    """Compares two trainings from the same weights on the same batches."""
    # A gradient that is truly zero (of a bias that the next normalisation removes) is rounding
    # error in both: gradients are relative to a thousandth of the model's largest, at least.
    floor = 1e-3 * max(map(_root_mean_square, theirs.gradients.values()))
    gradients = [
        difference("gradient", name, value, theirs.gradients[name], dtype, floor)
        for name, value in ours.gradients.items()
    ]
    return gradients + [
        difference("training", name, value, theirs.arrays[name], dtype)
        for name, value in ours.arrays.items()
    ]


def compare_with_float64(
    twins: Twins, ours: Trained, batches: Batches
) -> tuple[list[Difference], dict[str, float]]:
    """Compares a training in float32 with torch's in float64 from the same weights.

    What is allowed is measured: the largest error that torch's own float32 has, in ROUNDED_RUNS
    runs, all but the first on images moved by about one unit in the last place. A kink within
    rounding's reach of some unit then shows in torch as well.
    """
    exact_batches = [(images.astype(np.float64), labels) for images, labels in batches]
    exact = train_torch(twins.in_float64(), exact_batches, TRAINING_RATE, **TRAINING_HYPER)
    rounding = {"gradient": 0.0, "training": 0.0}
    for run in range(ROUNDED_RUNS):
        signs = np.random.default_rng(run).choice([-1, 1], batches[0][0].shape) if run else 0
        moved = [
            ((images * (1 + signs * 2.0**-23)).astype(np.float32), labels)
            for images, labels in batches
        ]
        rounded = train_torch(twins, moved, TRAINING_RATE, **TRAINING_HYPER)
        for d in training_differences(rounded, exact, "float32"):
            rounding[d.kind] = max(rounding[d.kind], d.error)
    found = training_differences(ours, exact, "float32")
    return [replace(d, allowed=max(d.allowed, rounding[d.kind])) for d in found], rounding


def loss_differences(curves: LossCurves) -> list[Difference]:
    """Returns how far the losses are apart at the last step, and where they are most."""
    worst = int(np.argmax(curves.gap))  # the first NaN, if there is one
    allowed = TOLERANCES["float64"]["loss"]
    return [
        Difference("loss", f"of step {i + 1}", float(curves.gap[i]), allowed)
        for i in sorted({worst, len(curves.gap) - 1})
    ]


def difference(
    kind: str, name: str, ours: np.ndarray, theirs: np.ndarray, dtype: str, floor: float = 0.0
) -> Difference:
    """Returns how far `ours` is from `theirs`, relative to `theirs` or to elements of size `floor`.

    It is the largest difference over the largest value; for gradients the root mean squares, since
    a single unit on the other side of a kink moves single elements by much more than the rest.
    """
    if ours.shape != theirs.shape:
        raise AssertionError(f"{kind} {name}: shape {ours.shape}, torch has {theirs.shape}.")
    size = _root_mean_square if kind == "gradient" else _largest
    scale = max(size(theirs), floor)
    error = size(ours - theirs) / (scale if scale > 0 else 1.0)
    return Difference(kind, name, float(error), TOLERANCES[dtype][kind])


def _largest(x: np.ndarray) -> float:
    return float(np.abs(x).max())


def _root_mean_square(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))
