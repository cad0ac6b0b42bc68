"""The tables of a run's folder, and the classes it was trained on."""

import csv
import json

import pytest

from flaxzoo.checkpoint import Checkpoints
from flaxzoo.errors import UserError
from flaxzoo.training.run import Run, check_classes, read_metrics
from flaxzoo.training.trainer import build

CLASSES = ("cat", "dog", "eel")


def read_csv(path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture
def run(config, tmp_path) -> Run:
    run = Run(tmp_path, config, CLASSES)
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


def test_a_report_shows_names_of_files_that_are_not_utf8(config, tmp_path):
    config.data.source = "folder=caf\udce9"
    Run(tmp_path, config, CLASSES).plot()
    assert r"folder=caf\udce9" in (tmp_path / "report.html").read_text("utf-8")


def test_summary_csv_drops_what_is_evaluated_again(config, run, tmp_path):
    for step in (1, 2, 3):
        run.log(step=step, epoch=step / 2, val_loss=1.0 / step)
    again = Run(tmp_path, config, CLASSES)
    again.resume_metrics(2)
    again.log(step=3, epoch=1.5, val_loss=0.25)
    rows = read_csv(tmp_path / "summary.csv")
    assert [(row["step"], row["val_loss"]) for row in rows] == [
        ("1", "1.0"), ("2", "0.5"), ("3", "0.25")
    ]  # fmt: skip


def test_seconds_go_on_where_an_interrupted_run_stopped(config, run, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "epoch": 0.5, "seconds": 1000.0}\n')
    again = Run(tmp_path, config, CLASSES)
    again.resume_metrics(1)
    again.log(step=2, epoch=1.0)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert 1000 <= last["seconds"] < 1100


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("cat", "eel", "dog"), "class 1 of its 3 was 'dog', and of the 3 now is 'eel'"),
        (("cat", "dog"), "class 2 of its 3 was 'eel', and of the 2 now is absent"),
        ((*CLASSES, "fox"), "class 3 of its 3 was absent, and of the 4 now is 'fox'"),
    ],
)
def test_other_classes_or_another_order_are_refused_with_the_first_difference(
    run, tmp_path, classes, words
):
    assert json.loads((tmp_path / "classes.json").read_text()) == list(CLASSES)
    check_classes(tmp_path, CLASSES, "folder=pets")
    with pytest.raises(UserError) as caught:
        check_classes(tmp_path, classes, "folder=pets")
    where = f"{tmp_path} was trained on other classes than those of folder=pets"
    assert str(caught.value) == f"{where}: {words}."


def test_a_run_does_not_go_on_with_other_classes(config, run, tmp_path):
    checkpoints = Checkpoints(run.checkpoints, keep=1)
    checkpoints.save(1, build(config)[1], None)
    checkpoints.close()
    Run(tmp_path, config, CLASSES)
    with pytest.raises(UserError, match="class 0 of its 3 was 'cat', and of the 3 now is 'eel'"):
        Run(tmp_path, config, CLASSES[::-1])


def test_classes_can_be_corrected_until_something_is_saved(config, run, tmp_path):
    Run(tmp_path, config, CLASSES[::-1])
    check_classes(tmp_path, CLASSES[::-1], "folder=pets")


def test_a_damaged_list_of_classes_is_named(run, tmp_path):
    (tmp_path / "classes.json").write_text("[")
    with pytest.raises(UserError, match=r"classes\.json is damaged"):
        check_classes(tmp_path, CLASSES, "folder=pets")


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff\xfe{}", b""])
def test_a_damaged_config_is_named_and_the_run_stays_as_it_is(config, run, tmp_path, content):
    (run.checkpoints / "1").mkdir(parents=True)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json is damaged; use another --workdir\.$"):
        Run(tmp_path, config, CLASSES)
    assert (tmp_path / "config.json").read_bytes() == content


def test_damaged_lines_of_the_metrics_are_left_out(tmp_path):
    lines = [b'{"step": 1}', b'{"step"', b"3", b'{"stap": 4}', b'{"step": "5"}', b"\xff", b""]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([*lines, b'{"step": 8}']))
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == [{"step": 1}, {"step": 8}]
