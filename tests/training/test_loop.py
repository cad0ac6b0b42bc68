"""Whole runs on the bundled digits."""

import dataclasses
import json
import re

import chex
import jax
import numpy as np
import pytest

from flaxzoo import evaluate
from flaxzoo.config import AugmentConfig, DistillConfig, ScheduleConfig, data_config
from flaxzoo.errors import UserError
from flaxzoo.training import loop, program
from flaxzoo.training.loop import train


def test_a_run_leaves_everything_it_promises(config, tmp_path):
    summary = train(config, tmp_path, quiet=True)

    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 64
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {
        "loss.png", "accuracy.png", "learning_rate.png", "schedule.png", "confusion.png",
        "mistakes.png",
    }  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "val_accuracy" in row] == [3, 6]
    assert summary["test"]["count"] == 360


def test_the_loss_falls(config, tmp_path):
    config.duration, config.eval_every = "4 epochs", "4 epochs"
    config.checkpoint.every = "4 epochs"
    config.optimizer.learning_rate = 0.1
    train(config, tmp_path, quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train_loss"] for row in rows]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_an_interrupted_run_goes_on_to_the_same_bits(config, tmp_path, monkeypatch, saved_arrays):
    train(config, tmp_path / "whole", quiet=True)

    real_log, seen = loop.Run.log, []

    def interrupt_at_step_5(self, **row):
        seen.append(row["step"])
        if row["step"] == 5:
            raise KeyboardInterrupt
        real_log(self, **row)

    monkeypatch.setattr(loop.Run, "log", interrupt_at_step_5)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut", quiet=True)
    monkeypatch.undo()
    train(config, tmp_path / "cut", quiet=True)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    chex.assert_trees_all_equal(saved_arrays(config, whole), saved_arrays(config, cut))
    steps = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]  # what was logged after the last checkpoint was dropped


def test_a_run_that_changes_on_its_way_goes_on_to_the_same_bits(
    config, tmp_path, monkeypatch, saved_arrays
):
    """Growing images, rates that fall, mixing that stops, a teacher: at step 5 all have changed."""
    config.duration = "4 steps"
    train(config, tmp_path / "teacher", quiet=True)
    config.duration, config.batch_size = "8 steps", 32
    config.data = data_config("digits", image_size=8, train_sizes=(6, 8))
    config.schedule = ScheduleConfig(name="plateau", patience=0, threshold=0.9)
    config.eval_every = "1 steps"
    config.augment = AugmentConfig(shift=1, cutmix=1.0, erase=0.5, off="50%")
    config.distill = DistillConfig(model="resnet_tiny", init_from=str(tmp_path / "teacher"))
    config.class_weights = "balanced"
    summary = train(config, tmp_path / "whole", quiet=True)

    real_log = loop.Run.log

    def interrupt_at_step_6(self, **row):
        if row["step"] == 6:
            raise KeyboardInterrupt
        real_log(self, **row)

    monkeypatch.setattr(loop.Run, "log", interrupt_at_step_6)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut", quiet=True)
    monkeypatch.undo()
    train(config, tmp_path / "cut", quiet=True)
    whole = saved_arrays(config, tmp_path / "whole")
    chex.assert_trees_all_equal(whole, saved_arrays(config, tmp_path / "cut"))
    assert summary["final"]["learning_rate"] < 0.5 * config.optimizer.learning_rate


def test_averaged_weights_are_evaluated_and_choose_the_best(config, tmp_path):
    config.ema.decay = 0.5
    summary = train(config, tmp_path, quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    scored = [row for row in rows if "val_accuracy" in row]
    assert all(row["val_ema_loss"] != row["val_loss"] for row in scored)
    best = max(row["val_ema_accuracy"] for row in scored)
    assert summary["best_validation"]["val_ema_accuracy"] == best
    assert summary["test_ema"]["loss"] != summary["test"]["loss"]


def test_a_finished_run_is_not_trained_again(config, tmp_path):
    first = train(config, tmp_path, quiet=True)
    again = train(config, tmp_path, quiet=True)
    assert again["test"] == first["test"]
    assert again["final"] == first["final"]


def test_another_config_in_the_same_workdir_is_refused_with_the_difference(config, tmp_path):
    train(config, tmp_path, quiet=True)
    config.optimizer.learning_rate = 0.01
    with pytest.raises(UserError, match=r"config.optimizer.learning_rate was 0.05 and is 0.01"):
        train(config, tmp_path, quiet=True)


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_checkpoint(
    config, tmp_path, monkeypatch
):
    real = program.make_train_step

    def poisoned(*args):
        step = real(*args)

        def nan_at_step_4(state, inputs, resident):
            state, metrics = step(state, inputs, resident)
            loss = jax.numpy.where(state.step == 4, np.nan, metrics["loss"])
            return state, metrics | {"loss": loss}

        return nan_at_step_4

    monkeypatch.setattr(program, "make_train_step", poisoned)
    where = re.escape(str(tmp_path / "checkpoints"))
    with pytest.raises(FloatingPointError, match=rf"nan at step 4; .* step 3 in {where}"):
        train(config, tmp_path, quiet=True)
    assert not (tmp_path / "checkpoints" / "4").exists()


def test_parameters_that_overflow_are_not_saved(config, tmp_path):
    config.optimizer.learning_rate = 1e38
    config.checkpoint.every = "1 steps"
    with pytest.raises(
        FloatingPointError, match=r"update norm became (inf|nan) at step 1; .*: none"
    ):
        train(config, tmp_path, quiet=True)


def test_a_run_cut_before_its_first_checkpoint_starts_anew(config, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 0.05}\n{"step": 2, "ep')
    train(config, tmp_path, quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert "train_loss" in rows[0]


def test_a_config_can_be_corrected_until_something_is_saved(config, tmp_path):
    (tmp_path / "config.json").write_text('{"batch_size": 7}')
    train(config, tmp_path, quiet=True)
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 64


def test_a_better_model_is_saved_between_the_regular_checkpoints(config, tmp_path, monkeypatch):
    accuracies = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    monkeypatch.setattr(
        loop, "_validate", lambda *_: {"val_loss": 0.0, "val_accuracy": next(accuracies)}
    )
    config.eval_every, config.checkpoint.every = "1 steps", "3 steps"
    train(config, tmp_path, quiet=True)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"2", "3", "6"}


def test_the_best_checkpoint_stays_besides_the_latest(config, tmp_path, monkeypatch):
    accuracies = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    monkeypatch.setattr(
        loop, "_validate", lambda *_: {"val_loss": 0.0, "val_accuracy": next(accuracies)}
    )
    config.eval_every = config.checkpoint.every = "1 steps"
    summary = train(config, tmp_path, quiet=True)
    assert summary["best_validation"]["step"] == 2
    kept = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"2", "5", "6"}


def test_the_best_checkpoint_is_tested_besides_the_last_state(config, tmp_path, monkeypatch):
    accuracies = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    monkeypatch.setattr(
        loop, "_validate", lambda *_: {"val_loss": 0.0, "val_accuracy": next(accuracies)}
    )
    config.eval_every, config.schedule.name = "1 steps", "constant"
    summary = train(config, tmp_path / "long", quiet=True)
    best = {
        "step": 2, "epoch": 0.1, "val_loss": 0.0, "val_accuracy": 0.9, "checkpoint": "checkpoints/2"
    }  # fmt: skip
    assert summary["best_validation"] == best
    monkeypatch.undo()

    config.duration = "2 steps"  # the same two steps, since the rate is constant
    assert summary["test_of_best"] == train(config, tmp_path / "short", quiet=True)["test"]
    assert summary["test"] != summary["test_of_best"]


def test_of_equally_good_checkpoints_the_one_that_was_kept_is_named(config, tmp_path, monkeypatch):
    accuracies = iter([0.1, 0.9, 0.2, 0.9, 0.4, 0.5])
    monkeypatch.setattr(
        loop, "_validate", lambda *_: {"val_loss": 0.0, "val_accuracy": next(accuracies)}
    )
    config.eval_every, config.checkpoint.keep = "1 steps", 1
    summary = train(config, tmp_path, quiet=True)
    assert summary["best_validation"]["step"] == 4
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"4", "6"}


def test_the_test_split_is_not_looked_at_before_the_end(config, tmp_path, monkeypatch):
    real_judge, log = evaluate.judge, []

    def judge(eval_step, weights, feed, *rest):
        log.append(len(feed))
        return real_judge(eval_step, weights, feed, *rest)

    monkeypatch.setattr(evaluate, "judge", judge)
    train(config, tmp_path, quiet=True)
    assert log[:2] == [144, 144]  # validation, at steps 3 and 6
    assert set(log[2:]) == {360}


def test_without_a_validation_split_nothing_is_best(config, tmp_path):
    config.data.validation = 0.0
    summary = train(config, tmp_path, quiet=True)
    assert summary["best_validation"] is None
    assert "test_of_best" not in summary
    kept = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"4", "6"}  # the latest two


def test_pmap_trains_the_same_run(config, tmp_path):
    with_jit = train(config, tmp_path / "jit", quiet=True)
    config = dataclasses.replace(config, parallel="pmap")
    with_pmap = train(config, tmp_path / "pmap", quiet=True)
    assert with_pmap["final"]["train_loss"] == pytest.approx(
        with_jit["final"]["train_loss"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: setattr(c.model, "name", "resnet_tin"), "did you mean 'resnet_tiny'"),
        (lambda c: setattr(c.model, "num_classes", 7), "num_classes is 7, but digits has 10"),
        (
            lambda c: setattr(c.model, "stem", "imagenets"),
            "unknown stem 'imagenets'; did you mean 'imagenet'",
        ),
        (lambda c: setattr(c.data, "source", "digit"), "did you mean 'digits'"),
        (lambda c: setattr(c.data, "mean", (0.5, 0.5, 0.5)), "1 number or one for each of the 1"),
        (lambda c: setattr(c, "batch_size", 100_000), "does not fit the 1293 training images"),
        (lambda c: setattr(c.optimizer, "name", "sgdd"), "did you mean 'sgd'"),
        (lambda c: setattr(c, "duration", "a while"), "a number and a unit"),
        (lambda c: setattr(c, "log_every", "often"), "a number and a unit"),
        (lambda c: setattr(c, "eval_every", "0 steps"), "config.eval_every must be at least one"),
        (lambda c: setattr(c.checkpoint, "every", "1 epochz"), "a number and a unit"),
        (lambda c: setattr(c.data, "crop", "center"), "are for images from files"),
        (lambda c: setattr(c.augment, "shift", 8), r"less than the image size \(8\); got 8"),
        (lambda c: setattr(c, "init_from", "no.pth"), "there is no file or folder 'no.pth'"),
        (lambda c: setattr(c, "accumulate", 3), r"multiple of the 1 devices, times 3 .* got 64"),
        (lambda c: (setattr(c.augment, "mixup", 1.0), setattr(c, "batch_size", 63)), "in pairs"),
        (lambda c: setattr(c.augment, "off", "late"), "a number and a unit"),
        (lambda c: setattr(c.distill, "model", "resnet_tiny"), "set config.distill.init_from"),
        (lambda c: setattr(c.distill, "weight", 0.0), "distill.weight must be above 0"),
        (lambda c: setattr(c.data, "train_sizes", (4, 9)), r"must be at most image_size \(8\)"),
        (
            lambda c: (setattr(c.schedule, "name", "plateau"), setattr(c.data, "validation", 0.0)),
            "there is no validation split",
        ),
    ],
)
def test_a_slip_is_told_before_anything_is_written(config, tmp_path, change, words):
    change(config)
    with pytest.raises(UserError, match=words):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_cannot_be_written_is_named(config, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match=r"cannot write to the workdir .*file"):
        train(config, blocked / "run", quiet=True)
