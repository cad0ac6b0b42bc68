"""Every command answers a slip with one line and exit code 2, before it writes anything."""

import argparse
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from flaxzoo import __main__ as command_line
from flaxzoo import commands, create_model, save_pretrained
from flaxzoo.commands import COMMANDS, common
from flaxzoo.errors import UserError

CONFIG = Path(__file__).parents[1] / "configs" / "resnet.py"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The working folder: a saved model, two classes of an image each, and what is neither."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("nothing")
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "pets" / name / "1.png")
    save_pretrained(create_model("resnet_tiny"), tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    # The commands would have the compiled programs of all other tests kept somewhere else.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    return tmp_path


class Parsed(Exception):
    """Carries the parser of a command out of it."""


def parser_of(name: str) -> common.Parser:
    def check_flags(self, arguments, but=""):
        raise Parsed(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common.Parser, "check_flags", check_flags)
        with pytest.raises(Parsed) as found:
            commands.run([name])
    return found.value.args[0]


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"train"}))
def test_every_flag_is_checked(name):
    for action in parser_of(name)._actions:
        for flag in (flag for flag in action.option_strings if flag.startswith("--")):
            misspelt = flag[:-2] + flag[-1] + flag[-2] + "x"
            with pytest.raises(
                UserError, match=f"unknown flag .*'{misspelt}'; did you mean.*{flag}"
            ):
                commands.run([name, misspelt])
            wants = action.type not in (None, Path) or action.choices
            if wants and not isinstance(action, argparse._StoreTrueAction):
                with pytest.raises(UserError, match=f"argument {flag}: .*'?nosuch"):
                    commands.run([name, flag, "nosuch"])


SLIPS = {
    "train": [
        ("", "no config: use --config=FILE"),
        ("--config=CONFIG --workdir=", "--workdir must be a path; got an empty string"),
        ("--config=CONFIG --workdir=file", "cannot write to the workdir .*file: File exists"),
        ("--config=CONFIG --workdri=run", "Did you mean: workdir"),
        ("--config=CONFIG:fodler=pets --workdir=run", "did you mean 'folder='"),
        ("--config=CONFIG:folder=pest --workdir=run", "no such folder .*; did you mean 'pets'"),
        ("--config=CONFIG:digits,model=resnet_tny --workdir=run", "did you mean 'resnet_tiny'"),
        ("--config=CONFIG --config.init_from=sved/x --workdir=run", "there is no folder sved"),
        ("--config=CONFIG --config.duration=9 --workdir=run", "a number and a unit, .* got '9'"),
        ("--config=CONFIG --process_id=3", "got None, None and 3"),
    ],
    "data": [
        ("", "required: SPEC"),
        ("digit", "did you mean 'digits'"),
        ("pets", "expected folder=pets"),
        ("folder=pest", "did you mean 'pets'"),
        ("folder=empty", "has no folders"),
        ("digits --output=no/x.png", "no such folder; . has empty, file, pets, saved"),
        ("digits --output=x.pgn", r"must end in .*\.png"),
        ("digits --output=pets", "it is a folder; expected the name of a file"),
        ("prepare cifra10", "did you mean 'cifar10'"),
        ("prepare cifar10 --data_dir=file", "choose another data_dir"),
    ],
    "models": [
        ("resnet19", "did you mean 'resnet18'"),
        ("--family=resnte", "did you mean 'resnet'"),
        ("resnet18 --min-params=nan", "must be positive; got nan"),
        ("resnet18 --max-params=1", "no model that matches 'resnet18' is as the flags ask"),
        ("resnet18 vgg11", "unrecognized arguments: vgg11"),
    ],
    "info": [
        ("resnet19", "did you mean 'resnet18'"),
        ("inception_v3 --image-size=8", "75x75 pixels or more; got 8x8"),
        ("resnet18 --image-size=99999999999", "at most 2147483647; got 99999999999"),
    ],
    "convert": [
        ("sved x.npz", "no file or folder 'sved'; did you mean 'saved'"),
        ("file x.npz", "neither a file that torch.save wrote nor"),
        ("saved x.npy", "did you mean '.npz'"),
        ("saved no/x.npz", "cannot write no/x.npz"),
        ("saved file/", "cannot write file: File exists"),
        ("saved x.npz --model=resnet18", "is a saved resnet_tiny, but the model is resnet18"),
    ],
    "pretrained": [
        ("resnte50", "did you mean 'resnet50'"),
        ("--download", "takes the name of weights"),
        ("timm/a.b --download --model=resnte50", "unknown model .* did you mean 'resnet50'"),
    ],
    "parity": [
        ("resnet_tny", "did you mean 'resnet_tiny'"),
        ("resnet_tiny --html=no/x.html", "no such folder"),
        ("resnet_tiny --plot=x.png", "more than 10; got 3"),
        ("resnet_tiny --float32 --float64", "not allowed with argument --float32"),
    ],
    "evaluate": [
        ("sved", "no run, no file .*; did you mean 'saved'"),
        ("saved", "nothing says which size of image saved takes: set --image-size"),
        ("empty", "it holds nothing"),
        ("saved --data=digits", "images of 3 channels, but those of digits have 1"),
        ("saved --data=folder=pets --image-size=8", "for 10 classes, but pets has 2"),
        ("saved --data=digits --weights=ema", "averaged weights are kept in checkpoints"),
        ("resnte18=file --data=digits", "nothing published by the name 'resnte18=file'"),
    ],
    "predict": [
        ("pets", "required: --model"),
        ("no*.jpg --model=saved", r"no\*.jpg has no images"),
        ("pets --model=sved", "did you mean 'saved'"),
        ("pets --model=saved --sheet=no/x.png", "no such folder"),
        ("pets --model=saved --image-size=8 --classes=fiel", "did you mean 'file'"),
        ("pets --model=saved --image-size=8 --classes=file", "has 1 names; the model has 10"),
    ],
    "explain": [
        ("pets --model=saved --image-size=8", "cannot read image pets: Is a directory"),
        ("file --model=saved --image-size=8", "cannot read image file: not an image"),
        ("pets/cat/1.png --model=saved --image-size=8 --class=10", "known: 0 to 9"),
        ("pets/cat/1.png --model=saved --out=x.pgn", r"must end in .*\.png"),
    ],
    "export": [
        ("sved --format=torch --out=x.pth", "did you mean 'saved'"),
        ("saved --format=torch --out=x.npz --image-size=8", "ends in .pth or .pt; got x.npz"),
        ("saved --format=torch --out=no/x.pth", "no such folder"),
        ("saved --format=torch --out=x.pth --batch=0", "must be positive; got 0"),
        ("resnet_tiny --format=torch --out=x.pth", "no weights of resnet_tiny are published"),
    ],
    "benchmark": [
        ("resnet19", "did you mean 'resnet18'"),
        ("resnet_tiny --rounds=0", "must be positive; got 0"),
    ],
    "compile": [
        ("nosuch.py", "unknown config file 'nosuch.py'"),
        ("CONFIG --toplogy=v5e:2x4", "did you mean '--topology'"),
        ("CONFIG --topology=v7x:2x4", "unknown TPU 'v7x'.* known: v2"),
        ("CONFIG --config.batch_sze=3", "did you mean 'batch_size'"),
    ],
    "report": [
        ("sved", "no folder sved; .*; did you mean 'saved'"),
        ("saved", "no run in saved"),
        ("file", "no folder file"),
        ("saved --html=no/x.html", "no such folder"),
    ],
    "augmentations": [
        ("--image nosuch.png", "cannot read image nosuch.png: no such file"),
        ("--out=x.pgn", r"must end in .*\.png"),
        ("--out=no/x.png", "no such folder"),
    ],
}  # fmt: skip


def test_every_command_has_slips():
    assert SLIPS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_slip_is_one_line_and_nothing_is_written(name, here, monkeypatch, capsys):
    before = sorted(here.rglob("*"))
    for line, words in SLIPS[name]:
        argv = ["flaxzoo", name, *line.replace("CONFIG", str(CONFIG)).split()]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as stop:
            command_line.main()
        told = capsys.readouterr().err
        assert stop.value.code == 2, (line, told)
        assert re.fullmatch(rf"error: .*{words}.*\n", told), (line, told)
    assert sorted(here.rglob("*")) == before
