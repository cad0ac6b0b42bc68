"""TensorBoard's event files, and calls to wandb."""

import importlib.util
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from flaxzoo.config import LogConfig
from flaxzoo.errors import UserError
from flaxzoo.training.loggers import check_installed, open_loggers
from flaxzoo.training.loop import train
from flaxzoo.training.run import Run

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="tensorboardX is not installed"
)
ROW = {"epoch": 0.5, "train_loss": 1.25, "val_loss": 2.0, "learning_rate": 0.1}


def read_events(folder: Path) -> list:
    """Reads TensorBoard's records: length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def scalars(events: list) -> dict[tuple[str, int], float]:
    return {
        (value.tag, event.step): value.simple_value
        for event in events for value in event.summary.value
    }  # fmt: skip


@needs_tensorboard
def test_training_and_validation_share_a_chart(tmp_path):
    (logger,) = open_loggers(LogConfig(tensorboard=True), tmp_path, 0, {})
    logger.log(7, ROW)
    logger.close()
    assert scalars(read_events(tmp_path / "tensorboard")) == {
        ("epoch", 7): 0.5,
        ("loss/train", 7): 1.25,
        ("loss/val", 7): 2.0,
        ("learning_rate", 7): pytest.approx(0.1),
    }


@needs_tensorboard
def test_what_is_logged_twice_after_an_interruption_is_purged(tmp_path):
    from tensorboardX.proto.event_pb2 import SessionLog

    (logger,) = open_loggers(LogConfig(tensorboard=True), tmp_path, 5, {})
    logger.log(6, ROW)
    logger.close()
    starts = [e.step for e in read_events(tmp_path / "tensorboard")
              if e.session_log.status == SessionLog.START]  # fmt: skip
    assert starts == [6]


@needs_tensorboard
def test_a_run_writes_every_row(config, tmp_path):
    config.log.tensorboard = True
    run = Run(tmp_path, config, ("cat", "dog"))
    run.resume_metrics(0)
    run.log(step=1, epoch=0.1, train_loss=3.0)
    run.log(step=2, epoch=0.2, train_loss=2.0)
    run.close()
    found = scalars(read_events(tmp_path / "tensorboard"))
    assert {k: v for k, v in found.items() if k[0] == "loss/train"} == {
        ("loss/train", 1): 3.0, ("loss/train", 2): 2.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (LogConfig(tensorboard=True), "config.log.tensorboard needs tensorboardX: pip install"),
        (LogConfig(wandb="zoo"), "config.log.wandb needs wandb: pip install wandb"),
    ],
)
def test_a_missing_library_is_told_before_any_work(config, tmp_path, monkeypatch, log, words):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    config.log = log
    with pytest.raises(UserError, match=words):
        train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_nothing_is_imported_unless_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_installed(LogConfig())
    assert open_loggers(LogConfig(), Path("nowhere"), 0, {}) == []


class FakeWandB(SimpleNamespace):
    """Notes what it is told, as wandb's module and as its run."""

    def __init__(self):
        super().__init__(id="r1", calls=[])

    def init(self, **options):
        self.calls.append(("init", options))
        return self

    def log(self, row, step):
        self.calls.append(("log", row, step))

    def finish(self):
        self.calls.append(("finish",))


@pytest.fixture
def wandb(monkeypatch) -> FakeWandB:
    fake = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_gets_config_and_rows(wandb, tmp_path):
    (logger,) = open_loggers(LogConfig(wandb="zoo"), tmp_path, 0, {"config.seed": 3})
    logger.log(7, ROW)
    logger.close()
    (_, options), *rest = wandb.calls
    assert options["project"] == "zoo"
    assert options["config"] == {"config.seed": 3}
    assert rest == [("log", ROW, 7), ("finish",)]


def test_wandb_goes_on_with_the_same_run(wandb, tmp_path):
    for _ in range(2):
        open_loggers(LogConfig(wandb="zoo"), tmp_path, 0, {})
    first, second = (options for _, options in wandb.calls)
    assert (first["id"], second["id"]) == (None, "r1")
    assert second["resume"] == "allow"
