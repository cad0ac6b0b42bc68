"""The optimiser of a run, put together from its config: clipping, algorithm, groups, freezing."""

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import optax
from flax import nnx

from flaxzoo.config import OptimizerConfig
from flaxzoo.errors import UserError, unknown
from flaxzoo.layers.module import named_variables
from flaxzoo.models.base import Classifier
from flaxzoo.training.clipping import clip_agc, clip_norm, clip_value
from flaxzoo.training.groups import (
    by_name,
    head_of,
    is_weight,
    matching,
    rate_factors,
    scale_each,
)
from flaxzoo.training.muon import muon
from flaxzoo.training.optimizers import adam, adamw, lamb, lars, lion, rmsprop, rmsprop_tf, sgd
from flaxzoo.training.schedule import Schedule

# Unset options have torch's and timm's defaults, except where nobody trains without momentum.
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": partial(sgd, momentum=0.9, weight_decay=1e-4),
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "rmsprop_tf": rmsprop_tf,
    "lamb": lamb,
    "lars": partial(lars, momentum=0.9),
    "lion": lion,
    "muon": muon,
}


def make_optimizer(
    config: OptimizerConfig, learning_rate: Schedule, model: Classifier
) -> optax.GradientTransformation:
    """Returns the optimiser that `config` describes, for the parameters of `model`.

    Gradients are clipped, over all that is trained together; the algorithm makes a step of them;
    each parameter's is scaled by the factor on its rate. Parameters that are frozen get updates of
    zero and have no state.

    Args:
        learning_rate: as a function of the number of steps taken.
        model: tells names, shapes and the order of layers; its values are not looked at, and it may
            have none.

    Raises:
        UserError: an unknown name, an option that the algorithm does not have, a pattern that
            matches nothing, nothing left to train.
    """
    if config.name not in OPTIMIZERS:
        raise unknown("optimizer", config.name, OPTIMIZERS)
    options = _options(config)
    shapes = {name: v.shape for name, v in named_variables(model, nnx.Param).items()}
    frozen = _in_any(config.freeze, shapes, "optimizer.freeze")
    trained = [name for name in shapes if name not in frozen]
    if not trained:
        raise UserError(f"config.optimizer.freeze={config.freeze} leaves nothing to train.")
    options["decays"] = _decaying(config, shapes, trained)
    if config.name == "muon":
        hidden = _hidden_matrices(model, shapes)
        options["matrices"] = {name: name in hidden for name in trained}
    parts = [*_clipping(config, model, trained), OPTIMIZERS[config.name](learning_rate, **options)]
    factors = rate_factors(model, shapes, config.layer_decay, config.rates)
    if any(factor != 1 for factor in factors.values()):
        parts.append(scale_each(factors))
    optimizer = optax.chain(*parts) if len(parts) > 1 else parts[0]
    return by_name({"trained": (trained, optimizer)}) if frozen else optimizer


def _options(config: OptimizerConfig) -> dict[str, Any]:
    """Returns what is set of the options that only some algorithms have.

    Raises:
        UserError: one that this algorithm lacks is set, to something that would do anything.
    """
    given = {f.name: getattr(config, f.name) for f in fields(config) if f.default is None}
    known = inspect.signature(OPTIMIZERS[config.name]).parameters
    for option, value in given.items():
        if value and option not in known:
            having = [o for o in given if o in known]
            raise UserError(
                f"config.optimizer.{option}={value!r} is nothing that {config.name} knows; its own "
                f"options are {', '.join(having)}."
            )
    return {o: value for o, value in given.items() if value is not None and o in known}


def _in_any(patterns: Sequence[str], names: Collection[str], field: str) -> set[str]:
    return {name for found in matching(patterns, names, field).values() for name in found}


def _decaying(
    config: OptimizerConfig, shapes: dict[str, tuple[int, ...]], trained: list[str]
) -> dict[str, bool]:
    exempt = _in_any(config.decay_exclude, shapes, "optimizer.decay_exclude")
    if config.decay_on == "weights":
        exempt |= {name for name, shape in shapes.items() if not is_weight(name, shape)}
    return {name: name not in exempt for name in trained}


def _hidden_matrices(model: Classifier, shapes: dict[str, tuple[int, ...]]) -> set[str]:
    """Returns the weights of hidden layers, not of the first and the last, nor of depthwise ones.

    Those have no matrix: one input makes one output.
    """
    ends = head_of(model, shapes) | {f"{model.first_conv}.kernel"}
    return {
        name for name, shape in shapes.items()
        if is_weight(name, shape) and min(shape[-2:]) > 1 and name not in ends
    }  # fmt: skip


def _clipping(
    config: OptimizerConfig, model: Classifier, trained: list[str]
) -> list[optax.GradientTransformation]:
    """Returns the one clipping that is asked for, or none."""
    if config.clip_norm:
        return [clip_norm(config.clip_norm)]
    if config.clip_value:
        return [clip_value(config.clip_value)]
    if config.clip_agc:
        return [clip_agc(config.clip_agc, but=head_of(model, trained))]
    return []
