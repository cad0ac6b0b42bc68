"""Losses on logits, computed in float32 or better whatever the model computes in."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy_per_image(
    logits: Float[Array, "n classes"], labels: Int[Array, " n"], label_smoothing: float = 0.0
) -> Float[Array, " n"]:
    """Returns each image's cross-entropy, in nats.

    With smoothing e the target is (1 - e) at the label plus e / classes everywhere, as in
    torch.nn.CrossEntropyLoss (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567, section 7).
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    at_label = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    return -(1 - label_smoothing) * at_label - label_smoothing * jnp.mean(log_p, axis=1)


def cross_entropy(
    logits: Float[Array, "n classes"], labels: Int[Array, " n"], label_smoothing: float = 0.0
) -> Float[Array, ""]:
    """Returns the mean cross-entropy of a batch."""
    return jnp.mean(cross_entropy_per_image(logits, labels, label_smoothing))
