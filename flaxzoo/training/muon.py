"""Muon: steps whose matrices are orthogonal."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flaxzoo.errors import unknown
from flaxzoo.training.clipping import is_kernel, norm_of
from flaxzoo.training.groups import by_name
from flaxzoo.training.optimizers import Mask, adamw, decay_weights
from flaxzoo.training.schedule import Schedule


def muon(
    learning_rate: Schedule,
    *,
    matrices: Mapping[str, bool],
    momentum: float = 0.95,
    nesterov: bool = True,
    adjust_lr_fn: str = "match_rms_adamw",
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.1,
    decays: Mapping[str, bool] | None = None,
) -> optax.GradientTransformation:
    """torch.optim.Muon on `matrices`, torch.optim.AdamW (with `betas`) on all other parameters.

    Jordan 2024, https://kellerjordan.github.io/posts/muon: momentum, whose singular values are then
    made about 1; decoupled decay. The kernel of a convolution is the matrix that takes a patch to
    its outputs, as in timm.optim.Muon. Two departures from torch: it rounds the iteration that
    does this to bfloat16, here it runs in the gradient's type; and its default for `adjust_lr_fn`
    is "original". (optax.contrib.muon corrects the bias of the momentum: another algorithm.)

    Args:
        matrices: the parameters that are orthogonalised, by name: True or False for each.
        adjust_lr_fn: "original" for sqrt(max(1, outputs / inputs)) times the rate, or
            "match_rms_adamw" for 0.2 sqrt(max(outputs, inputs)) times the rate, which makes the
            steps as long as AdamW's, so that one rate serves both.

    Raises:
        UserError: another `adjust_lr_fn`.
    """
    if adjust_lr_fn not in _MUON_SCALES:
        raise unknown("adjust_lr_fn", adjust_lr_fn, _MUON_SCALES)
    hidden = [name for name, is_matrix in matrices.items() if is_matrix]
    others = [name for name, is_matrix in matrices.items() if not is_matrix]

    def decaying(names: list[str]) -> Mask:
        return None if decays is None else {name: decays[name] for name in names}

    orthogonal = optax.chain(
        _averaged(momentum, nesterov),
        optax.stateless(lambda updates, _: _orthogonalised(updates, _MUON_SCALES[adjust_lr_fn])),
        decay_weights(weight_decay, decaying(hidden)),
        optax.scale_by_learning_rate(learning_rate),
    )
    rest = adamw(learning_rate, betas=betas, weight_decay=weight_decay, decays=decaying(others))
    return by_name({"matrices": (hidden, orthogonal), "others": (others, rest)})


_MUON_SCALES: dict[str, Callable[[int, int], float]] = {  # of (outputs, inputs)
    "original": lambda outputs, inputs: max(1.0, outputs / inputs) ** 0.5,
    "match_rms_adamw": lambda outputs, inputs: 0.2 * max(outputs, inputs) ** 0.5,
}
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's: steep at 0 rather than exact at 1


class AveragedState(NamedTuple):
    """The exponential moving average of the gradients."""

    average: Any


def _averaged(momentum: float, nesterov: bool) -> optax.GradientTransformation:
    """Replaces gradients by their moving average, or by the mean of it and them (nesterov)."""

    def mixed(old: Array, new: Array) -> Array:
        return momentum * old + (1 - momentum) * new

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AveragedState]:
        del params
        average = jax.tree.map(mixed, state.average, updates)
        moved = jax.tree.map(mixed, average, updates) if nesterov else average
        return moved, AveragedState(average)

    return optax.GradientTransformation(
        lambda params: AveragedState(optax.tree.zeros_like(params)), update
    )


def _orthogonalised(updates: Any, scale: Callable[[int, int], float]) -> Any:
    moved = {}
    for name, update in updates.items():
        last = is_kernel(name)
        outputs = update.shape[-1 if last else 0]
        matrix = update.reshape((-1, outputs) if last else (outputs, -1))
        inputs = matrix.size // outputs
        moved[name] = _newton_schulz(matrix).reshape(update.shape) * scale(outputs, inputs)
    return moved


def _newton_schulz(x: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """Returns the matrix with its singular values brought to about 1, in five iterations.

    The same for the transpose, and for rows and columns in another order: layouts do not matter.
    """
    a, b, c = _NEWTON_SCHULZ
    if x.shape[0] > x.shape[1]:
        return _newton_schulz(x.T).T
    x = x / jnp.maximum(norm_of(x), 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
