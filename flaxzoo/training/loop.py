"""The training loop."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from flaxzoo import data
from flaxzoo.checkpoint import Checkpoints
from flaxzoo.config import Config, check
from flaxzoo.errors import UserError
from flaxzoo.evaluate import evaluate
from flaxzoo.training.feed import Feed, resolve
from flaxzoo.training.init_from import ORIGIN_FILE, Origin, initial_model, origin_of
from flaxzoo.training.meter import Meter, NonFinite
from flaxzoo.training.optimizer import make_optimizer
from flaxzoo.training.parallel import Devices, all_devices
from flaxzoo.training.progress import ProgressLine
from flaxzoo.training.run import Run
from flaxzoo.training.schedule import Clock, Schedule, make_schedule
from flaxzoo.training.state import TrainState, split_model
from flaxzoo.training.step import make_eval_step, make_train_step

PLOT_INTERVAL = 60.0  # seconds: a plot takes about one, so not after every short epoch


@dataclass(frozen=True)
class Trainer:
    """Everything that is fixed during a run."""

    config: Config
    devices: Devices
    feeds: dict[str, Feed]  # "train", and "validation" and "test" where there are such
    clock: Clock
    every: dict[str, int]  # steps between "log", "eval" and "save"
    learning_rate: Schedule
    train_step: Callable[..., Any]
    eval_step: Callable[..., Any]
    origin: Origin | None  # of the first weights


def train(config: Config, workdir: str | Path, *, quiet: bool = False) -> dict[str, Any]:
    """Trains as `config` says, or goes on where the run in `workdir` stopped.

    A run that was killed and started again ends with the same parameters, to the bit, as one that
    was not: everything random comes from (seed, step), and the order of images from (seed, epoch).

    Returns:
        What summary.json holds.

    Raises:
        UserError: anything the user can mend. A slip in the config is told before anything is
            written; an unreadable image or a full disk when it is met, and then the run can go on
            from its last checkpoint.
        FloatingPointError: the loss or the parameters are not finite any more.
    """
    started = time.monotonic()
    check(config)
    trainer, state = build(config, origin_of(Path(workdir).expanduser(), config.init_from))
    run = Run(workdir, config)
    checkpoints = Checkpoints(run.checkpoints, config.checkpoint.keep)
    try:
        step = checkpoints.latest_step()
        if step is not None:
            state = checkpoints.restore(state)
        run.resume_metrics(step or 0)
        with ProgressLine(
            trainer.clock.total_steps, trainer.clock.steps_per_epoch, step or 0, quiet
        ) as progress:
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
            return _finish(trainer, state, run, progress, started)
    finally:
        checkpoints.close()


def build(config: Config, origin: Origin | None = None) -> tuple[Trainer, TrainState]:
    """Loads the data, creates the model and prepares the steps; nothing is compiled yet.

    Args:
        origin: of a run that goes on from its checkpoint; see `initial_model`.

    Raises:
        UserError: something in `config` does not exist or contradicts the data.
    """
    dataset = data.load(
        config.data.source,
        data_dir=config.data.data_dir or None,
        validation=config.data.validation,
        seed=config.seed,
    )
    config = resolve(config, dataset)
    devices = all_devices(config.parallel)
    devices.check_batch(config.batch_size)
    splits = {
        "train": dataset.train, "validation": dataset.validation, "test": dataset.test
    }  # fmt: skip
    feeds = {k: Feed(s, config, devices) for k, s in splits.items() if s is not None}
    clock = Clock.of(config.duration, feeds["train"].steps_per_epoch, config.batch_size)
    every = {
        "log": clock.interval("config.log_every", config.log_every),
        "eval": clock.interval("config.eval_every", config.eval_every),
        "save": clock.interval("config.checkpoint.every", config.checkpoint.every),
    }
    learning_rate = make_schedule(config.schedule, config.optimizer.learning_rate, clock)
    size = config.data.image_size
    model, origin = initial_model(config, dataset.channels, _compute_dtype(config.dtype), origin)
    model.check_shape((config.batch_size, size, size, dataset.channels))
    if size < model.min_train_size:
        raise UserError(
            f"{config.model.name} trains on images of {model.min_train_size} pixels or more; got "
            f"config.data.image_size={size}."
        )
    model_def, params, batch_stats = split_model(model)
    optimizer = make_optimizer(config.optimizer, learning_rate)
    state = TrainState(
        jnp.zeros((), jnp.int32), params, batch_stats, jax.jit(optimizer.init)(params)
    )
    step = make_train_step(model_def, optimizer, config, devices.axis_name)
    trainer = Trainer(
        config=config,
        devices=devices,
        feeds=feeds,
        clock=clock,
        every=every,
        learning_rate=jax.jit(learning_rate),
        train_step=devices.compile_train(step),
        eval_step=devices.compile_eval(make_eval_step(model_def, config)),
        origin=origin,
    )
    return trainer, devices.replicate(state)


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
    with feed.train(start, total - start) as batches:
        for step, batch in enumerate(batches, start + 1):
            inputs = devices.train_inputs(batch)
            with jax.transfer_guard(guard):
                state, metrics = trainer.train_step(state, inputs, feed.resident)
            meter.add(metrics)

            log_now = step % every["log"] == 0 or step == start + 1
            evaluate_now = step % every["eval"] == 0 or step == total
            save_now = step % every["save"] == 0 or step == total
            if not (log_now or evaluate_now or save_now):
                continue
            row = {"step": step, "epoch": step / clock.steps_per_epoch, **meter.read(step)}
            row["learning_rate"] = float(trainer.learning_rate(step - 1))
            if evaluate_now and "validation" in trainer.feeds:
                row |= _validate(trainer, state)
            run.log(**row)
            progress.show(step, row)
            if save_now or row.get("val_accuracy", best) > best:
                # Replicated already, except by the pmap of jax < 0.8, whose layout orbax lacks.
                checkpoints.save(step, devices.replicate(state), row.get("val_accuracy"))
            best = max(best, row.get("val_accuracy", best))
            if time.monotonic() - plotted > PLOT_INTERVAL:
                run.plot()
                plotted = time.monotonic()
            meter.restart()
    return state


def _best(metrics: list[dict[str, Any]]) -> float:
    return max((row.get("val_accuracy", -1.0) for row in metrics), default=-1.0)


def _validate(trainer: Trainer, state: TrainState) -> dict[str, float]:
    feed = trainer.feeds["validation"]
    result = evaluate(trainer.eval_step, state, feed, trainer.devices)
    return {"val_loss": result["loss"], "val_accuracy": result["accuracy"]}


def _finish(
    trainer: Trainer, state: TrainState, run: Run, progress: ProgressLine, started: float
) -> dict[str, Any]:
    """Evaluates the last state on the test split, writes plots and summary.json."""
    scored = [row for row in run.metrics if "val_accuracy" in row]
    best = max(scored, key=lambda row: row["val_accuracy"], default=None)
    summary: dict[str, Any] = {
        "model": trainer.config.model.name,
        "parameters": sum(p.size for p in state.params.values()),
        "steps": int(state.step),
        "final": run.metrics[-1] if run.metrics else None,
        "best_validation": best and {k: best[k] for k in ("step", "epoch", "val_accuracy")},
    }
    if "test" in trainer.feeds:
        summary["test"] = evaluate(trainer.eval_step, state, trainer.feeds["test"], trainer.devices)
    summary |= {
        "seconds": time.monotonic() - started,
        "devices": [d.device_kind for d in jax.devices()],
        "versions": _versions(),
    }
    run.plot()
    run.write_json("summary.json", summary)
    if "test" in summary:
        progress.say(
            f"test accuracy {summary['test']['accuracy']:.2%} on {summary['test']['count']} images"
        )
    progress.say(f"wrote {run.workdir}")
    return summary


def _description(trainer: Trainer, state: TrainState, run: Run) -> str:
    config = trainer.config
    sizes = ", ".join(f"{len(feed):,} {name}" for name, feed in trainer.feeds.items())
    parameters = sum(p.size for p in state.params.values()) / 1e6
    return (
        f"{config.model.name} ({parameters:.2f} M parameters) on {config.data.source} "
        f"({sizes} images), {trainer.devices.count} x {jax.devices()[0].device_kind}, {run.workdir}"
    )


def _compute_dtype(dtype: str) -> str:
    if dtype != "auto":
        return dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def _versions() -> dict[str, str]:
    packages = {p: version(p) for p in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")}
    return {"python": sys.version.split()[0], **packages}
