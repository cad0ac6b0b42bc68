"""Lower rates when the validation loss no longer falls."""

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from flaxzoo.config import ScheduleConfig

State = dict[str, Any]  # scalars: NumPy's, or JAX's after a step


@dataclass(frozen=True)
class Plateau:
    """torch's ReduceLROnPlateau on a loss (`mode="min"`), as a function of its own state.

    As a schedule it is constant at `peak`. What the rate is multiplied by is in the state, which
    travels with the train state and its checkpoints:

        factor: of the rate, 1 at first;
        best: the lowest loss so far that was an improvement;
        bad: evaluations since then;
        wait: evaluations yet to come in which none counts as bad.
    """

    peak: float
    _: KW_ONLY
    factor: float = 0.1  # the rate is multiplied by it
    patience: int = 10  # evaluations without improvement that are put up with
    threshold: float = 1e-4  # how much lower a loss must be to be an improvement
    threshold_mode: str = "rel"  # to the best loss, or "abs"
    cooldown: int = 0  # evaluations after a reduction in which none counts as bad
    min_rate: float = 0.0  # without warm-up, whose rates may be lower
    eps: float = 1e-8  # reductions of the rate by no more than this are not made

    @classmethod
    def of(cls, config: ScheduleConfig, peak: float) -> "Plateau | None":
        """Returns what `config` describes, or None where it names another schedule."""
        if config.name != "plateau":
            return None
        names = {f.name for f in dataclasses.fields(cls)} - {"peak"}
        values = {name: getattr(config, name) for name in names}
        return cls(peak, **{name: value for name, value in values.items() if value is not None})

    def __call__(self, step: Any) -> Any:
        """Returns the rate that the factor multiplies: `peak`, in the shape of `step`."""
        return jnp.full_like(step, self.peak, dtype=float)

    def start(self) -> State:
        """Returns the state before the first evaluation."""
        return _state(factor=1.0, best=float("inf"), bad=0, wait=0)

    def after(self, state: Mapping[str, Any], loss: float) -> State:
        """Returns the state after an evaluation that gave `loss`; the old one is not changed."""
        factor, best = float(state["factor"]), float(state["best"])
        bad, wait = int(state["bad"]), int(state["wait"])
        loss = float(_real(loss))  # as the state holds it: an equal loss is then no improvement
        relative = self.threshold_mode == "rel"
        # (A loss that is not a number compares as false, and is none either.)
        if loss < (best * (1 - self.threshold) if relative else best - self.threshold):
            best, bad = loss, 0
        else:
            bad += 1
        if wait > 0:
            wait, bad = wait - 1, 0
        if bad > self.patience:
            factor, bad, wait = self._reduced(factor), 0, self.cooldown
        return _state(factor, best, bad, wait)

    def _reduced(self, factor: float) -> float:
        rate = self.peak * factor
        lower = max(rate * self.factor, self.min_rate)
        return lower / self.peak if rate - lower > self.eps else factor


def _state(factor: float, best: float, bad: int, wait: int) -> State:
    # In the types that a jitted step returns, so that the second step is not compiled again.
    counts = {"bad": np.asarray(bad, np.int32), "wait": np.asarray(wait, np.int32)}
    return {"factor": _real(factor), "best": _real(best), **counts}


def _real(value: float) -> np.ndarray:
    return np.asarray(value, jnp.result_type(float))
