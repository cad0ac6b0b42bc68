"""The folder of a run: settings, classes, metrics, tables, plots/, report.html and checkpoints/.

Of several processes, the first alone reads and writes all but the checkpoints.
"""

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flaxzoo import report
from flaxzoo.arguments import is_utf8
from flaxzoo.checkpoint import saved_steps, set_damaged_aside
from flaxzoo.config import Config
from flaxzoo.data.disk import exclusive
from flaxzoo.errors import UserError, shown
from flaxzoo.json_text import parse_json
from flaxzoo.report import Review
from flaxzoo.training.clock import Clock
from flaxzoo.training.distributed import is_first, on_first
from flaxzoo.training.loggers import Logger, open_loggers
from flaxzoo.training.schedule import Schedule

CLASSES_FILE = "classes.json"


class Run:
    """A run's folder, created or opened again.

    Damaged checkpoints are set aside: see `flaxzoo.checkpoint.set_damaged_aside`.

    Raises:
        UserError: the folder cannot be written, or it holds a run with another config or of other
            classes, or whose checkpoints are all damaged.
    """

    def __init__(self, workdir: str | os.PathLike, config: Config, classes: Sequence[str]):
        self.workdir = Path(workdir).expanduser().absolute()
        self.config = config
        self.metrics: list[dict[str, Any]] = []
        self._started = time.monotonic()
        self._loggers: Sequence[Logger] = ()
        on_first(lambda: self._open(config, classes))

    def _open(self, config: Config, classes: Sequence[str]) -> None:
        values = json.loads(json.dumps(dataclasses.asdict(config)))  # tuples become lists
        config_file = self.workdir / "config.json"
        with writing(self.workdir):
            self.workdir.mkdir(parents=True, exist_ok=True)
            if config_file.exists() and saved_steps(self.checkpoints):
                _check_same(config_file, values)
                check_classes(self.workdir, classes, config.data.source)
            else:
                self.write_json("config.json", values)
                self.write_json(CLASSES_FILE, list(classes))
            for sentence in set_damaged_aside(self.checkpoints):
                logging.getLogger("flaxzoo").warning("%s", sentence)
            self.plots.mkdir(exist_ok=True)

    @property
    def plots(self) -> Path:
        return self.workdir / "plots"

    @property
    def checkpoints(self) -> Path:
        return self.workdir / "checkpoints"

    def resume_metrics(self, step: int) -> None:
        """Reads what was logged up to `step`, drops what an interrupted run logged after it.

        Rows that follow count their seconds from the last of these, and go to the other loggers.
        """
        self.metrics = on_first(lambda: self._resume(step))
        before = self.metrics[-1].get("seconds", 0.0) if self.metrics else 0.0
        self._started = time.monotonic() - before

    def _resume(self, step: int) -> list[dict[str, Any]]:
        path, rows = self.workdir / "metrics.jsonl", []
        with writing(self.workdir):
            if path.exists():
                rows = [row for row in read_metrics(path) if row["step"] <= step]
                _replace(path, "".join(json.dumps(row) + "\n" for row in rows))
            self._loggers = open_loggers(
                self.config.log, self.workdir, step, flat(dataclasses.asdict(self.config))
            )
        return rows

    def log(self, **row: Any) -> None:
        """Appends one line to metrics.jsonl, with the seconds since the run began.

        After an evaluation, summary.csv is written anew.
        """
        row["seconds"] = time.monotonic() - self._started
        self.metrics.append(row)
        if not is_first():
            return
        with writing(self.workdir):
            with (self.workdir / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            if "val_loss" in row:
                _replace(self.workdir / "summary.csv", report.summary_csv(self.metrics))
        for logger in self._loggers:
            logger.log(row["step"], {k: v for k, v in row.items() if k != "step"})

    def plot(self) -> None:
        """Draws what was logged into plots/, and report.html from it."""
        if not is_first():
            return
        with writing(self.workdir):
            report.plot_curves(self.metrics, self.plots)
            self._write_page()

    def finish(self, summary: dict[str, Any], review: Review | None) -> None:
        """Writes everything that tells about a run that has ended.

        Args:
            review: of the split that the pictures are about; None where only training images exist.
        """
        if not is_first():
            return
        with writing(self.workdir):
            report.plot_curves(self.metrics, self.plots)
            _replace(self.workdir / "summary.csv", report.summary_csv(self.metrics))
            if review is not None:
                report.plot_confusion(review, self.plots / "confusion.png")
                report.plot_mistakes(review, self.plots / "mistakes.png")
                _replace(self.workdir / "classes.csv", report.classes_csv(review))
            self._write_page(summary, review)
            self.write_json("summary.json", summary)

    def close(self) -> None:
        """Closes the other loggers."""
        for logger in self._loggers:
            logger.close()

    def plot_schedule(self, learning_rate: Schedule, clock: Clock) -> None:
        """Draws the rates of all steps, those to come as well, into plots/."""
        if not is_first():
            return
        with writing(self.workdir):
            report.plot_schedule(
                learning_rate, clock.total_steps, clock.steps_per_epoch, self.plots
            )

    def write_json(self, name: str, content: Any) -> None:
        """Writes `content` to a file of the run, whole or not at all."""
        if not is_first():
            return
        with writing(self.workdir):
            _replace(self.workdir / name, json.dumps(content, indent=2) + "\n")

    def _write_page(
        self, summary: dict[str, Any] | None = None, review: Review | None = None
    ) -> None:
        page = report.page(
            name=self.workdir.name,
            config=flat(dataclasses.asdict(self.config)),
            metrics=self.metrics,
            pictures=self.plots,
            summary=summary,
            review=review,
        )
        _replace(self.workdir / "report.html", page)


@contextlib.contextmanager
def claim(workdir: Path) -> Iterator[None]:
    """Holds the folder of a run, made if need be, against other runs.

    Of several processes the first holds it for all. A run that was killed holds nothing. Where a
    file system has no locks, everybody is let in. Folders that were made for a run which left
    nothing in them are removed.

    Raises:
        UserError: another run holds it, it cannot be written, or its name is not UTF-8, in which
            case orbax could not save.
    """
    if not is_utf8(str(workdir)):
        raise UserError(f"the path of a run must be UTF-8; got {shown(str(workdir))}.")
    made = [path for path in (workdir, *workdir.parents) if not path.exists()]
    with contextlib.ExitStack() as held:
        try:
            on_first(lambda: _take(workdir, held))
            yield
        finally:
            held.close()
            for path in made if is_first() else ():
                with contextlib.suppress(OSError):
                    path.rmdir()


def _take(workdir: Path, held: contextlib.ExitStack) -> None:
    """Locks a run's folder until `held` ends."""
    lock = workdir / ".lock"
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        try:
            held.enter_context(exclusive(lock, "", wait=False))
        except BlockingIOError:
            raise UserError(
                f"another process trains in {workdir}: {lock.read_text() or 'unknown'}; wait for "
                "it, or use another --workdir."
            ) from None
        lock.write_text(f"process {os.getpid()} on {socket.gethostname()}")


@contextlib.contextmanager
def writing(workdir: Path) -> Iterator[None]:
    """Turns what the file system raises into one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to the workdir {workdir}: {error.strerror or error}."
        ) from error


def score(row: Mapping[str, Any]) -> float | None:
    """Returns what checkpoints are compared by: validation accuracy, of averaged weights if any."""
    return row.get("val_ema_accuracy", row.get("val_accuracy"))


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a metrics.jsonl, without lines that are damaged."""
    for line in path.read_text("utf-8", "replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # the line that was being written
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                yield row


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # A file's name need not be UTF-8.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class ClassDifference:
    """That a run was trained on other classes than those of a data set, in one sentence.

    Attributes:
        same_number: whether both have as many.
    """

    text: str
    same_number: bool

    def __str__(self) -> str:
        return self.text


def class_difference(workdir: Path, classes: Sequence[str], source: str) -> ClassDifference | None:
    """Compares the classes of a data set with those that the run in `workdir` was trained on.

    Label i of the model means the i-th of them, so that the order counts as well.

    Args:
        source: what the sentence calls the data set.

    Returns:
        What names the first difference; None without one, and where an older run left no
        classes.json.

    Raises:
        UserError: that file is damaged.
    """
    trained = read_classes(workdir)
    if trained is None or tuple(classes) == trained:
        return None
    pairs = itertools.zip_longest(trained, classes)
    label, (was, now) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
    was, now = ("absent" if name is None else repr(name) for name in (was, now))
    return ClassDifference(
        f"{workdir} was trained on other classes than those of {source}: class {label} of its "
        f"{len(trained)} was {was}, and of the {len(classes)} now is {now}.",
        len(trained) == len(classes),
    )


def check_classes(workdir: Path, classes: Sequence[str], source: str) -> None:
    """Refuses a data set of other classes than those of the run in `workdir`.

    Raises:
        UserError: they differ; the message names the first difference.
    """
    difference = class_difference(workdir, classes, source)
    if difference:
        raise UserError(str(difference))


def read_classes(workdir: Path) -> tuple[str, ...] | None:
    """Returns the classes of the run in `workdir`, or None where an older run left none.

    Raises:
        UserError: its classes.json is damaged.
    """
    path = workdir / CLASSES_FILE
    if not path.exists():
        return None
    try:
        return tuple(parse_json(path.read_text()))
    except (ValueError, TypeError):
        raise UserError(f"{path} is damaged; expected a list of class names.") from None


def _check_same(config_file: Path, values: dict[str, Any]) -> None:
    try:
        saved = parse_json(config_file.read_text())
        if not isinstance(saved, dict):
            raise ValueError("not an object")
    except ValueError:
        raise UserError(f"{config_file} is damaged; use another --workdir.") from None
    before, now = flat(saved), flat(values)
    changed = [
        f"{name} was {before.get(name, 'absent')!r} and is {now.get(name, 'absent')!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, "absent") != now.get(name, "absent")
    ]
    if changed:
        raise UserError(
            f"{config_file.parent} holds a run with another config: {'; '.join(changed)}. "
            "Start it as before to go on, or use another --workdir."
        )


def flat(tree: Mapping[str, Any], prefix: str = "config") -> dict[str, Any]:
    """Returns settings by their dotted names."""
    settings: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else key
        settings |= flat(value, name) if isinstance(value, dict) else {name: value}
    return settings
