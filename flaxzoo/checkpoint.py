"""Checkpoints of a run: asynchronous, atomic, the latest few and the best.

The only module that knows orbax. A save that is cut short leaves a folder under a temporary name,
which nothing ever reads and the next save removes.
"""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxzoo.errors import UserError

METRIC = "accuracy"
_UNFINISHED = ".orbax-checkpoint-tmp"  # how orbax names a save until it is whole


class Checkpoints:
    """The folder of a run's checkpoints, each named after its step.

    Keeps the latest `keep` and the one with the highest validation accuracy.
    """

    def __init__(self, directory: Path, keep: int):
        from orbax.checkpoint import v1  # 2 to 3 s, so only where checkpoints are used

        ocp: Any = v1  # its annotations contradict each other
        policies = ocp.training.preservation_policies
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics[METRIC],
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        # By default each device that has a copy writes a part of it, which it cuts out with a
        # program of its own: half a minute of compiling before the first save, on 8 devices.
        context = ocp.Context()
        context.array.saving.use_replica_parallel = False
        with _told(directory, "write"):
            self._checkpointer = ocp.training.Checkpointer(
                directory,
                save_decision_policy=_Always(),
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
                cleanup_tmp_directories=True,
                context=context,
            )
        self.directory = directory
        self._pending: Any = None

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, None where there is none."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def best_step(self) -> int | None:
        """Returns the step of the kept checkpoint with the highest validation accuracy.

        Of several, the latest: it is the one that stays. None where none was validated.
        """
        self.wait()
        scored = [(c.metrics[METRIC], c.step) for c in self._checkpointer.checkpoints if c.metrics]
        return max(scored)[1] if scored else None

    def is_scored(self, step: int) -> bool:
        """Whether the kept checkpoint of `step` was validated before it was saved."""
        return any(c.step == step and c.metrics for c in self._checkpointer.checkpoints)

    def save(self, step: int, state: Any, accuracy: float | None) -> None:
        """Starts to save; returns once the arrays are copied and the previous save has ended.

        Raises:
            UserError: this or the previous save could not be written.
        """
        metrics = None if accuracy is None else {METRIC: accuracy}
        self.wait()
        with _told(self.directory, "write"):
            self._pending = self._checkpointer.save_checkpointables_async(
                step, {"state": state}, metrics=metrics
            )

    def wait(self) -> None:
        """Returns once the save in progress is on disk."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with _told(self.directory, "write"):
                pending.result()

    def restore(self, state: Any, step: int | None = None) -> Any:
        """Returns the saved state of `step` (the latest by default), laid out as `state` is."""
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
        )
        with _told(self.directory, "read"):
            step = self.latest_step() if step is None else step
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
            with contextlib.suppress(Exception):  # orbax tells of a failed save once more here
                self._checkpointer.close()
            unfinished = () if jax.process_index() else self.directory.glob(f"*{_UNFINISHED}")
            for path in unfinished:
                shutil.rmtree(path, ignore_errors=True)


def saved_steps(directory: Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a run's folder of them, none without one."""
    if not directory.is_dir():
        return []
    return [int(path.name) for path in directory.iterdir() if path.name.isdigit()]


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
    with _told(checkpoint, "read"):
        path = checkpoint.absolute()
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
        text = " ".join(str(error).split())
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text
        reason = "no space left on the disk" if full else text[:300]
        raise UserError(f"cannot {verb} checkpoints in {directory}: {reason}.") from error
