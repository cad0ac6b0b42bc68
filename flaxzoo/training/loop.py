"""The training loop."""

import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from flaxzoo.arguments import flag, path
from flaxzoo.check_config import check
from flaxzoo.checkpoint import Checkpoints
from flaxzoo.config import Config
from flaxzoo.errors import InputError
from flaxzoo.evaluate import evaluate, predict
from flaxzoo.report import Review
from flaxzoo.training.distributed import is_first, on_first
from flaxzoo.training.interrupt import Interrupted, Watch
from flaxzoo.training.loggers import check_installed
from flaxzoo.training.meter import Meter, NonFinite
from flaxzoo.training.progress import ProgressLine
from flaxzoo.training.run import Run, claim, score
from flaxzoo.training.saved_run import ORIGIN_FILE, origin_of
from flaxzoo.training.state import Arrays, TrainState
from flaxzoo.training.trainer import Trainer, build

PLOT_INTERVAL = 60.0  # seconds: a plot takes about one, so not after every short epoch


def train(
    config: Config | object, workdir: str | Path | object, *, quiet: bool | object = False
) -> dict[str, Any]:
    """Trains as `config` says, or goes on where the run in `workdir` stopped.

    Every process of a run calls it with the same arguments, and with a workdir that all of them
    see: process 0 writes there, the others are quiet, and all of them get the summary.

    A run that was killed and started again ends with the same parameters, to the bit, as one that
    was not: everything random comes from (seed, step), and the order of images from (seed, epoch).

    Returns:
        What summary.json holds.

    Raises:
        UserError: anything the user can mend. A slip in the config is told before anything is
            written; a full disk when it is met, and then the run can go on from its last
            checkpoint.
        InputError: an image cannot be read, or a worker process died; the last step was saved.
        FloatingPointError: the loss or the parameters are not finite any more.
        Interrupted: Control-C or a signal asked to stop; the step in progress was ended and saved.
    """
    config, quiet = check(config), flag("quiet", quiet)
    folder = path("workdir", workdir).absolute()
    check_installed(config.log)
    with claim(folder):
        return _train(config, folder, quiet)


def _train(config: Config, workdir: Path, quiet: bool) -> dict[str, Any]:
    started = time.monotonic()
    trainer, state = build(config, origin_of(workdir, config.init_from))
    run = Run(workdir, config, trainer.classes)
    checkpoints = Checkpoints(run.checkpoints, config.checkpoint.keep)
    try:
        step = on_first(checkpoints.latest_step)
        if step is not None:
            state = checkpoints.restore(state, step)
        run.resume_metrics(step or 0)
        run.plot_schedule(trainer.learning_rate, trainer.clock)
        clock, quiet = trainer.clock, quiet or not is_first()
        with ProgressLine(clock.total_steps, clock.steps_per_epoch, step or 0, quiet) as progress:
            if step is not None:
                progress.say(f"going on from step {step} in {run.workdir}")
            else:
                progress.say(_description(trainer, state, run))
                if trainer.origin is not None:
                    run.write_json(ORIGIN_FILE, asdict(trainer.origin))
                    progress.say(str(trainer.origin))
            try:
                state = _fit(trainer, state, run, checkpoints, progress)
                checkpoints.wait()  # a save that fails is told before a result is
            except NonFinite as error:
                checkpoints.wait()
                saved = checkpoints.latest_step()
                where = f"step {saved} in {checkpoints.directory}" if saved else "none"
                raise FloatingPointError(
                    f"{error}; the last good checkpoint: {where}. "
                    "A lower learning rate or a warm-up usually helps."
                ) from None
            return _finish(trainer, state, run, checkpoints, progress, started)
    finally:
        run.close()
        checkpoints.close()


def _fit(
    trainer: Trainer, state: TrainState, run: Run, checkpoints: Checkpoints, progress: ProgressLine
) -> TrainState:
    """Trains from `state` to the last step; logs, evaluates and saves on the way."""
    config, devices, clock = trainer.config, trainer.devices, trainer.clock
    start, total, feed = int(state.step), clock.total_steps, trainer.feeds["train"]
    every, best = trainer.every, _best(run.metrics)
    # pmap takes arrays of the host; under jit everything has to be put on the devices on purpose.
    guard = "disallow" if config.parallel == "jit" else "allow"
    meter, plotted = Meter(config.batch_size), time.monotonic()
    step, saved, reached = start, start, None
    with Watch(config.checkpoint.minutes) as watch, feed.train(start, total - start) as batches:
        try:
            if _owes_validation(trainer, checkpoints, start):
                state = _catch_up(trainer, state, run)
            for step, batch in enumerate(batches, start + 1):
                reached = None
                inputs = devices.train_inputs(batch)
                with jax.transfer_guard(guard):
                    state, metrics = trainer.train_step(step)(state, inputs, trainer.resident)
                meter.add(metrics)

                log_now = step % every["log"] == 0 or step == start + 1
                evaluate_now = _evaluates(trainer, step)
                save_due, signum = watch.poll(meet=log_now)
                save_now = step % every["save"] == 0 or step == total or save_due or signum
                if not (log_now or evaluate_now or save_now):
                    continue
                row = _row(trainer, state, step) | meter.read(step)
                if evaluate_now:
                    row |= _validate(trainer, state)
                    state = _after_validation(trainer, state, row["val_loss"])
                run.log(**row)
                progress.show(step, row)
                reached = score(row)
                if save_now or (reached is not None and reached > best):
                    # In place already, except what pmap returns: arrays of this process, and before
                    # jax 0.8 in a layout that orbax lacks.
                    checkpoints.save(step, devices.place(state), reached)
                    watch.saved()
                    saved = step
                if signum:
                    checkpoints.wait()
                    run.plot()
                    raise Interrupted(signum, step, checkpoints.directory)
                best = best if reached is None else max(best, reached)
                if time.monotonic() - plotted > PLOT_INTERVAL:
                    run.plot()
                    plotted = time.monotonic()
                meter.restart()
        except InputError as error:
            if step > saved and jax.process_count() == 1:  # saving would take all of them
                if meter:
                    run.log(**_row(trainer, state, step), **meter.read(step))
                checkpoints.save(step, devices.place(state), reached)
                saved = step
            checkpoints.wait()
            where = f"saved step {saved} in {checkpoints.directory}" if saved else "nothing saved"
            raise InputError(f"{error}; {where}") from error
    return devices.place(state)


def _evaluates(trainer: Trainer, step: int) -> bool:
    """Whether the state after `step` updates is validated."""
    due = step % trainer.every["eval"] == 0 or step == trainer.clock.total_steps
    return due and "validation" in trainer.feeds


def _owes_validation(trainer: Trainer, checkpoints: Checkpoints, step: int) -> bool:
    """Whether an unreadable image kept a run from validating the state that it goes on from."""
    if not step or not _evaluates(trainer, step):
        return False
    return not on_first(lambda: checkpoints.is_scored(step))


def _catch_up(trainer: Trainer, state: TrainState, run: Run) -> TrainState:
    """Logs the validation that is owed; returns the state after it."""
    row = _row(trainer, state, int(state.step)) | _validate(trainer, state)
    run.log(**row)
    return _after_validation(trainer, state, row["val_loss"])


def _row(trainer: Trainer, state: TrainState, step: int) -> dict[str, Any]:
    """Returns what every line of metrics.jsonl begins with."""
    epoch = step / trainer.clock.steps_per_epoch
    return {"step": step, "epoch": epoch, "learning_rate": _rate(trainer, state, step)}


def _rate(trainer: Trainer, state: TrainState, step: int) -> float:
    """Returns the learning rate of update number `step`, the latest."""
    rate = float(trainer.learning_rate(step - 1))
    return rate if state.plateau is None else rate * float(state.plateau["factor"])


def _after_validation(trainer: Trainer, state: TrainState, loss: float) -> TrainState:
    """Returns the state with lower rates from here on, where the schedule says so."""
    if trainer.plateau is None:
        return state
    plateau = trainer.plateau.after(jax.device_get(state.plateau), loss)
    return state.replace(plateau=trainer.devices.replicate(plateau))


def _best(metrics: list[dict[str, Any]]) -> float:
    return max((reached for row in metrics if (reached := score(row)) is not None), default=-1.0)


def _validate(trainer: Trainer, state: TrainState) -> dict[str, float]:
    """Returns loss and accuracy, of the weights and of their average if there is one."""
    row, feed = {}, trainer.feeds["validation"]
    for prefix, weights in (("val_", state.weights), ("val_ema_", state.ema)):
        if weights is not None:
            result = evaluate(trainer.eval_step, weights, feed, trainer.devices)
            row |= {f"{prefix}{name}": result[name] for name in ("loss", "accuracy")}
    return row


def _scored(state: TrainState) -> dict[str, Arrays]:
    """Returns the weights that `score` is about."""
    return state.weights if state.ema is None else state.ema


def _finish(
    trainer: Trainer,
    state: TrainState,
    run: Run,
    checkpoints: Checkpoints,
    progress: ProgressLine,
    started: float,
) -> dict[str, Any]:
    """Evaluates, and writes summary.json, plots and report.html.

    "test" is about the last weights, "test_ema" about their average if there is one. Where a
    validation split chose an earlier state, that is evaluated as well: "test_of_best". The test
    split never chooses.
    """
    best, devices = on_first(checkpoints.best_step), trainer.devices
    row = next((row for row in run.metrics if row["step"] == best and "val_accuracy" in row), None)
    summary: dict[str, Any] = {
        "model": trainer.config.model.name,
        "parameters": sum(p.size for p in state.params.values()),
        "steps": int(state.step),
        "final": run.metrics[-1] if run.metrics else None,
        "best_validation": row
        and {k: v for k, v in row.items() if k in ("step", "epoch") or k.startswith("val_")}
        | {"checkpoint": f"{checkpoints.directory.name}/{best}"},
    }
    review = None
    if shown := next((name for name in ("test", "validation") if name in trainer.feeds), None):
        feed = trainer.feeds[shown]
        result, predictions = predict(trainer.eval_step, _scored(state), feed, devices)
        review = Review(shown, feed.split, trainer.classes, predictions)
        if shown == "test":
            if state.ema is None:
                summary["test"] = result
            else:
                summary["test"] = evaluate(trainer.eval_step, state.weights, feed, devices)
                summary["test_ema"] = result
            if best == int(state.step):
                summary["test_of_best"] = result
            elif best is not None:
                weights = _scored(checkpoints.restore(state, best))
                summary["test_of_best"] = evaluate(trainer.eval_step, weights, feed, devices)
    summary |= {
        "seconds": time.monotonic() - started,
        "devices": [d.device_kind for d in jax.devices()],
        "versions": _versions(),
    }
    run.finish(summary, review)
    texts = {
        "test": "",
        "test_ema": ", averaged weights",
        "test_of_best": ", of the best by validation",
    }
    for key, text in texts.items():
        if key in summary:
            result = summary[key]
            progress.say(
                f"test accuracy {result['accuracy']:.2%} on {result['count']} images{text}"
            )
    progress.say(f"wrote {run.workdir / 'report.html'}")
    return summary


def _description(trainer: Trainer, state: TrainState, run: Run) -> str:
    config = trainer.config
    sizes = ", ".join(f"{len(feed):,} {name}" for name, feed in trainer.feeds.items())
    parameters = sum(p.size for p in state.params.values()) / 1e6
    return (
        f"{config.model.name} ({parameters:.2f} M parameters) on {config.data.source} "
        f"({sizes} images), {trainer.devices.count} x {jax.devices()[0].device_kind}, {run.workdir}"
    )


def _versions() -> dict[str, str]:
    packages = {p: version(p) for p in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")}
    return {"python": sys.version.split()[0], **packages}
