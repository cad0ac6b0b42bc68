"""The train step and the evaluation step: pure functions of state and batch.

Both take `inputs`, what crosses to the device each step, and `resident`, what lies there for the
whole run. For a small data set that is all its images, and a batch is an array of their indices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from flaxzoo.augment import augment, erase, mix, normalize
from flaxzoo.config import Config, EmaConfig
from flaxzoo.losses import cross_entropy_per_image, weight_of
from flaxzoo.training.clipping import global_norm
from flaxzoo.training.loss_scale import next_scale
from flaxzoo.training.objective import Batch, Metrics, make_loss
from flaxzoo.training.sam import ascend
from flaxzoo.training.state import ModelDef, TrainState


@dataclass(frozen=True)
class Plan:
    """What a step needs to know beside the config, which leaves it to data, clock and devices.

    Attributes:
        axis_name: the mapped axis where the step runs under jax.pmap. Under jax.jit there is none:
            the batch is one array over all devices.
        devices: that share the batch.
        image_size: height and width that the network sees, if others than the images have.
        strong_until: the step at which mixing, policies, jitter and erasing end.
        class_weights: of shape (classes,).
        teacher_def: whose arrays are resident["teacher"].
    """

    axis_name: str | None = None
    devices: int = 1
    image_size: int | None = None
    strong_until: int | None = None
    class_weights: Array | None = None
    teacher_def: ModelDef | None = None


def make_train_step(
    model_def: ModelDef,
    optimizer: optax.GradientTransformation,
    config: Config,
    plan: Plan = Plan(),
) -> Callable[[TrainState, Batch, Any], tuple[TrainState, Metrics]]:
    """Returns step(state, inputs, resident) -> (new state, metrics of this batch)."""
    loss_fn = make_loss(
        model_def, config, plan.axis_name, plan.devices, plan.teacher_def, plan.class_weights
    )

    def gradient(params, state: TrainState, batch: Batch, key: Array, teacher: Any):
        """Returns the gradient over the batch of all devices, its metrics and moved statistics."""
        scale = 1.0 if state.loss_scale is None else state.loss_scale["scale"]

        def scaled(params, batch_stats, batch: Batch, key: Array):
            loss, aux = loss_fn(params, batch_stats, batch, key, teacher)
            return loss * scale, aux

        grad_fn = in_parts(jax.grad(scaled, has_aux=True), config.accumulate)
        grads, (metrics, batch_stats) = grad_fn(params, state.batch_stats, batch, key)
        grads = jax.tree.map(lambda g: g / scale, grads)
        if config.batch_norm == "per_device":
            batch_stats = _mean(batch_stats, plan.axis_name)
        return _mean((grads, metrics), plan.axis_name), batch_stats

    def step(state: TrainState, inputs: Batch, resident: Any) -> tuple[TrainState, Metrics]:
        batch, key = prepare(state.step, inputs, resident, config, plan)
        gradient_at = partial(
            gradient, state=state, batch=batch, key=key, teacher=resident.get("teacher")
        )
        (grads, metrics), batch_stats = gradient_at(state.params)
        if config.sam.rho:  # the running statistics stay those of the first pass
            (grads, _), _ = gradient_at(ascend(state.params, grads, config.sam))

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        if state.plateau is not None:
            updates = jax.tree.map(lambda u: u * state.plateau["factor"], updates)
        params = jax.tree.map(jnp.add, state.params, updates)
        new = state.replace(
            step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state
        )
        if state.ema is not None:
            new = new.replace(ema=averaged(state.ema, new, config.ema))
        # The loss judges the old parameters; the norm tells whether the new ones are still finite.
        metrics["update_norm"] = global_norm(updates)
        if state.loss_scale is not None:
            scale, taken = next_scale(state.loss_scale, grads.values())
            new = jax.tree.map(lambda a, b: jnp.where(taken, a, b), new, state)
            new = new.replace(step=state.step + 1, loss_scale=scale)
            metrics["skipped"] = 1 - taken.astype(jnp.float32)
        return new, metrics

    return step


def prepare(
    step: Array, inputs: Batch, resident: Any, config: Config, plan: Plan
) -> tuple[Batch, Array]:
    """Returns the batch as the network sees it, and the key of its dropout.

    All random numbers come from (seed, step) and, for augmentation, the image's place in the batch
    of all devices.
    """
    images, labels = fetch(inputs, resident)
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    batch_key, model_key = jax.random.split(key)
    position = jnp.arange(len(labels))
    if plan.axis_name is not None:
        device = jax.lax.axis_index(plan.axis_name)
        position += device * len(labels)
        # Dropout differs from device to device, and so from what jit draws for the whole batch.
        model_key = jax.random.fold_in(model_key, device)
    keys = jax.vmap(lambda i: jax.random.fold_in(batch_key, i))(position)
    strong = True if plan.strong_until is None else step < plan.strong_until
    images = augment(images, keys, config.augment, strong)
    images = normalize(images, config.data.mean, config.data.std)
    targets = jax.nn.one_hot(labels, config.model.num_classes)
    images, targets = mix(images, targets, keys, batch_key, config.augment, strong)
    images = erase(images, keys, config.augment, strong)
    if plan.image_size is not None:
        shape = (len(images), plan.image_size, plan.image_size, images.shape[-1])
        images = jax.image.resize(images, shape, "linear")
    weight = jnp.ones(len(labels))
    if plan.class_weights is not None:
        weight /= _mean(jnp.mean(weight_of(targets, plan.class_weights)), plan.axis_name)
    return {"image": images, "label": labels, "target": targets, "weight": weight}, model_key


def in_parts(grad_fn: Callable, parts: int) -> Callable:
    """Returns `grad_fn` applied to a batch in `parts`, one after the other; gradients are averaged.

    It needs the memory of a part and equals the gradient of the whole batch, except for batch
    normalisation, whose statistics are those of a part. Every part lies on all devices.
    """
    if parts == 1:
        return grad_fn

    def split(x: Array) -> Array:
        return x.reshape(len(x) // parts, parts, *x.shape[1:]).swapaxes(0, 1)

    def accumulated(params, batch_stats, batch: Batch, key: Array):
        def add(carry, part):
            total, batch_stats = carry
            index, rows = part
            part_key = jax.random.fold_in(key, index)
            grads, (metrics, batch_stats) = grad_fn(params, batch_stats, rows, part_key)
            return (jax.tree.map(jnp.add, total, grads), batch_stats), metrics

        start = (jax.tree.map(jnp.zeros_like, params), batch_stats)
        rows = jnp.arange(parts), jax.tree.map(split, batch)
        (grads, batch_stats), metrics = jax.lax.scan(add, start, rows)
        grads, metrics = jax.tree.map(lambda g: g / parts, grads), jax.tree.map(jnp.mean, metrics)
        return grads, (metrics, batch_stats)

    return accumulated


def averaged(ema: Any, new: TrainState, config: EmaConfig) -> Any:
    """Returns the moving average of weights and running statistics after a step.

    With `warmup` the decay rises with the number of steps t as (1 + t) / (10 + t), as in
    TensorFlow's ExponentialMovingAverage, so that the start is soon forgotten.
    """
    decay = config.decay
    if config.warmup:
        steps = jnp.asarray(new.step, float)
        decay = jnp.minimum(decay, (1 + steps) / (10 + steps))
    return jax.tree.map(lambda old, x: old + (1 - decay) * (x - old), ema, new.weights)


def make_eval_step(model_def: ModelDef, config: Config) -> Callable[..., Metrics]:
    """Returns eval_step(params, batch_stats, inputs, resident) -> what the model made of a batch.

    That is the sums "loss", "correct" and "count", and for each image [b] "seen", "predicted",
    "confidence" (the probability of the predicted class) and "image_loss". These cost next to
    nothing and stay on the device unless they are asked for, which a second program would not.

    `inputs["mask"]` is False for the padding of the last batch, which counts for nothing.
    """

    def eval_step(params: Any, batch_stats: Any, inputs: Batch, resident: Any) -> Metrics:
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


def fetch(inputs: Batch, resident: Any) -> tuple[Array, Any]:
    """Returns the images and labels of a batch, from the device's own copy where there is one."""
    if "index" in inputs:
        return resident["image"][inputs["index"]], resident["label"][inputs["index"]]
    return inputs["image"], inputs["label"]


def _mean(tree: Any, axis_name: str | None) -> Any:
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)
