"""Schedules give torch's learning rates at every step, in float64."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from flaxzoo.config import ScheduleConfig
from flaxzoo.training.clock import Clock
from flaxzoo.training.plateau import Plateau
from flaxzoo.training.schedule import SCHEDULES, make_schedule

PEAK, STEPS = 0.3, 60
CLOCK = Clock(steps_per_epoch=10, batch_size=4, total_steps=STEPS)


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=PEAK)


def torch_rates(make_scheduler, steps: int = STEPS) -> list[float]:
    """Returns the learning rate of each update, where torch's scheduler is stepped after it."""
    optimizer, rates = sgd(), []
    scheduler = make_scheduler(optimizer)
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        with warnings.catch_warnings():
            # An older SequentialLR steps its schedulers in a way that they warn of.
            warnings.filterwarnings("ignore", message="The epoch parameter")
            scheduler.step()
    return rates


def our_rates(steps: int = STEPS, dtype=np.int64, **fields) -> np.ndarray:
    schedule = make_schedule(ScheduleConfig(**fields), PEAK, CLOCK)
    return np.asarray(schedule(jnp.arange(steps, dtype=dtype)))


def assert_same_rates(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


# The schedule's fields, and torch's scheduler for the so many steps that it takes.
TWINS = [
    ({"name": "constant"}, lambda o, n: lr_scheduler.ConstantLR(o, factor=1.0)),
    (
        {"name": "cosine"},
        lambda o, n: lr_scheduler.CosineAnnealingLR(o, T_max=n),
    ),
    (
        {"name": "cosine", "min_rate": 0.02},
        lambda o, n: lr_scheduler.CosineAnnealingLR(o, T_max=n, eta_min=0.02),
    ),
    (
        {"name": "cosine_restarts", "every": "1 epoch", "min_rate": 0.01},
        lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=10, eta_min=0.01),
    ),
    (
        {"name": "cosine_restarts", "every": "7 steps", "growth": 2},
        lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=7, T_mult=2),
    ),
    (
        {"name": "cosine_restarts", "every": "4 steps", "growth": 3},
        lambda o, n: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=4, T_mult=3),
    ),
    (
        {"name": "linear", "min_rate": 0.03},
        lambda o, n: lr_scheduler.LinearLR(o, 1.0, end_factor=0.1, total_iters=n),
    ),
    ({"name": "linear"}, lambda o, n: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=n)),
    ({"name": "polynomial"}, lambda o, n: lr_scheduler.PolynomialLR(o, total_iters=n)),
    (
        {"name": "polynomial", "power": 2.5},
        lambda o, n: lr_scheduler.PolynomialLR(o, total_iters=n, power=2.5),
    ),
    (
        {"name": "one_cycle"},
        lambda o, n: lr_scheduler.OneCycleLR(o, PEAK, n, cycle_momentum=False),
    ),
    (
        {"name": "one_cycle", "anneal": "linear", "up": "12 steps"},
        lambda o, n: lr_scheduler.OneCycleLR(
            o, PEAK, n, pct_start=12 / n, anneal_strategy="linear", cycle_momentum=False
        ),
    ),
    (
        {"name": "one_cycle", "three_phase": True, "div_factor": 10.0, "final_div_factor": 50.0},
        lambda o, n: lr_scheduler.OneCycleLR(
            o, PEAK, n, three_phase=True, div_factor=10.0, final_div_factor=50.0,
            cycle_momentum=False,
        ),
    ),
    (
        {"name": "cyclic", "min_rate": 0.05, "up": "8 steps"},
        lambda o, n: lr_scheduler.CyclicLR(o, 0.05, PEAK, step_size_up=8, cycle_momentum=False),
    ),
    (
        {"name": "cyclic", "min_rate": 0.0, "up": "5 steps", "down": "9 steps",
         "mode": "triangular2"},
        lambda o, n: lr_scheduler.CyclicLR(
            o, 0.0, PEAK, 5, 9, mode="triangular2", cycle_momentum=False
        ),
    ),
    (
        {"name": "cyclic", "min_rate": 0.05, "up": "1 epoch", "down": "3 steps",
         "mode": "exp_range", "gamma": 0.97},
        lambda o, n: lr_scheduler.CyclicLR(
            o, 0.05, PEAK, 10, 3, mode="exp_range", gamma=0.97, cycle_momentum=False
        ),
    ),
]  # fmt: skip


def name_of(value):
    if isinstance(value, dict):
        return "-".join(str(v) for v in value.values())
    return ""


@pytest.mark.parametrize(("fields", "twin"), TWINS, ids=name_of)
def test_a_schedule_is_torchs(fields, twin):
    assert_same_rates(our_rates(**fields), torch_rates(lambda o: twin(o, STEPS)))


@pytest.mark.parametrize(("fields", "twin"), TWINS, ids=name_of)
def test_a_warm_up_before_it_is_torchs_linear_lr_in_a_sequential_lr(fields, twin):
    def make(optimizer):
        main = twin(optimizer, STEPS - 10)  # first, since CyclicLR sets the optimiser's rate
        warmup = lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=10)
        return lr_scheduler.SequentialLR(optimizer, [warmup, main], [10])

    ours = our_rates(**fields, warmup="1 epoch", warmup_factor=0.2)
    assert_same_rates(ours, torch_rates(make))


@pytest.mark.parametrize(("fields", "twin"), TWINS, ids=name_of)
def test_a_constant_warm_up_is_torchs_constant_lr(fields, twin):
    def make(optimizer):
        main = twin(optimizer, STEPS - 10)  # first, since CyclicLR sets the optimiser's rate
        warmup = lr_scheduler.ConstantLR(optimizer, factor=0.2, total_iters=10)
        return lr_scheduler.SequentialLR(optimizer, [warmup, main], [10])

    ours = our_rates(**fields, warmup="1 epoch", warmup_kind="constant", warmup_factor=0.2)
    assert_same_rates(ours, torch_rates(make))


FROM_STEP_0 = [
    ({"name": "step", "every": "12 steps", "gamma": 0.3},
     lambda o: lr_scheduler.StepLR(o, step_size=12, gamma=0.3)),
    ({"name": "step", "every": "1 step", "gamma": 0.9},
     lambda o: lr_scheduler.ExponentialLR(o, gamma=0.9)),
    ({"name": "multistep", "milestones": ("2 epochs", "35 steps", "35 steps", "700 steps")},
     lambda o: lr_scheduler.MultiStepLR(o, milestones=[20, 35, 35, 700])),
    ({"name": "multistep", "milestones": ("0 steps", "50%"), "gamma": 0.2},
     lambda o: lr_scheduler.MultiStepLR(o, milestones=[0, 30], gamma=0.2)),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "twin"), FROM_STEP_0, ids=name_of)
def test_steps_are_torchs(fields, twin):
    assert_same_rates(our_rates(**fields), torch_rates(twin))


@pytest.mark.parametrize(("fields", "twin"), FROM_STEP_0, ids=name_of)
def test_steps_count_from_step_0_as_under_torchs_chained_warm_up(fields, twin):
    def make(optimizer):
        warmup = lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=15)
        return lr_scheduler.ChainedScheduler([warmup, twin(optimizer)], optimizer)

    ours = our_rates(**fields, warmup="15 steps", warmup_factor=0.2)
    assert_same_rates(ours, torch_rates(make))


def test_warm_up_starts_from_zero_where_torch_cannot():
    ours = our_rates(name="cosine", warmup="7 steps")
    annealed = torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=53), 53)
    assert_same_rates(ours, [PEAK * i / 7 for i in range(7)] + annealed)


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("linear", lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=STEPS)),
        ("polynomial", lambda o: lr_scheduler.PolynomialLR(o, total_iters=STEPS)),
    ],
)
def test_what_has_come_to_its_end_stays_there_as_in_torch(name, twin):
    assert_same_rates(our_rates(steps=STEPS + 20, name=name), torch_rates(twin, STEPS + 20))


@pytest.mark.parametrize(("fields", "twin"), TWINS, ids=name_of)
def test_the_counter_of_the_train_state_gives_double_precision(fields, twin):
    np.testing.assert_array_equal(our_rates(dtype=np.int32, **fields), our_rates(**fields))


def test_every_schedule_is_compared():
    names = {fields["name"] for fields, _ in [*TWINS, *FROM_STEP_0]} | {"plateau"}
    assert names == set(SCHEDULES)


# Losses that fall, stay, rise, tie, fall by less than a threshold, and are no number.
LOSSES = np.concatenate(
    [
        np.linspace(2, 1, 6), np.full(7, 1.0), [0.9999999, 0.99995, 0.9998, 0.99, np.nan, np.inf],
        np.random.default_rng(0).uniform(0.5, 1.2, size=40), np.full(40, 0.4), -np.arange(5.0),
        np.zeros(30),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"patience": 0, "factor": 0.5},
        {"patience": 2, "factor": 0.3, "cooldown": 3},
        {"patience": 1, "threshold": 0.05, "threshold_mode": "abs"},
        {"patience": 1, "threshold": 0.05, "threshold_mode": "rel", "min_rate": 0.01},
        {"patience": 0, "factor": 0.9, "eps": 0.02},
        {"patience": 0, "factor": 0.0, "min_rate": 0.1, "threshold": 0.0},
    ],
    ids=str,
)
def test_plateau_is_torchs(fields):
    optimizer = sgd()
    theirs = {("min_lr" if key == "min_rate" else key): value for key, value in fields.items()}
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **theirs)
    plateau = Plateau.of(ScheduleConfig(name="plateau", **fields), PEAK)
    assert plateau is not None
    state, ours, expected = plateau.start(), [], []
    for loss in LOSSES:
        scheduler.step(loss)
        state = plateau.after(state, loss)
        expected.append(optimizer.param_groups[0]["lr"])
        ours.append(PEAK * float(state["factor"]))
    assert_same_rates(ours, expected)
    assert len(set(expected)) > 1
