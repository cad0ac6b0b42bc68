"""Durations in any unit become steps."""

import re
from dataclasses import dataclass

from flaxzoo.errors import UserError

MOST_STEPS = 2**31 - 1  # of the train state's counter
_UNITS = {"step": "step", "epoch": "epoch", "example": "example", "%": "%", "percent": "%"}


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
        if _parse(duration)[1] == "%":
            raise UserError(f"a run cannot last a percentage of itself; got {duration!r}.")
        if not (total := endless.steps(duration)):
            raise UserError(f"a run takes at least one step; got {duration!r}.")
        return cls(steps_per_epoch, batch_size, total)

    def steps(self, duration: str) -> int:
        """Returns the steps in "500 steps", "2.5 epochs", "50_000 examples" or "5%" of the run.

        The nearest whole number of them; one half goes to the even neighbour.

        Raises:
            UserError: no number, no known unit, two units at once, a negative number, or one that
                the counter of steps does not hold.
        """
        number, unit = _parse(duration)
        steps_in = {
            "step": 1.0,
            "epoch": float(self.steps_per_epoch),
            "example": 1 / self.batch_size,
            "%": self.total_steps / 100,
        }
        if (steps := number * steps_in[unit]) > MOST_STEPS:
            raise UserError(f"{duration!r} is more steps than can be counted, {MOST_STEPS}.")
        return round(steps)

    def interval(self, name: str, duration: str) -> int:
        """Returns the steps in a `duration`, at least one; `name` is for the message."""
        if (steps := self.steps(duration)) < 1:
            raise UserError(f"{name} must be at least one step; got {duration!r}.")
        return steps


def _parse(duration: str) -> tuple[float, str]:
    """Returns the number of a duration and its unit: step, epoch, example or %."""
    text = duration.casefold()
    units = [word for word in re.findall(r"[a-z]+|%", text) if word.removesuffix("s") in _UNITS]
    if len(units) > 1:
        raise UserError(f"a duration has one unit, not {' and '.join(units)}; got {duration!r}.")
    match = re.fullmatch(r"\s*(\d+(?:_\d+)*(?:\.\d+)?)\s*([a-z]+|%)\s*", text, re.ASCII)
    if match is None or not units:
        raise UserError(
            "a duration is a number and a unit, like '30 epochs', '500 steps', "
            f"'50000 examples' or '5%'; got {duration!r}."
        )
    return float(match[1]), _UNITS[match[2].removesuffix("s")]
