"""Groups of parameters: by pattern, by depth, by what they are.

Patterns are regular expressions that are searched for in torch's names, the ones that state_dicts
show: "^layer1[.]" is in "layer1.0.conv1.weight", and "bn" in that of every such normalisation.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import optax
from flax import nnx

from flaxzoo.convert import torch_name
from flaxzoo.errors import UserError
from flaxzoo.models.base import Classifier
from flaxzoo.parameters import find


def by_name(
    parts: Mapping[str, tuple[Collection[str], optax.GradientTransformation]],
) -> optax.GradientTransformation:
    """Applies each of `parts` to the parameters of its names; all others get zeros and no state.

    Parameters are flat dicts. What a part does over all parameters, like a norm, it does over its
    own. (optax.partition does the same for any pytree, with placeholders in all the states.)
    """

    def select(tree: Mapping[str, Any] | None, names: Collection[str]) -> Any:
        return None if tree is None else {name: tree[name] for name in names}

    def init(params: Any) -> dict[str, Any]:
        return {part: tx.init(select(params, names)) for part, (names, tx) in parts.items()}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        moved: dict[str, Any] = {}
        states = {}
        for part, (names, tx) in parts.items():
            new: Any
            new, states[part] = tx.update(
                select(updates, names), state[part], select(params, names)
            )
            moved |= new
        return {n: moved[n] if n in moved else jnp.zeros_like(updates[n]) for n in updates}, states

    return optax.GradientTransformation(init, update)


def matching(patterns: Sequence[str], names: Collection[str], field: str) -> dict[str, list[str]]:
    """Returns, for each pattern, those of the flaxzoo `names` in whose torch names it is found.

    Raises:
        UserError: a pattern is no regular expression or is found in no name; `field` tells where it
            was written.
    """
    return {pattern: find(pattern, names, f"config.{field}") for pattern in patterns}


def is_weight(name: str, shape: tuple[int, ...]) -> bool:
    """Whether this is the matrix or kernel of a layer: torch calls it a weight, and it has axes.

    Biases, scales of normalisations and of branches, tokens and tables of positions are not.
    """
    return len(shape) > 1 and torch_name(name).endswith("weight")


def head_of(model: Classifier, names: Collection[str], *, whole: bool = False) -> set[str]:
    """Returns the names in the layers whose outputs are classes, auxiliary heads' included.

    With `whole`, all that is in a top-level module with such a layer: VGG's whole classifier.
    """
    roots = [head.partition(".")[0] if whole else head for head in model.head_names]
    return {name for name in names if any(name.startswith(f"{root}.") for root in roots)}


# Up to the first module with a digit, and on through numbers: "0", "blocks.0" and "block1-0".
_LAYER = re.compile(r"(?:[^.\d]+\.)*[^.]*\d[^.]*(?:\.(?:blocks\.)?(?:[^.]*-)?\d+)*(?=\.)")


def layers_of(model: Classifier) -> list[list[str]]:
    """Returns the names of the parameters of `model`, layer by layer, from the stem to the head.

    A layer is what has the same name up to its first numbered module and the numbers that follow:
    layer1.0, features.3.1, stages.2.blocks.0, encoder.layers.encoder_layer_7, inception4b. These
    are the blocks, and of plain nets the convolutions. Their order is that in which the model
    declares them, as torch's does. What has no such name, or no weights but only a normalisation,
    tokens or tables, belongs to the layer before it, or to the stem. The head, with all that is in
    the same top-level module and with auxiliary heads, is the last layer. For ViT these are BEiT's
    layers (Bao et al. 2021, https://arxiv.org/abs/2106.08254).
    """
    shapes = dict(_declared(model))
    head = head_of(model, shapes, whole=True)
    key_of = {name: match[0] if (match := _LAYER.match(name)) else "" for name in shapes}
    weighty = {key_of[name] for name, shape in shapes.items() if is_weight(name, shape)} - {""}
    layers: dict[str, list[str]] = {}
    current = "stem"
    for name in shapes:
        if name not in head:
            current = key_of[name] if key_of[name] in weighty else current
            layers.setdefault(current, []).append(name)
    return [*layers.values(), sorted(head)]


def _declared(node: nnx.Module, prefix: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields the names and shapes of the parameters of a module in the order it declares them."""
    for attribute, value in vars(node).items():
        if isinstance(value, nnx.Param):
            yield prefix + attribute, value.shape
        elif isinstance(value, nnx.Module):
            yield from _declared(value, f"{prefix}{attribute}.")


def rate_factors(
    model: Classifier, names: Collection[str], layer_decay: float, rates: Sequence[str]
) -> dict[str, float]:
    """Returns what each parameter's learning rate is multiplied by.

    Args:
        layer_decay: once for each layer between the parameter's and the head.
        rates: "PATTERN=FACTOR"; where several patterns are found in a name, all of their factors.

    Raises:
        UserError: a rate is written otherwise, or its pattern is found nowhere.
    """
    factors = dict.fromkeys(names, 1.0)
    if layer_decay != 1:
        for depth, layer in enumerate(reversed(layers_of(model))):
            factors |= {name: layer_decay**depth for name in layer if name in factors}
    for rate in rates:
        pattern, _, factor = rate.rpartition("=")
        for name in matching([pattern], names, "optimizer.rates")[pattern]:
            factors[name] *= _factor(factor, rate)
    return factors


def _factor(text: str, rate: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf") or rate.startswith("="):
        raise UserError(
            "config.optimizer.rates are written PATTERN=FACTOR, with a factor above 0, like "
            f"'^fc=10'; got {rate!r}."
        )
    return factor


def scale_each(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies the update of each parameter, and with it its learning rate, by its factor."""

    def update(updates: Any, params: Any) -> Any:
        del params
        return {name: u * factors[name] for name, u in updates.items()}

    return optax.stateless(update)
