"""What a step minimises: the loss of a model and of its auxiliary heads, and a teacher's word."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from flaxzoo.config import Config
from flaxzoo.layers import BatchNorm, freeze_statistics
from flaxzoo.losses import LOSSES, distillation_per_image
from flaxzoo.training.remat import mark_blocks, rematerialised
from flaxzoo.training.state import Arrays, ModelDef

Batch = dict[str, Array]
Metrics = dict[str, Array]
# (params, batch_stats, batch, key, teacher's arrays) -> (loss, (metrics, moved batch_stats))
LossFn = Callable[[Arrays, Arrays, Batch, Array, Any], tuple[Array, tuple[Metrics, Arrays]]]


def make_loss(
    model_def: ModelDef,
    config: Config,
    axis_name: str | None = None,
    devices: int = 1,
    teacher_def: ModelDef | None = None,
    class_weights: Array | None = None,
) -> LossFn:
    """Returns the mean loss of a batch {"image", "label", "target", "weight"} in training mode.

    It is the loss that `config` names, of the logits and, times the model's `aux_weight`, of its
    auxiliary heads. With a teacher `config.distill.weight` of it is replaced by the distance from
    the teacher's logits.

    Args:
        axis_name: the mapped axis where it runs under jax.pmap.
        devices: that share the batch.
        class_weights: of shape (classes,); batch["weight"] is what makes it a weighted mean.
    """
    loss_of = LOSSES[config.loss]
    # Under pmap a device has no part but its own; under jit the batch is one array.
    shared: dict[str, Any] = {"axis_name": axis_name, "across_devices": devices > 1}
    if config.batch_norm == "per_device":
        shared = {"parts": devices if axis_name is None else 1}

    def loss_fn(params: Arrays, batch_stats: Arrays, batch: Batch, key: Array, teacher: Any):
        model = model_def.bind(params, batch_stats)
        model.train()
        if config.remat:
            mark_blocks(model)
        if config.model.freeze_norm:
            freeze_statistics(model)
        model.set_attributes(BatchNorm, **shared, raise_if_not_found=False)
        logits, aux = model.forward_train(batch["image"], key=key)

        def supervised(outputs: Array) -> Array:
            return loss_of(outputs, batch["target"], config.label_smoothing, class_weights)

        losses = supervised(logits) + sum(model.aux_weight * supervised(x) for x in aux.values())
        losses *= batch["weight"]
        if teacher_def is not None:
            distill = config.distill
            wise = teacher_def.bind(**teacher)
            wise.eval()
            distance = distillation_per_image(
                logits, wise(batch["image"]), distill.temperature, distill.hard
            )
            losses = (1 - distill.weight) * losses + distill.weight * distance
        correct = (jnp.argmax(logits, -1) == batch["label"]).astype(jnp.float32)
        loss = jnp.mean(losses)
        metrics = {"loss": loss, "accuracy": jnp.mean(correct)}
        return loss, (metrics, model_def.batch_stats_of(model))

    return rematerialised(loss_fn) if config.remat else loss_fn
