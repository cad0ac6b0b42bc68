"""Proves that a model is the same function as its PyTorch twin: forward, backward and in training.

Both get the same weights and images; what they return is compared stage by stage. The weights are
calibrated, so that a mistake shows: every parameter is random, and the running statistics are those
of a real forward pass. (With near-default weights a wrong BatchNorm eps moved MobileNetV3's logits
by 2e-5; with calibrated ones by 224.)

This package is the only one of flaxzoo that imports torch, and only when it is called.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxzoo.convert import to_torch_layout, torch_name
from flaxzoo.errors import unknown
from flaxzoo.losses import cross_entropy
from flaxzoo.models.base import integer
from flaxzoo.parity.twins import LIBRARIES, Twins, make_twins
from flaxzoo.training.optimizer import sgd
from flaxzoo.training.state import split_model

if TYPE_CHECKING:
    import torch

KINDS = ("forward", "gradient", "training")

# The largest error allowed, one figure for each dtype and kind, for all models. Measured over
# ResNet-18, ResNet-50 and ResNeXt-50 at 64 pixels, float64 stays below 1e-14, 6e-13 and 3e-15, so
# that a larger gap is a semantic bug. float32 stays below 5e-6, 2e-4 and 3e-5 in most cases. But a
# unit that rounding moves over the kink of its ReLU passes its gradient in one framework and not in
# the other: of eight comparisons one or two have such a unit, and gradients 2e-2 apart. torch in
# float32 is then as far from torch in float64.
TOLERANCES = {
    "float64": {"forward": 1e-9, "gradient": 1e-9, "training": 1e-9},
    "float32": {"forward": 1e-4, "gradient": 5e-2, "training": 1e-2},
}
TRAINING_RATE = 1e-3


@dataclass(frozen=True)
class Difference:
    """How far one tensor of the two frameworks is apart, relative to its size: see `difference`."""

    kind: str  # "forward", "gradient" or "training"
    name: str
    error: float
    allowed: float

    @property
    def equal(self) -> bool:
        return self.error <= self.allowed  # False for NaN


@dataclass
class Report:
    """What `compare` found; `equal` only if every difference is within tolerance."""

    model: str
    dtype: str
    image_size: tuple[int, int]
    differences: list[Difference] = field(default_factory=list)

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
    name: str,
    *,
    against: str = "torch_ref",
    dtype: str = "float64",
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 2,
    seed: int = 0,
    train_steps: int = 3,
    **options: Any,
) -> Report:
    """Compares variant `name` with its PyTorch twin.

    Args:
        against: whose twin, one of LIBRARIES: ours, or torchvision's or timm's own model.
        dtype: "float64" (semantics; needs jax_enable_x64) or "float32" (at `highest` precision).
        image_size: height and width of the images, or one number for both; by default 64, or the
            least that the model takes in training.
        train_steps: compare so many SGD steps, too: gradients, parameters, running statistics.
        **options: passed to both create_model functions.

    Raises:
        UserError: a value that cannot be compared with, or the library is not installed.
    """
    train_steps = integer("train_steps", train_steps, 0)
    if dtype not in TOLERANCES:
        raise unknown("dtype", dtype, TOLERANCES)
    if against not in LIBRARIES:
        raise unknown("library", against, LIBRARIES)
    twins = make_twins(
        name, against=against, dtype=dtype, image_size=image_size, batch_size=batch_size,
        seed=seed, **options,
    )  # fmt: skip
    report = Report(name, dtype, twins.images.shape[1:3])
    with jax.default_matmul_precision("highest"):
        report.differences += compare_forward(twins, dtype)
        if train_steps:
            report.differences += compare_training(twins, dtype, train_steps)
    return report


def compare_forward(twins: Twins, dtype: str) -> list[Difference]:
    """Compares every stage's features and the logits, in evaluation mode."""
    model_def, params, batch_stats = split_model(twins.flax_model)
    names: list[str] = []  # in the model's order: jit returns dicts sorted

    @jax.jit
    def forward(params, batch_stats, images):
        model = model_def.bind(params, batch_stats)
        model.eval()
        stages = model.feature_maps(images)
        names[:] = [*stages, "logits"]
        return stages | {"logits": model(images)}

    ours = forward(params, batch_stats, twins.images)
    if twins.against != "torch_ref":  # timm's modules are not all torchvision's
        modules = dict(twins.torch_model.named_modules())
        names = [name for name in names if name in modules or name == "logits"]
    theirs = torch_stages(twins.torch_model.eval(), names[:-1], twins.torch_images)
    differences = []
    for name in names:
        got = np.asarray(ours[name])
        if got.ndim == 4 and not twins.channels_last:
            got = got.transpose(0, 3, 1, 2)
        differences.append(difference("forward", name, got, theirs[name], dtype))
    logits = theirs["logits"]
    if not np.abs(logits[0] - logits[1]).max() > 1e-3 * np.abs(logits).max():
        raise AssertionError("the logits hardly depend on the image: nothing would be compared.")
    return differences


def torch_stages(
    model: "torch.nn.Module", names: list[str], images: "torch.Tensor"
) -> dict[str, np.ndarray]:
    """Returns the outputs of the named modules of `model`, and its logits."""
    import torch

    outputs: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable:
        return lambda _module, _inputs, output: outputs.update({name: output.numpy().copy()})

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        with torch.no_grad():
            logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    return outputs | {"logits": logits.numpy()}


def compare_training(twins: Twins, dtype: str, steps: int) -> list[Difference]:
    """Compares SGD with momentum and weight decay, in training mode.

    First the gradient of every parameter in the first step, then parameters and running statistics
    after `steps` steps.
    """
    hyper = {"momentum": 0.9, "weight_decay": 1e-2}
    grads, ours = train(twins, steps, TRAINING_RATE, **hyper)
    torch_grads, theirs = train_torch(twins, steps, TRAINING_RATE, **hyper)
    # A gradient that is truly zero (of a bias that the next normalisation removes) is rounding
    # error in both: gradients are relative to a thousandth of the model's largest, at least.
    floor = 1e-3 * max(map(_root_mean_square, torch_grads.values()))
    pairs = [("gradient", grads, torch_grads, floor), ("training", ours, theirs, 0.0)]
    return [
        difference(kind, torch_name(name), to_torch_layout(name, np.asarray(value)),
                   reference[torch_name(name)], dtype, floor)
        for kind, arrays, reference, floor in pairs
        for name, value in arrays.items()
    ]  # fmt: skip


def train(
    twins: Twins, steps: int, learning_rate: float, **hyper: Any
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Returns the flaxzoo twin's first gradients, and its arrays after `steps` of SGD."""
    tx = sgd(lambda _: learning_rate, **hyper)
    model_def, params, batch_stats = split_model(twins.flax_model)

    @jax.jit
    def step(params, batch_stats, opt_state, images, labels):
        def loss(params):
            model = model_def.bind(params, batch_stats)
            model.train()
            logits, aux = model.forward_train(images)
            loss = cross_entropy(logits, labels)
            for head in aux:
                loss += model.aux_weight * cross_entropy(aux[head], labels)
            return loss, model_def.batch_stats_of(model)

        grads, batch_stats = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return grads, jax.tree.map(jnp.add, params, updates), batch_stats, opt_state

    opt_state, first = tx.init(params), None
    for _ in range(steps):
        grads, params, batch_stats, opt_state = step(
            params, batch_stats, opt_state, twins.images, twins.labels
        )
        first = first or grads
    return first or {}, params | batch_stats


def train_torch(
    twins: Twins, steps: int, learning_rate: float, **hyper: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the same of the torch twin, which itself is not moved."""
    import torch

    model = copy.deepcopy(twins.torch_model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, **hyper)
    images, labels = twins.torch_images, torch.from_numpy(twins.labels)
    parameters: dict[str, Any] = dict(model.named_parameters())
    first: dict[str, np.ndarray] = {}
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = model(images)
        logits, *aux = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        for head in aux:
            loss += twins.flax_model.aux_weight * torch.nn.functional.cross_entropy(head, labels)
        loss.backward()
        first = first or {k: p.grad.numpy().copy() for k, p in parameters.items()}
        optimizer.step()
    return first, {key: value.numpy() for key, value in model.state_dict().items()}


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
