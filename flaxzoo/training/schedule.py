"""Learning-rate schedules, stepped per update."""

import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from flaxzoo.config import ScheduleConfig
from flaxzoo.errors import UserError, unknown
from flaxzoo.training.clock import Clock
from flaxzoo.training.plateau import Plateau

Schedule = Callable[[Any], Any]  # number of steps taken -> learning rate; arrays elementwise


def make_schedule(config: ScheduleConfig, peak: float, clock: Clock) -> Schedule:
    """Returns the learning rate as a function of the number of steps already taken.

    The rate is the product of two: what the schedule `config.name` (one of SCHEDULES) says, and the
    part of it that `config.warmup` allows so far. Warm-up is torch's LinearLR, but from zero unless
    `warmup_factor` is set, or its ConstantLR. A schedule with a length (cosine, say) starts when
    warm-up ends and takes the rest of the run; those in FROM_STEP_0 count the steps of the run,
    warm-up included. After the run the rate stays where it is.

    A field of `config` that is None has its default, which the schedule's function names. A field
    that this function does not take must be None. Durations are whole steps.

    Args:
        peak: the rate that the optimiser's config names, which is the highest of every schedule.

    Raises:
        UserError: no such schedule; a field that it lacks or does not take; values that contradict
            each other or the length of the run.
    """
    if config.name not in SCHEDULES:
        raise unknown("schedule", config.name, SCHEDULES)
    total, warmup = clock.total_steps, clock.steps(config.warmup)
    if warmup > total:
        raise UserError(f"warm-up of {warmup} steps is longer than the run of {total} steps.")
    arguments = _arguments(config, clock, length=max(1, total - warmup))
    if arguments.get("min_rate", 0.0) > peak:
        raise UserError(
            f"config.schedule.min_rate is above config.optimizer.learning_rate={peak}; "
            f"got {config.min_rate}."
        )
    main = SCHEDULES[config.name](peak, **arguments)
    allowed = _warmup(config, warmup)
    start = 0 if config.name in FROM_STEP_0 else warmup

    def rate(step: Any) -> Any:
        # int32 over int is float32 even where float64 is on, int64 is not.
        step = jnp.clip(jnp.asarray(step, int), 0, total)
        return allowed(step) * main(jnp.maximum(step - start, 0))

    return rate


def _warmup(config: ScheduleConfig, length: int) -> Schedule:
    """Returns the part of the rate that is allowed: it ends at 1, from step `length` on."""
    factor = config.warmup_factor or 0.0
    if not length:
        if config.warmup_kind is not None or config.warmup_factor is not None:
            raise UserError(
                "config.schedule.warmup_kind and warmup_factor need config.schedule.warmup above "
                f"zero; got {config.warmup!r}."
            )
        return lambda step: 1.0
    if config.warmup_kind == "constant":
        if not factor:
            raise UserError("a constant warm-up needs config.schedule.warmup_factor above 0.")
        return lambda step: jnp.where(step < length, factor, 1.0)
    return lambda step: jnp.where(step < length, factor + (1 - factor) * step / length, 1.0)


def _arguments(config: ScheduleConfig, clock: Clock, length: int) -> dict[str, Any]:
    """Returns what `config` sets of what its schedule takes, with durations in steps."""
    parameters = inspect.signature(SCHEDULES[config.name]).parameters.values()
    takes = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    arguments: dict[str, Any] = {"length": length} if "length" in takes else {}
    takes.pop("length", None)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value is None or value == () or field.name in COMMON_FIELDS:
            continue
        if field.name not in takes:
            raise UserError(
                f"config.schedule.{field.name} must be None for a {config.name} schedule, which "
                f"takes {', '.join(takes) or 'nothing but a warm-up'}; got {value!r}."
            )
        if field.name in DURATION_FIELDS:
            value = clock.interval(f"config.schedule.{field.name}", value)
        elif field.name == "milestones":
            value = [clock.steps(milestone) for milestone in value]
        arguments[field.name] = value
    for name, default in takes.items():
        if default is inspect.Parameter.empty and name not in arguments:
            raise UserError(
                f"a {config.name} schedule needs config.schedule.{name}; it is not set."
            )
    return arguments


COMMON_FIELDS = ("name", "warmup", "warmup_kind", "warmup_factor")
DURATION_FIELDS = ("every", "up", "down")


def constant(peak: float) -> Schedule:
    """`peak` throughout."""
    return lambda t: jnp.full_like(t, peak, dtype=float)


def step(peak: float, *, every: int, gamma: float = 0.1) -> Schedule:
    """torch's StepLR, times `gamma` after every so many steps; with 1 step its ExponentialLR."""
    return lambda t: peak * _power(gamma, t // every)


def multistep(peak: float, *, milestones: list[int], gamma: float = 0.1) -> Schedule:
    """torch's MultiStepLR: times `gamma` at each of `milestones`.

    Those beyond the end of the run never come, as in torch: recipes are run for shorter times.
    """
    if milestones != sorted(milestones):
        raise UserError(f"milestones must not go back; in steps they are {milestones}.")
    rates = np.asarray([peak * gamma**i for i in range(len(milestones) + 1)])
    return lambda t: jnp.asarray(rates)[_count_up_to(milestones, t)]


def cosine(peak: float, *, length: int, min_rate: float = 0.0) -> Schedule:
    """torch's CosineAnnealingLR (Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983)."""
    return lambda t: min_rate + (peak - min_rate) * _half_cosine(t / length)


def cosine_restarts(
    peak: float, *, length: int, every: int, growth: int = 1, min_rate: float = 0.0
) -> Schedule:
    """torch's CosineAnnealingWarmRestarts, the SGDR of the same paper.

    The first period takes `every` steps, each one after it `growth` times those of the one before.
    """
    if growth == 1:  # as many as the run has room for: no table of them

        def even(t: Any) -> Any:
            start = jnp.minimum(t, length - 1) // every * every
            return min_rate + (peak - min_rate) * _half_cosine((t - start) / every)

        return even
    starts, periods = [0], [every]
    while starts[-1] + periods[-1] < length:
        starts.append(starts[-1] + periods[-1])
        periods.append(periods[-1] * growth)

    def rate(t: Any) -> Any:
        i = _count_up_to(starts, t) - 1
        done = (t - jnp.asarray(starts)[i]) / jnp.asarray(periods, float)[i]
        return min_rate + (peak - min_rate) * _half_cosine(done)

    return rate


def polynomial(peak: float, *, length: int, power: float = 1.0, min_rate: float = 0.0) -> Schedule:
    """torch's PolynomialLR, which has no `min_rate`: it ends at zero."""
    return lambda t: min_rate + (peak - min_rate) * ((length - t) / length) ** power


def linear(peak: float, *, length: int, min_rate: float = 0.0) -> Schedule:
    """torch's LinearLR from 1 to `min_rate / peak`."""
    return polynomial(peak, length=length, min_rate=min_rate)


def one_cycle(
    peak: float,
    *,
    length: int,
    up: int | None = None,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    anneal: str = "cos",
    three_phase: bool = False,
) -> Schedule:
    """torch's OneCycleLR with `cycle_momentum=False`: the momentum stays as it is.

    (Smith and Topin 2017, https://arxiv.org/abs/1708.07120.) From `peak / div_factor` up to `peak`
    and down to the first rate over `final_div_factor`. With three phases the way down reaches the
    first rate in as many steps as the way up took.

    Args:
        up: steps of the way up; None for torch's 0.3 of the length, which need not be whole.
        anneal: "cos" or "linear", the shape of each phase.
    """
    rise = 0.3 * length if up is None else up
    first = peak / div_factor
    middle = [(2 * rise - 2, first)] if three_phase else []
    points = [(0, first), (rise - 1, peak), *middle, (length - 1, first / final_div_factor)]
    ends, rates = (np.asarray(values) for values in zip(*points, strict=True))
    if not all(before < after for before, after in itertools.pairwise(ends)):
        raise UserError(
            f"a one-cycle schedule that rises for {rise:g} of {length} steps has no time for each "
            f"of its {len(ends) - 1} phases; change config.schedule.up or the run's duration."
        )
    shape = {"cos": _half_cosine, "linear": lambda done: 1 - done}[anneal]

    def rate(t: Any) -> Any:
        i = _count_up_to(ends[1:-1], t, side="left")  # the step at a phase's end belongs to it
        start, end = jnp.asarray(ends)[i], jnp.asarray(ends)[i + 1]
        done = jnp.minimum((t - start) / (end - start), 1.0)
        low = jnp.asarray(rates)[i + 1]
        return low + (jnp.asarray(rates)[i] - low) * shape(done)

    return rate


def cyclic(
    peak: float,
    *,
    min_rate: float,
    up: int,
    down: int | None = None,
    mode: str = "triangular",
    gamma: float | None = None,
) -> Schedule:
    """torch's CyclicLR with `cycle_momentum=False`: the momentum stays as it is.

    (Smith 2015, https://arxiv.org/abs/1506.01186.) From `min_rate` to `peak` in `up` steps and back
    in `down`, again and again.

    Args:
        down: None for as many steps as `up`.
        mode: "triangular" goes up to `peak` each time, "triangular2" half as high above `min_rate`
            as the time before; "exp_range" lowers the height by `gamma` at each step.
    """
    if (mode == "exp_range") != (gamma is not None):
        raise UserError(
            "a cyclic schedule takes config.schedule.gamma with mode 'exp_range' and only with it; "
            f"got mode {mode!r} and gamma {gamma}."
        )
    fall = up if down is None else down

    def rate(t: Any) -> Any:
        cycle, within = jnp.divmod(t, up + fall)
        part = jnp.where(within <= up, within / up, (up + fall - within) / fall)
        scale = {"triangular": (1.0, 0), "triangular2": (0.5, cycle), "exp_range": (gamma, t)}
        return min_rate + (peak - min_rate) * part * _power(*scale[mode])

    return rate


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "step": step,
    "multistep": multistep,
    "cosine": cosine,
    "cosine_restarts": cosine_restarts,
    "linear": linear,
    "polynomial": polynomial,
    "one_cycle": one_cycle,
    "cyclic": cyclic,
    "plateau": Plateau,
}

# Their epochs are those of the run, warm-up included (Goyal et al. 2017, arXiv:1706.02677).
FROM_STEP_0 = ("step", "multistep")


def _half_cosine(done: Any) -> Any:
    """Returns (1 + cos(pi * done)) / 2: from 1 to 0.

    Written as a square, which keeps its digits near 0 and is exact at both ends in float32, too.
    """
    return jnp.sin(math.pi / 2 * (1 - done)) ** 2


def _count_up_to(bounds: Any, t: Any, side: str = "right") -> Any:
    """Returns how many of the rising `bounds` are <= t, or < t with side="left"."""
    return jnp.searchsorted(np.asarray(bounds), t, side=side, method="compare_all")


def _power(base: float, exponent: Any) -> Any:
    """Returns base**exponent; in float32, too, with `base` in double precision."""
    return jnp.exp(math.log(base) * exponent)
