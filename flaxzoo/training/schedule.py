"""Learning-rate schedules, stepped per update, and durations in any unit."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax

from flaxzoo.config import ScheduleConfig
from flaxzoo.errors import UserError, unknown

Schedule = Callable[[Any], Any]  # number of steps taken -> learning rate


@dataclass(frozen=True)
class Clock:
    """Converts durations into steps, for one data set, batch size and length of the run."""

    steps_per_epoch: int
    batch_size: int
    total_steps: int

    @classmethod
    def of(cls, duration: str, steps_per_epoch: int, batch_size: int) -> "Clock":
        """Returns the clock of a run that lasts `duration`, which cannot be a percentage."""
        endless = cls(steps_per_epoch, batch_size, total_steps=0)
        if "%" in duration:
            raise UserError(f"a run cannot last a percentage of itself; got {duration!r}.")
        if not (total := endless.steps(duration)):
            raise UserError(f"a run takes at least one step; got {duration!r}.")
        return cls(steps_per_epoch, batch_size, total)

    def steps(self, duration: str) -> int:
        """Returns the number of steps in "500 steps", "2.5 epochs", "50000 examples" or "5%".

        Raises:
            UserError: no number, no known unit, or a negative number.
        """
        match = re.fullmatch(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([a-z]+|%)\s*", duration)
        steps_in = {
            "step": 1.0,
            "epoch": float(self.steps_per_epoch),
            "example": 1 / self.batch_size,
            "%": self.total_steps / 100,
        }
        unit = match[2].removesuffix("s") if match else ""
        if match is None or unit not in steps_in:
            raise UserError(
                "a duration is a number and a unit, like '30 epochs', '500 steps', "
                f"'50000 examples' or '5%'; got {duration!r}."
            )
        return round(float(match[1]) * steps_in[unit])

    def interval(self, name: str, duration: str) -> int:
        """Returns the steps in a `duration`, at least one; `name` is for the message."""
        if (steps := self.steps(duration)) < 1:
            raise UserError(f"{name} must be at least one step; got {duration!r}.")
        return steps


def make_schedule(config: ScheduleConfig, peak: float, clock: Clock) -> Schedule:
    """Returns the learning rate as a function of the number of steps already taken.

    After `warmup`, in which it rises linearly from zero, the rate starts at `peak` and is:
        constant: peak throughout;
        cosine: torch's CosineAnnealingLR to zero over the rest of the run (Loshchilov and Hutter
            2016, https://arxiv.org/abs/1608.03983);
        multistep: torch's MultiStepLR, times `gamma` at each of `milestones`, counted from step 0.
    """
    total = clock.total_steps
    warmup = clock.steps(config.warmup)
    main: Schedule
    if warmup > total:
        raise UserError(f"warm-up of {warmup} steps is longer than the run of {total} steps.")
    if config.name == "multistep":
        if not config.milestones:
            raise UserError(
                "a multistep schedule needs milestones, like ('150 epochs',); got none."
            )
        milestones = [clock.steps(m) for m in config.milestones]
        main = _multistep(peak, milestones, config.gamma)
    elif config.name == "cosine":
        main = _cosine(peak, warmup, total)
    elif config.name == "constant":
        main = optax.constant_schedule(peak)
    else:
        raise unknown("schedule", config.name, ("constant", "cosine", "multistep"))
    if not warmup:
        return main
    return lambda step: jnp.where(step < warmup, peak * step / warmup, main(step))


def _cosine(peak: float, start: int, total: int) -> Schedule:
    length = max(1, total - start)
    return lambda step: peak * (1 + jnp.cos(math.pi * (step - start) / length)) / 2


def _multistep(peak: float, milestones: list[int], gamma: float) -> Schedule:
    if milestones != sorted(milestones):
        raise UserError(f"milestones must not go back; in steps they are {milestones}.")
    rates = jnp.asarray([peak * gamma**i for i in range(len(milestones) + 1)])
    return lambda step: rates[jnp.searchsorted(jnp.asarray(milestones), step, side="right")]
