"""The state of a run as one plain pytree, and the model without its arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from flaxzoo.layers.module import named_variables, value_of

Arrays = dict[str, Any]  # by dotted name; leaves may also be shapes or shardings, as in any pytree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that changes from step to step.

    Arrays are kept by dotted name in flat dicts, `{"layer1.0.conv1.kernel": ...}`: it is what
    checkpoints show and what patterns match, and jax.jit dispatches it 20 times faster than a tree
    of nnx modules.
    """

    step: Any  # int32, the number of updates taken
    params: Arrays
    batch_stats: Arrays
    opt_state: Any


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


def split_model(model: nnx.Module) -> tuple[ModelDef, Arrays, Arrays]:
    """Splits `model` into what is fixed, its parameters and its running statistics."""
    params = {k: value_of(v) for k, v in named_variables(model, nnx.Param).items()}
    return ModelDef(nnx.graphdef(model)), params, ModelDef.batch_stats_of(model)


def _path(name: str) -> tuple[str, ...]:
    return tuple(name.split("."))
