"""Sharpness-aware minimisation: the gradient is taken where the loss is worst nearby."""

import jax
import jax.numpy as jnp

from flaxzoo.config import SamConfig
from flaxzoo.training.clipping import global_norm
from flaxzoo.training.state import Arrays


def ascend(params: Arrays, grads: Arrays, config: SamConfig) -> Arrays:
    """Returns the parameters moved uphill by `config.rho`.

    SAM (Foret et al. 2020, https://arxiv.org/abs/2010.01412) goes rho along the gradient. Adaptive
    SAM (Kwon et al. 2021, https://arxiv.org/abs/2102.11600) measures distance relative to the size
    of each parameter: with t = |w| it goes rho * t^2 g / |t g|. As in the public PyTorch code that
    recipes use, the paper's eta, which it adds to t, is 0, and biases are scaled like weights.
    """
    size = jax.tree.map(jnp.abs if config.adaptive else jnp.ones_like, params)
    scaled = jax.tree.map(jnp.multiply, size, grads)
    factor = config.rho / (global_norm(scaled) + 1e-12)
    return jax.tree.map(lambda w, t, tg: w + factor * t * tg, params, size, scaled)
