"""The algorithms: each takes exactly the steps of the torch or timm class that its docstring names.

Made of optax's transformations where those compute the same. Every one ends in a multiplication by
the learning rate, so that a factor on its update is a factor on its rate, decoupled weight decay
included; `rmsprop_tf` with the rate inside its momentum is the exception. Defaults are torch's and
timm's. What all of them take:

    learning_rate: a function of the number of steps taken.
    weight_decay: "coupled" joins the gradient and so whatever follows; "decoupled" shrinks the
        parameter by rate times decay on its own (Loshchilov and Hutter 2017,
        https://arxiv.org/abs/1711.05101).
    decays: which parameters decay, a pytree of bools like the parameters; None for all. The others
        are in a group of weight_decay=0 in torch's terms.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from flaxzoo.errors import UserError
from flaxzoo.training.clipping import clip_norm, norm_of
from flaxzoo.training.schedule import Schedule

Mask = Any  # a pytree of bools like the parameters, or None for all of them


def sgd(
    learning_rate: Schedule,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decays: Mask = None,
) -> optax.GradientTransformation:
    """torch.optim.SGD: coupled decay, then momentum.

    (optax.sgd has no weight decay, and decay added behind its momentum is another algorithm.)
    """
    return optax.chain(
        decay_weights(weight_decay, decays),
        _momentum(momentum, nesterov),
        optax.scale_by_learning_rate(learning_rate),
    )


def adam(
    learning_rate: Schedule,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decays: Mask = None,
) -> optax.GradientTransformation:
    """torch.optim.Adam: coupled decay."""
    return optax.chain(
        decay_weights(weight_decay, decays),
        optax.scale_by_adam(*betas, eps=eps),
        optax.scale_by_learning_rate(learning_rate),
    )


def adamw(
    learning_rate: Schedule,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decays: Mask = None,
) -> optax.GradientTransformation:
    """torch.optim.AdamW: decoupled decay."""
    return optax.chain(
        optax.scale_by_adam(*betas, eps=eps),
        decay_weights(weight_decay, decays),
        optax.scale_by_learning_rate(learning_rate),
    )


def rmsprop(
    learning_rate: Schedule,
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
    decays: Mask = None,
) -> optax.GradientTransformation:
    """torch.optim.RMSprop: coupled decay; eps is added to the root; the average starts at 0."""
    normalise = optax.scale_by_stddev if centered else optax.scale_by_rms
    return optax.chain(
        decay_weights(weight_decay, decays),
        normalise(alpha, eps, eps_in_sqrt=False),
        _momentum(momentum),
        optax.scale_by_learning_rate(learning_rate),
    )


def rmsprop_tf(
    learning_rate: Schedule,
    *,
    alpha: float = 0.9,
    eps: float = 1e-10,
    momentum: float = 0.0,
    centered: bool = False,
    lr_in_momentum: bool = True,
    weight_decay: float = 0.0,
    decays: Mask = None,
) -> optax.GradientTransformation:
    """timm.optim.RMSpropTF: coupled decay; eps is under the root; the average starts at 1.

    TensorFlow's RMSprop, which MnasNet, EfficientNet and MobileNetV3 were trained with.

    Args:
        lr_in_momentum: the momentum gathers steps, each of the length that the learning rate had
            then, as in TensorFlow; otherwise gradients, as in torch. A factor that somebody puts on
            the update later then changes old steps, too, not new ones alone.
    """
    normalise = optax.scale_by_stddev if centered else optax.scale_by_rms
    scaled = [_momentum(momentum), optax.scale_by_learning_rate(learning_rate)]
    return optax.chain(
        decay_weights(weight_decay, decays),
        normalise(alpha, eps, initial_scale=1.0, eps_in_sqrt=True),
        *(reversed(scaled) if lr_in_momentum else scaled),
    )


def lamb(
    learning_rate: Schedule,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    max_grad_norm: float = 1.0,
    trust_clip: bool = False,
    always_adapt: bool = False,
    weight_decay: float = 0.01,
    decays: Mask = None,
) -> optax.GradientTransformation:
    """timm.optim.Lamb (You et al. 2019, https://arxiv.org/abs/1904.00962).

    Adam's step plus coupled decay is brought to the length of the parameter. Like NVIDIA's, it
    first clips the gradients to a norm over all parameters, and leaves alone what does not decay.

    Args:
        max_grad_norm: 0 for no clipping.
        trust_clip: a step is never made longer.
        always_adapt: also what does not decay is brought to its parameter's length.
    """

    def adapted(step: Array, parameter: Array, decay: float) -> Array:
        step = step + decay * parameter if decay else step
        if not (decay or always_adapt):
            return step
        ratio = _ratio(norm_of(parameter), norm_of(step))
        return step * (jnp.minimum(ratio, 1) if trust_clip else ratio)

    return optax.chain(
        clip_norm(max_grad_norm, eps=0.0) if max_grad_norm else optax.identity(),
        optax.scale_by_adam(*betas, eps=eps),
        _each(adapted, weight_decay, decays),
        optax.scale_by_learning_rate(learning_rate),
    )


def lars(
    learning_rate: Schedule,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    trust_coeff: float = 0.001,
    eps: float = 1e-8,
    always_adapt: bool = False,
    weight_decay: float = 0.0,
    decays: Mask = None,
) -> optax.GradientTransformation:
    """timm.optim.Lars (You et al. 2017, https://arxiv.org/abs/1708.03888).

    The decayed gradient is brought to a length in proportion to the parameter's, then as in SGD.

    Args:
        trust_coeff: that proportion.
        always_adapt: also what does not decay is brought to that length.
    """

    def adapted(gradient: Array, parameter: Array, decay: float) -> Array:
        if not (decay or always_adapt):
            return gradient
        size, slope = norm_of(parameter), norm_of(gradient)
        ratio = trust_coeff * size / (slope + decay * size + eps)
        ratio = jnp.where((size > 0) & (slope > 0), ratio, 1)
        return (gradient + decay * parameter) * ratio

    return optax.chain(
        _each(adapted, weight_decay, decays),
        _momentum(momentum, nesterov),
        optax.scale_by_learning_rate(learning_rate),
    )


def lion(
    learning_rate: Schedule,
    *,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    decays: Mask = None,
) -> optax.GradientTransformation:
    """timm.optim.Lion (Chen et al. 2023, https://arxiv.org/abs/2302.06675): decoupled decay."""
    return optax.chain(
        optax.scale_by_lion(*betas),
        decay_weights(weight_decay, decays),
        optax.scale_by_learning_rate(learning_rate),
    )


def decay_weights(weight_decay: float, decays: Mask) -> optax.GradientTransformation:
    """Adds `weight_decay` times the parameter, where it decays."""
    return optax.add_decayed_weights(weight_decay, decays) if weight_decay else optax.identity()


def _momentum(momentum: float, nesterov: bool = False) -> optax.GradientTransformation:
    if nesterov and not momentum:
        raise UserError("nesterov needs a momentum above 0; got 0.")
    return optax.trace(momentum, nesterov) if momentum else optax.identity()


def _each(
    function: Callable[[Array, Array, float], Array], weight_decay: float, decays: Mask
) -> optax.GradientTransformation:
    """Maps (update, parameter, its weight decay) to the new update."""

    def update(updates: Any, params: Any) -> Any:
        mask = jax.tree.map(lambda _: True, updates) if decays is None else decays
        return jax.tree.map(
            lambda u, p, decay: function(u, p, weight_decay if decay else 0.0),
            updates, params, mask,
        )  # fmt: skip

    return optax.stateless(update)


def _ratio(size: Array, step: Array) -> Array:
    return jnp.where((size > 0) & (step > 0), size / step, 1)
