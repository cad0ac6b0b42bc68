"""What asks a run, between two steps, to save or to stop: signals and the clock."""

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# Control-C; what kill, SLURM and preempted machines send; what `sbatch --signal=USR1@120` sends.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop, and has saved. A notebook treats it as its stop button.

    Attributes:
        signum: the signal that asked; the command line exits with 128 + signum.
    """

    def __init__(self, signum: int, step: int, directory: Path):
        super().__init__(f"saved step {step} in {directory}")
        self.signum = signum


class Watch:
    """Notes signals and the time since the last save, for the loop to ask after each step.

    Signals are caught inside `with`, and only in the main thread: Python allows no other to. The
    first one is noted, so that the step in progress ends; a second Control-C raises
    KeyboardInterrupt at once. Other signals may come twice, to a process and to its group.
    """

    def __init__(self, minutes: float):
        """Args:
        minutes: the longest time between two saves; 0 for no limit.
        """
        self._seconds = 60 * minutes
        self._saved = time.monotonic()
        self._signum = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Watch":
        if threading.current_thread() is threading.main_thread():
            handlers = {s: signal.getsignal(s) for s in SIGNALS}
            # Ignored for a reason: a shell's background job, say. None: set by no Python code.
            self._before = {s: h for s, h in handlers.items() if h not in (signal.SIG_IGN, None)}
            for signum in self._before:
                signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, _: FrameType | None) -> None:
        if signum == signal.SIGINT:
            if self._signum == signal.SIGINT:
                raise KeyboardInterrupt
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nstopping after this step; Control-C again stops at once\n")
        self._signum = self._signum or signum

    def saved(self) -> None:
        """Starts the time to the next save."""
        self._saved = time.monotonic()

    def poll(self, *, meet: bool) -> tuple[bool, int]:
        """Returns (whether to save now, the signal to stop for or 0).

        Args:
            meet: whether all processes of the run ask at this step. A signal may reach one of them
                alone and their clocks differ, but saving takes all of them, at the same step: they
                agree where they meet, and nothing happens elsewhere. One process needs no meeting.
        """
        overdue = 0 < self._seconds <= time.monotonic() - self._saved
        if jax.process_count() == 1:
            return overdue, self._signum
        if not meet:
            return False, 0
        asked = multihost_utils.process_allgather(np.array([overdue, self._signum], np.int32))
        save, signum = np.max(asked, axis=0)
        return bool(save), int(signum)
