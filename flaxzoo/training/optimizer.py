"""Optimisers that take exactly torch's steps."""

import optax

from flaxzoo.config import OptimizerConfig
from flaxzoo.errors import unknown
from flaxzoo.training.schedule import Schedule


def sgd(
    learning_rate: Schedule,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """torch.optim.SGD: weight decay joins the gradient before momentum, the rate comes after it.

    (optax.sgd has no weight decay, and decay added behind its momentum is another algorithm.)
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity(),
        optax.trace(momentum, nesterov) if momentum else optax.identity(),
        optax.scale_by_learning_rate(learning_rate),
    )


OPTIMIZERS = {"sgd": sgd}


def make_optimizer(
    config: OptimizerConfig, learning_rate: Schedule
) -> optax.GradientTransformation:
    """Returns the optimiser that `config` names, with `learning_rate` as a function of the step."""
    if config.name not in OPTIMIZERS:
        raise unknown("optimizer", config.name, OPTIMIZERS)
    return OPTIMIZERS[config.name](
        learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
    )
