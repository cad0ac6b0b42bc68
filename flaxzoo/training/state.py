"""The state of a run as one plain pytree, and the model without its arrays."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from flaxzoo.config import Config
from flaxzoo.layers.module import named_variables, value_of
from flaxzoo.training.loss_scale import first_scale

Arrays = dict[str, Any]  # by dotted name; leaves may also be shapes or shardings, as in any pytree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that changes from step to step.

    Arrays are kept by dotted name in flat dicts, `{"layer1.0.conv1.kernel": ...}`: it is what
    checkpoints show and what patterns match, and jax.jit dispatches it 20 times faster than a tree
    of nnx modules. What a run does without is None.
    """

    step: Any  # int32, the number of batches seen
    params: Arrays
    batch_stats: Any  # Arrays; orbax puts a leaf of its own in the place of an empty dict
    opt_state: Any
    ema: Any = None  # {"params", "batch_stats"}, averaged over the steps
    loss_scale: Any = None  # {"scale", "good_steps"}, of float16
    plateau: Any = None  # what flaxzoo.training.plateau remembers of earlier evaluations

    def replace(self, **fields: Any) -> "TrainState":
        """Returns a copy with other `fields`."""
        return dataclasses.replace(self, **fields)

    @property
    def weights(self) -> dict[str, Arrays]:
        """What a model is bound to: `model_def.bind(**state.weights)`."""
        return {"params": self.params, "batch_stats": self.batch_stats}


@dataclass(frozen=True)
class ModelDef:
    """A model without its arrays: what jitted functions close over."""

    graphdef: nnx.GraphDef

    def bind(self, params: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> Any:
        """Returns a new model that holds these arrays."""
        flat = [(_path(k), nnx.Param(v)) for k, v in params.items()]
        flat += [(_path(k), nnx.BatchStat(v)) for k, v in batch_stats.items()]
        return nnx.merge(self.graphdef, nnx.from_flat_state(flat))

    @staticmethod
    def batch_stats_of(model: nnx.Module) -> Arrays:
        """Returns the running statistics of `model`, which a training forward pass has moved."""
        return {k: value_of(v) for k, v in named_variables(model, nnx.BatchStat).items()}


def first_state(
    params: Arrays,
    batch_stats: Arrays,
    optimizer: optax.GradientTransformation,
    config: Config,
) -> TrainState:
    """Returns the state before the first step of a run."""
    weights = {"params": params, "batch_stats": batch_stats}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        opt_state=jax.jit(optimizer.init)(params),
        # Copies, since a step gives up the memory of every array of the old state.
        ema=jax.tree.map(jnp.copy, weights) if config.ema.decay else None,
        loss_scale=first_scale() if config.dtype == "float16" else None,
        **weights,
    )


def split_model(model: Any) -> tuple[ModelDef, Arrays, Arrays]:
    """Splits `model` into what is fixed, its parameters and its running statistics.

    Raises:
        UserError: it is no model.
    """
    params = {k: value_of(v) for k, v in named_variables(model, nnx.Param).items()}
    return ModelDef(nnx.graphdef(model)), params, ModelDef.batch_stats_of(model)


def _path(name: str) -> tuple[str, ...]:
    return tuple(name.split("."))
