"""What a run shows while it goes: one live line on a terminal, plain lines anywhere else."""

import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

WIDE = 115  # columns of a terminal that has room for the bar
PLAIN_INTERVAL = 10.0  # seconds between lines where there is no terminal


class ProgressLine:
    """Shows step, loss, accuracy, learning rate, images/s and the time that is left."""

    def __init__(
        self, total_steps: int, steps_per_epoch: int, start_step: int, quiet: bool = False
    ):
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True)
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        figures: list[ProgressColumn] = [
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[text]}"),
        ]
        if self.console.width >= WIDE:
            steps = TextColumn("step {task.completed:.0f}/{task.total:.0f}")
            figures[1:1] = [BarColumn(bar_width=20), steps]
        self._live = Progress(*figures, console=self.console, disable=not self.console.is_terminal)
        self._task = self._live.add_task(
            "compiling", total=total_steps, completed=start_step, text=""
        )
        self._first: tuple[int, float] | None = None  # step and time of the first metrics
        self._printed = 0.0

    def __enter__(self) -> "ProgressLine":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self.console.print(text, markup=False)

    def show(self, step: int, row: dict[str, Any]) -> None:
        """Shows the state after `step` updates; `row` holds what metrics.jsonl got."""
        text = (
            f"loss {row['train_loss']:.3f}  acc {row['train_accuracy']:6.2%}  "
            f"lr {row['learning_rate']:.3g}  {row['images_per_second']:,.0f} images/s"
        )
        epoch = f"epoch {row['epoch']:.1f}/{self.total_steps / self.steps_per_epoch:.3g}"
        now = time.monotonic()
        self._first = self._first or (step, now)
        self._live.update(self._task, completed=step, description=epoch, text=text)
        if "val_accuracy" in row:
            ema = row.get("val_ema_accuracy")
            self.say(
                f"{epoch}  loss {row['train_loss']:.3f}  validation loss {row['val_loss']:.3f}  "
                f"accuracy {row['val_accuracy']:.2%}" + (f"  averaged {ema:.2%}" if ema else "")
            )
            return
        if not self.console.is_terminal and now - self._printed >= PLAIN_INTERVAL:
            self._printed = now
            self.say(f"{epoch}  step {step}/{self.total_steps}  {text}{self._left(step, now)}")

    def _left(self, step: int, now: float) -> str:
        """Returns the time to the end at the pace so far, evaluations included, if it is known.

        The first metrics come after compiling, which the pace leaves out.
        """
        first_step, first_time = self._first or (step, now)
        if step == first_step:
            return ""
        pace = (now - first_time) / (step - first_step)
        return f"  {timedelta(seconds=round(pace * (self.total_steps - step)))} left"
