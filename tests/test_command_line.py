"""python -m flaxzoo."""

import sys

import pytest

from flaxzoo import __main__ as command_line
from flaxzoo.cli import run_command
from flaxzoo.errors import UserError, unknown


def call(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["flaxzoo", *arguments])
    with pytest.raises(SystemExit) as stop:
        command_line.main()
    return stop.value.code


def test_models_lists_what_matches(monkeypatch, capsys):
    assert call(monkeypatch, "models", "resnet1?") == 0
    output = capsys.readouterr().out
    assert "resnet18" in output
    assert "11.69" in output  # million parameters
    assert "resnet50" not in output


def test_a_pattern_without_a_match_gets_near_misses(monkeypatch, capsys):
    assert call(monkeypatch, "models", "resnet19") == 2
    assert "did you mean 'resnet18'" in capsys.readouterr().err


def test_an_unknown_command_gets_near_misses_in_one_line(monkeypatch, capsys):
    assert call(monkeypatch, "modles") == 2
    assert capsys.readouterr().err == (
        "error: unknown command 'modles'; did you mean 'models'? known: models, parity, train\n"
    )


@pytest.mark.parametrize("flags", [["--dtype=float32", "--train-steps=99"], ["--train-steps=10"]])
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


def test_an_unknown_name_without_near_misses_lists_what_exists():
    assert str(unknown("shape", "xyz", ["round", "square"])) == (
        "unknown shape 'xyz'. known: round, square"
    )
