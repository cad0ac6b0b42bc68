"""SGD takes torch's steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flaxzoo.training.optimizer import sgd

STEPS = 20


def learning_rate(step):
    return 0.5 / (1 + step)


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_takes_torchs_steps(momentum, nesterov, weight_decay):
    hyper = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(size=(STEPS, 5))

    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.SGD([theirs], lr=1.0, **hyper)
    for step, gradient in enumerate(gradients):
        optimizer.param_groups[0]["lr"] = learning_rate(step)
        theirs.grad = torch.from_numpy(gradient)
        optimizer.step()

    tx = sgd(learning_rate, **hyper)

    def update(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        return (params + updates, state), None

    ours = jnp.asarray(start)
    (ours, _), _ = jax.lax.scan(update, (ours, tx.init(ours)), gradients)
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-13, atol=1e-13)
