"""flaxzoo report."""

import csv
import json
import re

import pytest

from flaxzoo import commands
from flaxzoo.errors import UserError


@pytest.fixture
def runs(tmp_path):
    """Two runs, of which the second has not ended."""
    for name, rate, ended in (("fast", 0.1, True), ("slow", 0.01, False)):
        folder = tmp_path / name
        folder.mkdir()
        config = {"model": {"name": "resnet_tiny"}, "optimizer": {"learning_rate": rate}}
        rows = [
            {
                "step": 10 * i,
                "epoch": float(i),
                "train_loss": 1 / i,
                "learning_rate": rate,
                "seconds": 9.5,
            }
            | ({"val_accuracy": 0.2 * i, "val_loss": 1.5} if i % 2 else {})
            for i in range(1, 5)
        ]
        (folder / "config.json").write_text(json.dumps(config))
        lines = "\n".join(map(json.dumps, rows))
        (folder / "metrics.jsonl").write_text(f'{lines}\n{{"step": 50, "trai')  # being written
        if ended:
            (folder / "summary.json").write_text(json.dumps({"test": {"accuracy": 0.75}}))
    return tmp_path


def test_a_table_of_figures_and_of_the_settings_that_differ(runs, capsys):
    commands.run(["report", str(runs / "slow"), str(runs / "fast")])
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"slow +resnet_tiny +4 +0\.2500 +60\.00% +10", lines[1])
    assert re.search(r"fast +resnet_tiny +4 +0\.2500 +60\.00% +75\.00% +10", lines[2])
    assert lines[3:] == ["optimizer.learning_rate: 0.01, 0.1"]


def test_a_folder_of_runs_for_programs(runs, capsys):
    commands.run(["report", str(runs), "--json"])
    fast, slow = json.loads(capsys.readouterr().out)
    assert (fast["run"], fast["test"], fast["ended"]) == ("fast", 0.75, True)
    assert (slow["run"], slow["test"], slow["ended"]) == ("slow", None, False)
    commands.run(["report", str(runs), "--csv"])
    assert [row["run"] for row in csv.DictReader(capsys.readouterr().out.splitlines())] == [
        "fast", "slow",
    ]  # fmt: skip


def test_the_page_has_everything_in_it(runs, tmp_path, capsys):
    commands.run(["report", str(runs), "--html", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "75.00%" in page
    assert "optimizer.learning_rate" in page
    assert "model.name" not in page  # the same in both
    assert "http" not in page


def test_runs_of_one_name_are_told_apart(runs, capsys):
    other = runs / "other" / "fast"
    other.mkdir(parents=True)
    (other / "config.json").write_text("{}")
    commands.run(["report", str(runs / "fast"), str(other), "--json"])
    names = [row["run"] for row in json.loads(capsys.readouterr().out)]
    assert names == [str(runs / "fast"), str(other)]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no run in .*expected a workdir"), ("{", "cannot read"), ("[]", "is damaged")],
)
def test_what_is_no_run_is_told(tmp_path, content, message):
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        commands.run(["report", str(tmp_path)])
