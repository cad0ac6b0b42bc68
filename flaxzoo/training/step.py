"""The train step and the evaluation step: pure functions of state and batch.

Both take `inputs`, what crosses to the device each step, and `resident`, what lies there for the
whole run. For a small data set that is all its images, and a batch is an array of their indices.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from flaxzoo.augment import augment, normalize
from flaxzoo.config import Config
from flaxzoo.layers import BatchNorm
from flaxzoo.losses import cross_entropy_per_image
from flaxzoo.training.state import Arrays, ModelDef, TrainState

Batch = dict[str, Array]
Metrics = dict[str, Array]


def make_train_step(
    model_def: ModelDef,
    optimizer: optax.GradientTransformation,
    config: Config,
    axis_name: str | None = None,
) -> Callable[[TrainState, Batch, Batch], tuple[TrainState, Metrics]]:
    """Returns step(state, inputs, resident) -> (new state, metrics of this batch).

    Args:
        axis_name: the mapped axis where the step runs under jax.pmap. Under jax.jit there is none:
            the batch is one array over all devices.
    """

    def loss_fn(params: Arrays, batch_stats: Arrays, images: Array, labels: Array, key: Array):
        model = model_def.bind(params, batch_stats)
        model.train()
        if axis_name is not None:
            model.set_attributes(BatchNorm, axis_name=axis_name, raise_if_not_found=False)
        logits, aux = model.forward_train(images, key=key)
        losses = cross_entropy_per_image(logits, labels, config.label_smoothing)
        for head in aux.values():
            of_head = cross_entropy_per_image(head, labels, config.label_smoothing)
            losses += model.aux_weight * of_head
        return jnp.mean(losses), (logits, model_def.batch_stats_of(model))

    def step(state: TrainState, inputs: Batch, resident: Batch) -> tuple[TrainState, Metrics]:
        images, labels = fetch(inputs, resident)
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        augment_key, model_key = jax.random.split(key)
        position = jnp.arange(len(labels))  # in the batch of all devices
        if axis_name is not None:
            position += jax.lax.axis_index(axis_name) * len(labels)
            # Dropout differs from device to device, and so from what jit draws for the whole batch.
            model_key = jax.random.fold_in(model_key, jax.lax.axis_index(axis_name))
        image_keys = jax.vmap(lambda i: jax.random.fold_in(augment_key, i))(position)
        images = augment(images, image_keys, config.augment)
        images = normalize(images, config.data.mean, config.data.std)

        (loss, (logits, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, state.batch_stats, images, labels, model_key
        )
        correct = jnp.mean((jnp.argmax(logits, -1) == labels).astype(jnp.float32))
        metrics = {"loss": loss, "accuracy": correct}
        if axis_name is not None:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        # The loss judges the old parameters; the norm tells whether the new ones are still finite.
        metrics["update_norm"] = optax.tree.norm(updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), metrics

    return step


def make_eval_step(
    model_def: ModelDef, config: Config
) -> Callable[[Arrays, Arrays, Batch, Batch], Metrics]:
    """Returns eval_step(params, batch_stats, inputs, resident) -> what the model made of a batch.

    That is the sums "loss", "correct" and "count", and for each image [b] "seen", "predicted",
    "confidence" (the probability of the predicted class) and "image_loss". These cost next to
    nothing and stay on the device unless they are asked for, which a second program would not.

    `inputs["mask"]` is False for the padding of the last batch, which counts for nothing.
    """

    def eval_step(params: Arrays, batch_stats: Arrays, inputs: Batch, resident: Batch) -> Metrics:
        images, labels = fetch(inputs, resident)
        model = model_def.bind(params, batch_stats)
        model.eval()
        logits = model(normalize(images, config.data.mean, config.data.std))
        mask = inputs["mask"]
        losses = cross_entropy_per_image(logits, labels)
        predicted = jnp.argmax(logits, -1)
        correct = predicted == labels
        return {
            "seen": mask,
            "predicted": predicted,
            "confidence": jnp.exp(-cross_entropy_per_image(logits, predicted)),
            "image_loss": losses,
            "loss": jnp.sum(jnp.where(mask, losses, 0)),
            "correct": jnp.sum(correct & mask),
            "count": jnp.sum(mask),
        }

    return eval_step


def fetch(inputs: Batch, resident: Batch) -> tuple[Array, Any]:
    """Returns the images and labels of a batch, from the device's own copy where there is one."""
    if "index" in inputs:
        return resident["image"][inputs["index"]], resident["label"][inputs["index"]]
    return inputs["image"], inputs["label"]
