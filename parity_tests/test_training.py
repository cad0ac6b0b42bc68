"""SGD takes torch's steps and schedules give torch's learning rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flaxzoo.config import ScheduleConfig
from flaxzoo.training.optimizer import sgd
from flaxzoo.training.schedule import Clock, make_schedule

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


def torch_rates(make_scheduler, steps: int, peak: float) -> list[float]:
    """Returns the learning rate of each update, where torch's scheduler is stepped after it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=peak)
    scheduler = make_scheduler(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def our_rates(config: ScheduleConfig, steps: int, peak: float) -> np.ndarray:
    clock = Clock(steps_per_epoch=10, batch_size=1, total_steps=steps)
    return np.asarray(jax.vmap(make_schedule(config, peak, clock))(jnp.arange(steps, dtype=int)))


@pytest.mark.parametrize("warmup", [0, 7])
def test_cosine_is_cosine_annealing_after_a_linear_warmup(warmup):
    steps, peak = 40, 0.3
    annealed = torch_rates(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=steps - warmup),
        steps - warmup,
        peak,
    )
    expected = [peak * i / warmup for i in range(warmup)] + annealed
    ours = our_rates(ScheduleConfig(name="cosine", warmup=f"{warmup} steps"), steps, peak)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("warmup", [0, 7])
def test_multistep_is_multistep_lr_whose_warmup_takes_from_the_first_steps(warmup):
    steps, peak = 40, 0.3
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, milestones=[10, 25], gamma=0.2),
        steps,
        peak,
    )
    expected[:warmup] = [peak * i / warmup for i in range(warmup)]
    config = ScheduleConfig(
        name="multistep", milestones=("1 epoch", "25 steps"), gamma=0.2, warmup=f"{warmup} steps"
    )
    np.testing.assert_allclose(our_rates(config, steps, peak), expected, rtol=0, atol=1e-12)
