"""Losses on logits, one value an image, in float32 or better whatever the model computes in.

Targets are labels (n,) or, where images were mixed, probabilities of the classes (n, classes).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxzoo.layers.dtypes import widened

Logits = Float[Array, "n classes"]
Targets = Int[Array, " n"] | Float[Array, "n classes"]
PerImage = Float[Array, " n"]


def cross_entropy_per_image(
    logits: Logits,
    targets: Targets,
    label_smoothing: float = 0.0,
    class_weights: Float[Array, " classes"] | None = None,
) -> PerImage:
    """Returns each image's cross-entropy, in nats.

    With smoothing e the target is (1 - e) of itself plus e / classes everywhere, as in
    torch.nn.CrossEntropyLoss (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567, section 7).
    A class's term is multiplied by its weight, and nothing is divided by their sum: see
    `weight_of`.
    """
    log_p = jax.nn.log_softmax(widened(logits))
    q = _smooth(_probabilities(targets, log_p), label_smoothing)
    return -jnp.sum(q * log_p if class_weights is None else q * log_p * class_weights, axis=1)


def binary_cross_entropy_per_image(
    logits: Logits,
    targets: Targets,
    label_smoothing: float = 0.0,
    class_weights: Float[Array, " classes"] | None = None,
) -> PerImage:
    """Returns each image's mean over the classes of "is it this one?", in nats.

    torch.nn.BCEWithLogitsLoss on smoothed targets, as timm trains with it (Wightman et al. 2021,
    "ResNet strikes back", https://arxiv.org/abs/2110.00476).
    """
    logits = widened(logits)
    q = _smooth(_probabilities(targets, logits), label_smoothing)
    losses = -q * jax.nn.log_sigmoid(logits) - (1 - q) * jax.nn.log_sigmoid(-logits)
    return jnp.mean(losses if class_weights is None else losses * class_weights, axis=1)


LOSSES = {
    "cross_entropy": cross_entropy_per_image,
    "binary_cross_entropy": binary_cross_entropy_per_image,
}


def distillation_per_image(
    logits: Logits, teacher_logits: Logits, temperature: float, hard: bool = False
) -> PerImage:
    """Returns how far each image's logits are from its teacher's, in nats.

    Soft: the cross-entropy's excess over the teacher's own entropy (KL divergence), both at
    `temperature`, times its square, so that gradients keep their size (Hinton et al. 2015,
    https://arxiv.org/abs/1503.02531). Hard: the cross-entropy with the class that the teacher
    chooses (DeiT, Touvron et al. 2020, https://arxiv.org/abs/2012.12877).
    """
    if hard:
        return cross_entropy_per_image(logits, jnp.argmax(teacher_logits, axis=1))
    log_p = jax.nn.log_softmax(widened(logits) / temperature)
    log_q = jax.nn.log_softmax(widened(teacher_logits) / temperature)
    return temperature**2 * jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=1)


def cross_entropy(
    logits: Logits, targets: Targets, label_smoothing: float = 0.0
) -> Float[Array, ""]:
    """Returns the mean cross-entropy of a batch."""
    return jnp.mean(cross_entropy_per_image(logits, targets, label_smoothing))


def weight_of(targets: Targets, class_weights: Float[Array, " classes"]) -> PerImage:
    """Returns the weight of each image's target.

    torch.nn.CrossEntropyLoss(weight) divides the sum of a batch's losses by the sum of these.
    """
    return _probabilities(targets, class_weights) @ class_weights


def _probabilities(targets: Targets, like: Array) -> Logits:
    if targets.ndim == 1:
        return jax.nn.one_hot(targets, like.shape[-1], dtype=like.dtype)
    return targets.astype(like.dtype)


def _smooth(q: Logits, label_smoothing: float) -> Logits:
    return q if not label_smoothing else (1 - label_smoothing) * q + label_smoothing / q.shape[1]
