"""The lines that a run prints."""

import pytest

from flaxzoo.training import progress
from flaxzoo.training.progress import ProgressLine

ROW = {
    "epoch": 1.0, "train_loss": 2.5, "train_accuracy": 0.125, "learning_rate": 0.05,
    "images_per_second": 1234.5,
}  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved: clock[0] += seconds."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_lines_are_plain_and_tell_everything(clock, capsys):
    with ProgressLine(100, 10, start_step=0) as line:
        line.show(10, ROW)
        clock[0] += 20
        line.show(20, ROW | {"epoch": 2.0})
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "epoch 1.0/10  step 10/100  loss 2.500  acc 12.50%  lr 0.05  1,234 images/s"
    )  # without the time left: what went before was compiling
    assert second.endswith("images/s  0:02:40 left")  # 80 steps at 2 seconds each


def test_without_a_terminal_lines_are_rare(clock, capsys):
    with ProgressLine(100, 10, start_step=0) as line:
        for step in range(1, 100):
            clock[0] += 1
            line.show(step, ROW)
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_every_evaluation_is_a_line(clock, capsys):
    with ProgressLine(100, 10, start_step=50) as line:
        line.show(60, ROW | {"val_loss": 1.5, "val_accuracy": 0.75})
        line.show(70, ROW | {"val_loss": 1.25, "val_accuracy": 0.5})
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1.0/10  loss 2.500  validation loss 1.500  accuracy 75.00%",
        "epoch 1.0/10  loss 2.500  validation loss 1.250  accuracy 50.00%",
    ]


def test_a_terminal_of_100_columns_shows_the_whole_line(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with ProgressLine(12_000, 1000, start_step=0) as line:
        line.show(1000, ROW)
        line._live.refresh()
    text = capsys.readouterr().out
    for part in ("epoch 1.0/12", "step 1000/12000", "12.50%", "lr 0.05", "1,234 images/s"):
        assert part in text
