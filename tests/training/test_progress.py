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


@pytest.mark.parametrize("columns", [80, 120])
def test_the_whole_line_fits_a_terminal(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    line = ProgressLine(150_120, 5004, start_step=0)
    line.show(61_549, ROW | {"epoch": 12.3, "learning_rate": 1.2345e-4})
    with line.console.capture() as capture:
        line.console.print(line._live.get_renderable())
    shown = capture.get()
    assert len(shown.splitlines()) == 1
    for part in ("epoch 12.3/30 ", "loss 2.500", "12.50%", "lr 0.000123", "1,234 images/s"):
        assert part in shown
    assert ("step 61549/150120" in shown) == (columns == 120)
