"""python -m flaxzoo."""

import csv
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from flaxzoo import __main__ as command_line
from flaxzoo import cli
from flaxzoo.cli import run_command
from flaxzoo.commands import COMMANDS
from flaxzoo.errors import UserError, unknown
from flaxzoo.training import loop
from flaxzoo.training.interrupt import Interrupted


def call(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["flaxzoo", *arguments])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_models_lists_what_matches(monkeypatch, capsys):
    assert call(monkeypatch, "models", "resnet1?") == 0
    output = capsys.readouterr().out
    assert "resnet18" in output
    assert "11,689,512" in output
    assert "resnet50" not in output


def test_a_pattern_without_a_match_gets_near_misses(monkeypatch, capsys):
    assert call(monkeypatch, "models", "resnet19") == 2
    assert "did you mean 'resnet18'" in capsys.readouterr().err


def test_an_unknown_command_gets_near_misses_in_one_line(monkeypatch, capsys):
    assert call(monkeypatch, "modles") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: unknown command 'modles'; did you mean 'models'? known: augm")


def test_data_prepare_takes_a_name(monkeypatch, capsys):
    assert call(monkeypatch, "data", "prepare", "digits") == 0
    assert "nothing to prepare" in capsys.readouterr().out
    assert call(monkeypatch, "data", "prepare", "imagenete") == 2
    assert (
        "error: unknown data set 'imagenete'; did you mean 'imagenette'" in capsys.readouterr().err
    )


@pytest.mark.parametrize("flags", [["--float32", "--train-steps=99"], ["--train-steps=10"]])
def test_a_plot_of_losses_needs_a_long_training_in_float64(monkeypatch, capsys, flags):
    assert call(monkeypatch, "parity", "resnet_tiny", "--plot=losses.png", *flags) == 2
    assert "with --train-steps of more than 10; got" in capsys.readouterr().err


def test_training_takes_its_own_flags(monkeypatch, capsys):
    assert call(monkeypatch, "train", "--config=nosuch.py") == 2
    assert "unknown config file 'nosuch.py'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("x"), 2), (FloatingPointError("x"), 1), (KeyboardInterrupt(), 130)],
)
def test_exit_codes(error, code, capsys):
    def command():
        raise error

    assert run_command(command) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_reader_that_leaves_early_is_no_fault(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run_command(lambda: print("nobody reads this", flush=True)) == 1
        print("nor this", flush=True)


@pytest.mark.parametrize(
    ("flags", "how"),
    [
        (["--workdir=runs/x"], "go on with the same command"),
        ([], "--config=configs/resnext.py --workdir=runs/resnext-"),  # its name has the time in it
    ],
)
def test_a_stopped_run_says_how_to_go_on(monkeypatch, capsys, flags, how):
    def stopped(config, workdir):
        raise Interrupted(signal.SIGTERM, 12, Path("somewhere"))

    argv = ["--config=configs/resnext.py", *flags]
    monkeypatch.setattr(loop, "train", stopped)
    monkeypatch.setattr(cli, "prepare_jax", lambda: None)
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", *argv])
    assert run_command(lambda: cli.train_command(argv)) == 143
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("interrupted: saved step 12 in somewhere; go on with ")
    assert how in line


def test_a_second_control_c_tells_that_nothing_was_saved(monkeypatch, capsys):
    def stopped(config, workdir):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", stopped)
    monkeypatch.setattr(cli, "prepare_jax", lambda: None)
    argv = ["--config=configs/resnext.py", "--workdir=runs/x"]
    assert run_command(lambda: cli.train_command(argv)) == 130
    assert capsys.readouterr().err == (
        "interrupted: not saved; go on from the last checkpoint with the same command\n"
    )


def test_an_unknown_name_without_near_misses_lists_what_exists():
    assert str(unknown("shape", "xyz", ["round", "square"])) == (
        "unknown shape 'xyz'. known: round, square"
    )


def test_models_for_programs(monkeypatch, capsys):
    assert call(monkeypatch, "models", "resnet1?", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model"], row["family"], row["parameters"]) == ("resnet18", "resnet", 11_689_512)
    assert call(monkeypatch, "models", "resnet1?", "--csv") == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (row["model"], row["top1"]) == ("resnet18", "69.758")


def test_help_names_every_command(monkeypatch, capsys):
    assert call(monkeypatch, "--help") == 0
    output = capsys.readouterr().out
    assert all(f"  {name} " in output for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_a_command_has_examples(monkeypatch, capsys, name):
    assert call(monkeypatch, name, "--help") == 0
    example = "\n    python train.py --config=" if name == "train" else f"\n  flaxzoo {name}"
    assert example in capsys.readouterr().out
