"""Commands below a cell, and what is looked for among attached inputs."""

import subprocess
from pathlib import Path

import pytest

from flaxzoo import UserError
from flaxzoo.notebook import input_folder, run, workdir

# Says so when it is ready, and ends with this code when it is asked to.
SAVES = """python -c "
import signal, sys, time
def save(*_):
    print('saved')
    sys.exit({code})
signal.signal(signal.SIGTERM, save)
print('ready')
time.sleep(600)
" """


def checkpoint(run_folder: Path, step: int) -> None:
    folder = run_folder / "checkpoints" / str(step)
    folder.mkdir(parents=True)
    (folder / "arrays").write_text(str(step))


def test_a_command_says_what_it_writes_to_both_streams(capsys):
    run("""python -c "import sys; print('out', flush=True); print('err', file=sys.stderr)" """)
    assert capsys.readouterr().out == "out\nerr\n"


def test_a_command_knows_no_terminal_where_the_kernel_forces_colors(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    run("""python -c "import rich.console; print(rich.console.Console().is_terminal)" """)
    assert capsys.readouterr().out == "False\n"


def test_a_failing_command_stops_the_notebook():
    with pytest.raises(subprocess.CalledProcessError) as error:
        run("python -c 'raise SystemExit(2)'", hours=1.0)
    assert error.value.returncode == 2


def test_the_end_of_the_hours_is_no_failure(capsys):
    run(SAVES.format(code=143), hours=2 / 3600)
    assert capsys.readouterr().out.endswith("saved\nstopped after 0.000555556 hours\n")


def test_a_command_that_fails_to_save_at_the_end_of_the_hours_has_failed():
    with pytest.raises(subprocess.CalledProcessError):
        run(SAVES.format(code=1), hours=2 / 3600)


def test_the_stop_button_waits_for_the_save(capsys, monkeypatch):
    def say(text, **_):
        if text == "ready\n":
            raise KeyboardInterrupt
        said.append(text)

    said: list[str] = []
    monkeypatch.setattr("builtins.print", say)
    with pytest.raises(KeyboardInterrupt):
        run(SAVES.format(code=143))
    assert said == ["saved\n"]


def test_the_output_that_came_furthest_is_copied_back(tmp_path, capsys):
    inputs, kept = tmp_path / "input", tmp_path / "working"
    checkpoint(inputs / "a-notebook" / "mine", 30)
    checkpoint(inputs / "notebooks" / "someone" / "a-notebook" / "mine", 200)
    checkpoint(inputs / "notebooks" / "someone" / "a-notebook" / "other", 300)
    folder = workdir("mine", kept, inputs)
    assert folder == kept / "mine"
    assert (folder / "checkpoints" / "200" / "arrays").read_text() == "200"
    assert not (folder / "checkpoints" / "30").exists()
    assert "step 200 of" in capsys.readouterr().out


def test_a_run_that_is_there_is_left_alone(tmp_path, capsys):
    inputs, kept = tmp_path / "input", tmp_path / "working"
    checkpoint(inputs / "a-notebook" / "mine", 30)
    checkpoint(kept / "mine", 10)
    workdir("mine", kept, inputs)
    assert [p.name for p in (kept / "mine" / "checkpoints").iterdir()] == ["10"]
    assert capsys.readouterr().out == ""


def test_a_run_begins_where_nothing_is_attached(tmp_path):
    assert workdir("mine", tmp_path, tmp_path / "absent") == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("before", [".", "datasets/someone"])
def test_a_data_set_is_found_in_both_layouts(tmp_path, before):
    folder = tmp_path / before / "flowers" / "train"
    folder.mkdir(parents=True)
    assert input_folder("flowers/train", tmp_path) == folder


def test_a_folder_that_is_not_there_is_told_with_those_that_are(tmp_path):
    (tmp_path / "pets" / "cats").mkdir(parents=True)
    with pytest.raises(UserError, match=r"one folder .*/flowers in .*; it has pets, pets/cats\."):
        input_folder("flowers", tmp_path)


def test_two_folders_of_a_name_are_both_told(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"found .*a/train, .*b/train\."):
        input_folder("train", tmp_path)
