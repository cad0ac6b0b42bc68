"""Trains both twins: the same batches in the same order, SGD with the same settings."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxzoo.convert import to_torch_layout, torch_name
from flaxzoo.losses import cross_entropy
from flaxzoo.models.base import Classifier
from flaxzoo.parity.twins import Twins
from flaxzoo.training.optimizer import sgd
from flaxzoo.training.state import split_model

if TYPE_CHECKING:
    import torch

Batches = Sequence[tuple[np.ndarray, np.ndarray]]  # images (n, h, w, c) and labels (n,) of a step


@dataclass(frozen=True)
class Trained:
    """What a training leaves: arrays by torch's names, in torch's layout.

    Attributes:
        gradients: of every parameter in the first step.
        arrays: parameters and running statistics after the last; no counters.
        losses: of each step, before its update (steps,).
    """

    gradients: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]
    losses: np.ndarray


def train(model: Classifier, batches: Batches, learning_rate: float, **hyper: Any) -> Trained:
    """Trains the flaxzoo twin, which itself is not moved; `hyper` is what sgd takes."""
    tx = sgd(lambda _: learning_rate, **hyper)
    model_def, params, batch_stats = split_model(model)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(params, batch_stats, opt_state, images, labels):
        def loss(params):
            model = model_def.bind(params, batch_stats)
            model.train()
            logits, aux = model.forward_train(images)
            loss = cross_entropy(logits, labels)
            for head in aux:
                loss += model.aux_weight * cross_entropy(aux[head], labels)
            return loss, model_def.batch_stats_of(model)

        (value, batch_stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return value, grads, jax.tree.map(jnp.add, params, updates), batch_stats, opt_state

    params, batch_stats = jax.tree.map(jnp.copy, (params, batch_stats))  # for the step to overwrite
    opt_state, first, losses = jax.jit(tx.init)(params), {}, []
    for images, labels in batches:
        value, grads, params, batch_stats, opt_state = step(
            params, batch_stats, opt_state, images, labels
        )
        first = first or _as_torchs(grads)
        losses.append(float(value))
    return Trained(first, _as_torchs(params | batch_stats), np.array(losses))


def train_torch(twins: Twins, batches: Batches, learning_rate: float, **hyper: Any) -> Trained:
    """Trains the torch twin, which itself is not moved; `hyper` is what torch.optim.SGD takes."""
    import torch

    model = copy.deepcopy(twins.torch_model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, **hyper)
    loss_of = torch.nn.functional.cross_entropy
    parameters: dict[str, Any] = dict(model.named_parameters())
    first, losses = {}, []
    for images, labels in batches:
        optimizer.zero_grad()  # sets to None, which leaves those that are kept as they are
        outputs = model(nchw(images))
        logits, *aux = outputs if isinstance(outputs, tuple) else (outputs,)
        target = torch.from_numpy(labels)
        loss = loss_of(logits, target)
        for head in aux:
            loss += twins.flax_model.aux_weight * loss_of(head, target)
        loss.backward()
        first = first or {k: p.grad.numpy() for k, p in parameters.items()}
        optimizer.step()
        losses.append(loss.item())
    state = model.state_dict().items()
    arrays = {key: value.numpy() for key, value in state if value.is_floating_point()}
    return Trained(first, arrays, np.array(losses))


def nchw(images: np.ndarray) -> "torch.Tensor":
    """Returns images (n, h, w, c) as torch takes them, (n, c, h, w)."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _as_torchs(arrays: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    return {torch_name(k): to_torch_layout(k, np.asarray(v)) for k, v in arrays.items()}
