"""Checkpoints of a run: asynchronous, atomic, checked by sums, the latest few and the best.

The only module that knows orbax. What a kill leaves, of a checkpoint that was being written or
deleted, has a temporary name, which nothing ever reads and the next run removes.
"""

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxzoo.checksums import damage, write_sums
from flaxzoo.errors import UserError
from flaxzoo.training.distributed import on_first

METRIC = "accuracy"
_UNFINISHED = ".orbax-checkpoint-tmp"  # how orbax names a save until it is whole
_FULL = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than the limit (ulimit -f)",
}


class Checkpoints:
    """The folder of a run's checkpoints, each named after its step.

    Keeps the latest `keep` and the one with the highest validation accuracy.
    """

    def __init__(self, directory: Path, keep: int):
        from orbax.checkpoint import v1  # 2 to 3 s, so only where checkpoints are used

        ocp: Any = v1  # its annotations contradict each other
        # By default each device that has a copy writes a part of it, which it cuts out with a
        # program of its own: half a minute of compiling before the first save, on 8 devices.
        context = ocp.Context()
        context.array.saving.use_replica_parallel = False
        _remove_unfinished(directory)
        with _told(directory, "write"):
            self._checkpointer = ocp.training.Checkpointer(
                directory,
                save_decision_policy=_Always(),
                context=context,
            )
        self.directory = directory
        self._keep = keep
        # The accuracy of each checkpoint, None where it was not validated.
        self._kept = {
            saved.step: (saved.metrics or {}).get(METRIC)
            for saved in self._checkpointer.checkpoints
        }
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: Future | None = None

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, None where there is none."""
        return max(self._kept, default=None)

    def best_step(self) -> int | None:
        """Returns the step of the kept checkpoint with the highest validation accuracy.

        Of several, the latest: it is the one that stays. None where none was validated.
        """
        self.wait()
        return _best(self._kept)

    def is_scored(self, step: int) -> bool:
        """Whether the kept checkpoint of `step` was validated before it was saved."""
        return self._kept.get(step) is not None

    def save(self, step: int, state: Any, accuracy: float | None) -> None:
        """Starts to save; returns once the arrays are copied and the previous save has ended.

        Raises:
            UserError: this or the previous save could not be written.
        """
        metrics = None if accuracy is None else {METRIC: accuracy}
        self.wait()
        with _told(self.directory, "write"):
            if jax.process_index() == 0:
                self._check_writable()
            saving = self._checkpointer.save_checkpointables_async(
                step, {"state": state}, metrics=metrics
            )
        self._pending = self._thread.submit(self._complete, saving, step, accuracy)

    def _check_writable(self) -> None:
        """Raises OSError where orbax could make no folder: it would end, but wait for minutes."""
        probe = self.directory / f"probe{_UNFINISHED}"
        probe.mkdir(exist_ok=True)
        probe.rmdir()

    def _complete(self, saving: Any, step: int, accuracy: float | None) -> None:
        """Waits for a save; only then deletes what is not kept any more."""
        saving.result()
        first = jax.process_index() == 0
        if first:
            write_sums(self.directory / str(step))
        complete = self._kept | {step: accuracy}
        stay = {*sorted(complete)[-self._keep :], _best(complete)}
        self._kept = {step: score for step, score in complete.items() if step in stay}
        for old in complete.keys() - stay if first else ():
            self._delete(old)

    def _delete(self, step: int) -> None:
        """Deletes a checkpoint, which a kill leaves whole or under a temporary name.

        orbax would delete it file by file under its own, and then take for whole what is left.
        """
        path = self.directory / str(step)
        shutil.rmtree(path.rename(f"{path}{_UNFINISHED}"), ignore_errors=True)

    def wait(self) -> None:
        """Returns once the save in progress is on disk."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with _told(self.directory, "write"):
                pending.result()

    def restore(self, state: Any, step: int | None = None) -> Any:
        """Returns the saved state of `step` (the latest by default), laid out as `state` is.

        Raises:
            UserError: it is damaged, or of another model.
        """
        step = self.latest_step() if step is None else step
        on_first(lambda: check_intact(self.directory / str(step)))
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
        )
        with _told(self.directory, "read"):
            metadata = self._checkpointer.checkpointables_metadata(step).metadata
            self._check_same_model(_shapes(metadata["state"]), _shapes(abstract))
            return self._checkpointer.load_checkpointables(step, {"state": abstract})["state"]

    def _check_same_model(self, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
        """Refuses a checkpoint of other arrays: orbax would leave half a restore running."""
        differing = [k for k in saved.keys() | wanted.keys() if saved.get(k) != wanted.get(k)]
        if differing:
            name = min(differing)
            raise UserError(
                f"the checkpoints in {self.directory} are of another model or data set: {name} is "
                f"{saved.get(name, 'absent')} there and {wanted.get(name, 'absent')} here "
                f"({len(differing)} such differences)."
            )

    def close(self) -> None:
        """Waits for the save in progress and ends.

        Raises:
            UserError: that save could not be written.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            with contextlib.suppress(Exception):  # orbax tells of a failed save once more here
                self._checkpointer.close()
            _remove_unfinished(self.directory)


def _best(accuracies: dict[int, float | None]) -> int | None:
    """Returns the step of the highest accuracy, of several the latest; None without any."""
    scored = [(score, step) for step, score in accuracies.items() if score is not None]
    return max(scored)[1] if scored else None


def _remove_unfinished(directory: Path) -> None:
    """Removes what was being written or deleted; orbax would, but meanwhile, in a thread."""
    for path in () if jax.process_index() else directory.glob(f"*{_UNFINISHED}"):
        shutil.rmtree(path, ignore_errors=True)


def saved_steps(directory: Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a run's folder of them, none without one."""
    if not directory.is_dir():
        return []
    return [int(path.name) for path in directory.iterdir() if path.name.isdigit()]


def check_intact(checkpoint: Path) -> None:
    """Refuses a checkpoint whose files are not what was saved.

    Raises:
        UserError: names the first such file, and the other checkpoints.
    """
    if wrong := damage(checkpoint):
        others = [step for step in saved_steps(checkpoint.parent) if str(step) != checkpoint.name]
        raise UserError(
            f"the checkpoint {checkpoint} is damaged: {wrong}; others in its folder: "
            f"{', '.join(map(str, sorted(others))) or 'none'}."
        )


def set_damaged_aside(directory: Path) -> list[str]:
    """Renames the damaged ones among a run's checkpoints; returns a sentence about each.

    The run then goes on from the newest of the others, and comes to their steps again. Nothing is
    deleted. It has to be done before they are opened: orbax reads something of each.

    Raises:
        UserError: none is intact; nothing was renamed.
        OSError: one cannot be renamed.
    """
    steps = sorted(saved_steps(directory), reverse=True)
    damaged = {step: wrong for step in steps if (wrong := damage(directory / str(step)))}
    texts = [f"{step} ({wrong})" for step, wrong in damaged.items()]
    if damaged and len(damaged) == len(steps):
        raise UserError(
            f"no checkpoint in {directory} is intact: {', '.join(texts)}; delete the folder to "
            "start anew, or use another --workdir."
        )
    told = []
    for step, wrong in damaged.items():
        names = (f"{step}.damaged-{i}" if i else f"{step}.damaged" for i in itertools.count())
        name = next(name for name in names if not (directory / name).exists())
        (directory / str(step)).rename(directory / name)
        told.append(f"the checkpoint {directory / str(step)} is damaged: {wrong}; now it is {name}")
    return told


def read_weights(checkpoint: Path, kind: str = "") -> dict[str, np.ndarray]:
    """Returns the parameters and running statistics in a checkpoint's folder, by dotted name.

    Nothing is written, and the model need not be known.

    Args:
        kind: "raw", "ema" for averaged ones, or "" for these where the run kept an average.

    Raises:
        UserError: the folder is no checkpoint of a run, or is damaged, or has no average.
    """
    from orbax.checkpoint import v1

    ocp: Any = v1
    path = checkpoint.absolute()
    check_intact(path)
    with _told(checkpoint, "read"):
        saved = ocp.checkpointables_metadata(path).metadata["state"]
        if kind == "ema" and not saved.get("ema"):
            raise UserError(f"{path} has no averaged weights: the run had config.ema.decay=0.")
        wanted = ("ema",) if saved.get("ema") and kind != "raw" else ("params", "batch_stats")
        makers = {
            True: lambda array: np.empty(array.shape, array.dtype),
            False: lambda _: ocp.PLACEHOLDER,  # is not read
        }
        abstract = {key: jax.tree.map(makers[key in wanted], part) for key, part in saved.items()}
        state = ocp.load_checkpointables(path, {"state": abstract})["state"]
        arrays = state["ema"] if "ema" in wanted else state
        return arrays["params"] | arrays["batch_stats"]


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
            for path, leaf in leaves}  # fmt: skip


class _Always:
    """The loop decides when to save; orbax's default would skip a save while another one runs."""

    def should_save(self, *_: Any, **__: Any) -> bool:
        return True


@contextlib.contextmanager
def _told(directory: Path, verb: str) -> Iterator[None]:
    """Turns what the file system and orbax raise into one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = " ".join(str(getattr(error, "strerror", None) or error).split())
        full = [
            words
            for number, words in _FULL.items()
            # tensorstore has the error of the system in its text alone
            if number == getattr(error, "errno", None) or os.strerror(number) in text
        ]
        reason = full[0] if full else text[:300]
        raise UserError(f"cannot {verb} checkpoints in {directory}: {reason}.") from error
