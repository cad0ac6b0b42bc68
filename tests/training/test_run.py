"""The tables of a run's folder."""

import csv
import json

import pytest

from flaxzoo.training.run import Run


def read_csv(path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture
def run(config, tmp_path) -> Run:
    run = Run(tmp_path, config)
    run.resume_metrics(0)
    return run


def test_each_evaluation_is_a_line_of_summary_csv(run, tmp_path):
    run.log(step=1, epoch=0.5, train_loss=3.0, train_accuracy=0.1, learning_rate=0.1)
    run.log(step=2, epoch=1.0, train_loss=2.0, val_loss=2.5, val_accuracy=0.25, val_top5=0.5)
    (row,) = read_csv(tmp_path / "summary.csv")
    assert float(row.pop("seconds")) >= 0
    assert row == {
        "epoch": "1.0", "step": "2", "train_loss": "2.0", "train_accuracy": "", "val_loss": "2.5",
        "val_accuracy": "0.25", "learning_rate": "", "val_top5": "0.5",
    }  # fmt: skip


def test_summary_csv_drops_what_is_evaluated_again(config, run, tmp_path):
    for step in (1, 2, 3):
        run.log(step=step, epoch=step / 2, val_loss=1.0 / step)
    again = Run(tmp_path, config)
    again.resume_metrics(2)
    again.log(step=3, epoch=1.5, val_loss=0.25)
    rows = read_csv(tmp_path / "summary.csv")
    assert [(row["step"], row["val_loss"]) for row in rows] == [
        ("1", "1.0"), ("2", "0.5"), ("3", "0.25")
    ]  # fmt: skip


def test_seconds_go_on_where_an_interrupted_run_stopped(config, run, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 0.5, "seconds": 1000.0}\n')
    again = Run(tmp_path, config)
    again.resume_metrics(1)
    again.log(step=2, epoch=1.0)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert 1000 <= last["seconds"] < 1100
