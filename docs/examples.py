"""The examples of the documentation, run or checked: CONTRIBUTING.md says which and how.

Used by tests/test_docs.py and parity_tests/test_torch_docs.py.
"""

import argparse
import contextlib
import importlib.util
import os
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from flaxzoo import cli, commands
from flaxzoo.check_config import field_names
from flaxzoo.commands.common import matching
from flaxzoo.config import Config
from flaxzoo.models import VARIANTS, create_model
from flaxzoo.training import distributed

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TORCH = "<!-- torch -->\n"  # begins a page that needs torch
BLOCK = re.compile(
    r"(?:^<!-- checked: (?P<why>.+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# Trainings end after two steps, those on photographs see few and small ones.
SHORT = ("--config.duration=2 steps", "--config.schedule.warmup=0 steps")
_PROGRAMS = ("cd", "git", "pytest", ".venv/bin/pre-commit", "kaggle")  # others' own
SMALL = ("--config.batch_size=8", "--config.data.image_size=32")


@dataclass(frozen=True)
class Example:
    """A block of code.

    Attributes:
        language: "python", "sh", or "" for commands of the README that are only checked.
        line: of the page, on which the code begins, from 1.
        runs: it is not marked as only checked.
    """

    language: str
    code: str
    line: int
    runs: bool


def pages(torch: bool) -> list[Path]:
    """Returns the pages that have examples, those that need torch or the others."""
    texts = {path: path.read_text("utf-8") for path in PAGES}
    return [p for p, text in texts.items() if examples(text) and text.startswith(TORCH) == torch]


def examples(text: str) -> list[Example]:
    """Returns the examples of a page, in order; what is of language "text" is none."""
    return [
        Example(
            language=match["language"],
            code=match["code"],
            line=text.count("\n", 0, match.start("code")) + 1,
            runs=not match["why"] and match["language"] != "",
        )
        for match in BLOCK.finditer(text)
        if match["language"] != "text"
    ]


def run_page(path: Path, names: Mapping[str, Any] = {}, stand_ins: Mapping[str, str] = {}) -> None:
    """Runs or checks the examples of a page in the working directory.

    Blocks of Python are one program.

    Args:
        names: what the program takes for granted.
        stand_ins: strings of the page that others take the places of: small models of large ones.

    Raises:
        AssertionError: an example that nobody knows how to check.
        Exception: whatever is wrong with one.
    """
    text, namespace = path.read_text("utf-8"), {"__name__": "__main__", **names}
    for large, small in stand_ins.items():
        text = text.replace(large, small)
    for example in examples(text):
        if example.language == "python":
            # On the lines of the page, for tracebacks.
            program = compile("\n" * (example.line - 1) + example.code, str(path), "exec")
            if example.runs:
                exec(program, namespace)
        else:
            assert example.language in ("sh", ""), f"{path.name}:{example.line}: {example.language}"
            for command in command_lines(example.code):
                run(command) if example.runs else check(command)


def command_lines(code: str) -> Iterator[list[str]]:
    """Yields the commands of a block as words, without comments."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line.strip().removeprefix("!"), comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield words[:end]
            words = words[end + 1 :]


def run(words: Sequence[str]) -> None:
    """Runs a command of flaxzoo in this process; a training is cut short."""
    command = _command(words)
    assert command is not None, f"this runs in no test, mark it as checked: {' '.join(words)}"
    if command[0] != "train":
        commands.run(command)
        return
    flags = [flag for flag in command[1:] if flag.partition("=")[0] not in _names(SHORT)]
    small = SMALL if any("folder=" in flag for flag in flags) else ()
    cli.train_command([*flags, *SHORT, *small])


def check(words: Sequence[str]) -> None:
    """Checks a command without running it: flags, settings, models, names of files of ours."""
    program, *rest = words
    if command := _command(words):
        _check_train(command[1:]) if command[0] == "train" else _check_command(command)
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    elif words[:2] == ["pip", "install"]:
        _check_requirements(rest[1:])
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), words
    else:
        assert program in _PROGRAMS, f"who knows {words}?"


def _command(words: Sequence[str]) -> list[str] | None:
    """Returns the command of flaxzoo with its arguments, or None where it is something else."""
    rest = list(words[1:] if words[0] == "srun" else words)
    if rest[:2] == ["python", "train.py"]:
        return ["train", *rest[2:]]
    if rest[:3] == ["python", "-m", "flaxzoo"]:
        return rest[3:]
    return rest[1:] if rest[0] == "flaxzoo" else None


def _check_train(flags: Sequence[str]) -> Config:
    # Three dots stand for any config.
    flags = [flag.replace("--config=...", "--config=configs/resnet.py") for flag in flags]
    processes, flags = distributed.parse_flags(flags, environ={})
    config, _ = cli.parse_train_flags(flags, several_processes=processes is not None)
    assert config.model.name in VARIANTS, config.model.name
    return config


class _Parsed(Exception): ...


def _check_command(words: Sequence[str]) -> None:
    """Has a command read its flags and do nothing."""
    parse = argparse.ArgumentParser.parse_known_args  # parse_args calls it

    def only_parse(parser: argparse.ArgumentParser, arguments: Sequence[str], *_: Any) -> None:
        parsed, rest = parse(parser, arguments)
        if hasattr(parsed, "config"):
            _check_train([f"--config={parsed.config}", *rest])
        elif rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        if hasattr(parsed, "pattern"):
            assert matching(parsed.pattern)
        raise _Parsed

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", only_parse):
        try:
            commands.run(words)
        except _Parsed:
            return
    raise AssertionError(f"{words} reads no flags")


def _check_requirements(words: Sequence[str]) -> None:
    """Checks files of requirements, and extras of ours; other packages may have any name."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for flag, word in zip(["", *words], words, strict=False):
        if flag == "-r":
            assert (ROOT / word).is_file(), word
        if match := re.fullmatch(r"(?:flaxzoo|\.)\[(.+)\]", word):
            assert match[1] in extras, word


def _names(flags: Sequence[str]) -> set[str]:
    return {flag.partition("=")[0] for flag in flags}


def unknown_flags(text: str) -> list[str]:
    """Returns the settings that a page names, in examples or between, and no config has."""
    known = field_names()
    named = re.findall(r"--config\.([a-z_]+(?:\.[a-z_]+)*)", text)
    return [name for name in named if name not in known and f"{name}." not in "".join(known)]


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Has the working directory be `folder`, filled with what the examples take for granted."""
    folder.mkdir(exist_ok=True)
    (folder / "configs").symlink_to(ROOT / "configs")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (48, 56, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.jpg")
    Image.fromarray(rng.integers(0, 256, (300, 260, 3), np.uint8)).save(folder / "cat.jpg")
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def write_weights(file: str, model: str, **options: Any) -> None:
    """Writes a file of weights of an untrained model, by torch's names."""
    from flaxzoo.convert import to_torch
    from flaxzoo.weight_writing import write_state_dict

    write_state_dict(file, to_torch(create_model(model, **options)))
