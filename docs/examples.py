"""The examples of the documentation, run: CONTRIBUTING.md says how.

Used by tests/test_docs.py and parity_tests/test_torch_docs.py.
"""

import argparse
import contextlib
import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from docs import others, stand_ins
from docs.stand_ins import ROOT
from flaxzoo import cli, commands
from flaxzoo.check_config import field_names
from flaxzoo.commands.common import matching
from flaxzoo.config import Config
from flaxzoo.models import VARIANTS
from flaxzoo.training import distributed

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TORCH = "<!-- torch -->\n"  # begins a page whose every example needs torch
TORCH_COMMANDS = re.compile(r"flaxzoo parity|make parity|--against|--format (onnx|torch)")
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)

# How commands are cut short: flags that go before those of a training and of a benchmark of ours,
# and that those of other commands go before.
SHORT = {
    "train": (
        "--config.duration=2 steps",
        "--config.schedule.warmup=1 steps",
        "--config.batch_size=8",
        "--config.data.workers=0",
    ),
    "benchmark": ("--batch-size=2", f"--image-size={stand_ins.IMAGE_SIZE}", "--rounds=1"),
    "evaluate": (f"--image-size={stand_ins.IMAGE_SIZE}",),
    "export": (f"--image-size={stand_ins.IMAGE_SIZE}",),
    "parity": ("--image-size=32",),
    "benchmarks.fuzz_readers": ("--minutes=0.001",),
    "benchmarks.kill_and_resume": (
        "--trials=1",
        "--duration=12 steps",
        "--out=kill_and_resume.json",
    ),
    "benchmarks.kill_saves": ("--trials=4", "--out=kill_saves.json"),  # one of each kind
    "pip": ("--quiet",),
    "pytest": ("tests/test_reliability.py",),
    "make train": ("ARGS=--config.duration='2 steps' --config.schedule.warmup='1 steps'",),
    "make test": ("ARGS=tests/test_reliability.py --numprocesses=0",),
    "make lint": ("--old-file=docs",),  # which `make docs` builds
}
SMALL = (f"--config.data.image_size={stand_ins.IMAGE_SIZE}", "--config.data.train_sizes=()")
# What else of a command is changed: absolute paths, other hosts, what takes long. {port} is a free
# one.
INSTEAD = {
    "'<this' 'repository>'": ". clones/flaxzoo",
    "cd flaxzoo": "cd clones/flaxzoo",
    ".venv/bin/": "",
    "/shared/run": "shared/run",
    "--data_dir /data": "--data_dir archives",
    "--coordinator=10.0.0.1:6000 --num_processes=2": "--coordinator=localhost:{port} "
    "--num_processes=1",
    "--train-steps 200": "--train-steps 11",  # more than 10: losses are compared
    "--against torchvision": "--against torchvision --image-size=64",  # the least that it takes
    "parity 'resnet*'": "parity 'resnet_t*'",
}


@dataclass(frozen=True)
class Example:
    """A block of code.

    Attributes:
        language: "python" or "sh".
        line: of the page, on which the code begins, from 1.
    """

    language: str
    code: str
    line: int


def pages(torch: bool) -> list[Path]:
    """Returns the pages that have examples which need torch, or those which have others."""
    return [path for path in PAGES if any(_parts(path.read_text("utf-8"), torch))]


def examples(text: str) -> list[Example]:
    """Returns the examples of a page, in order; what is of language "text" is none."""
    return [
        Example(
            language=match["language"],
            code=match["code"],
            line=text.count("\n", 0, match.start("code")) + 1,
        )
        for match in BLOCK.finditer(text)
        if match["language"] != "text"
    ]


def _parts(text: str, torch: bool) -> Iterator[tuple[Example, list[str]]]:
    """Yields the examples that need torch, or the others, and commands one by one; else []."""
    for example in examples(text):
        if example.language == "python":
            if text.startswith(TORCH) == torch:
                yield example, []
            continue
        assert example.language == "sh", f"line {example.line} is neither python, sh nor text"
        for words in command_lines(example.code):
            needed = text.startswith(TORCH) or TORCH_COMMANDS.search(shlex.join(words))
            if bool(needed) == torch:
                yield example, words


def run_page(path: Path, torch: bool, names: Mapping[str, Any] = {}) -> None:
    """Runs the examples of a page in the working directory.

    Blocks of Python are one program. A command that stands there twice runs once.

    Args:
        torch: those that need torch, or the others.
        names: what the program takes for granted.

    Raises:
        AssertionError: an example that nobody knows how to check.
        Exception: whatever is wrong with one.
    """
    text, namespace = path.read_text("utf-8"), {"__name__": "__main__", **names}
    folder, parts, ran = Path.cwd(), list(_parts(text, torch)), []
    if any(others.runs(words) for _, words in parts):
        others.write_project(folder)
    stand_ins.write_named(text, folder)
    for previous, (example, words) in zip([None, *parts], parts, strict=False):
        if previous and previous[0] is not example:
            os.chdir(folder)  # each block is a terminal of its own
        if words:
            if words not in ran:
                run(words, folder)
            ran.append(words)
            continue
        # On the lines of the page, for tracebacks.
        program = compile("\n" * (example.line - 1) + example.code, str(path), "exec")
        exec(program, namespace)


def command_lines(code: str) -> Iterator[list[str]]:
    """Yields the commands of a block as words, without comments."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line.strip().removeprefix("!"), comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield words[:end]
            words = words[end + 1 :]


def run(words: Sequence[str], folder: Path) -> None:
    """Runs a command, cut short.

    Args:
        folder: where `others.write_project` has written what programs of others need.
    """
    check(words)
    words = _smaller(words)
    command = _command(words)
    if words[0] == "cd":
        os.chdir(words[1])
    elif others.runs(words):
        short = SHORT.get(words[0], SHORT.get(" ".join(words[:2]), ()))
        others.run([*words, *short], folder)
    elif command is None:
        _start(words[2], *words[3:], *SHORT[words[2]])
    elif command[0] == "train":
        _train(command[1:])
    else:
        commands.run([command[0], *SHORT.get(command[0], ()), *command[1:]])


def _smaller(words: Sequence[str]) -> list[str]:
    line = shlex.join(words)
    for large, small in INSTEAD.items():
        line = line.replace(large, small)
    return shlex.split(line.replace("{port}", str(stand_ins.free_port())))


def _train(flags: Sequence[str]) -> None:
    """Trains for two steps; as one of several processes, in a process of its own."""
    small = () if _check_train(flags).data.source == "digits" else SMALL
    workdir = f"--workdir=runs/{sum(1 for _ in Path.cwd().glob('runs/*'))}"  # theirs goes before
    flags = [workdir, *flags, *SHORT["train"], *small]
    if any(flag.startswith("--coordinator") for flag in flags):
        _start(stand_ins.__name__, *flags)
    else:
        cli.train_command(flags)


def _start(module: str, *arguments: str) -> None:
    environ = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-m", module, *arguments], env=environ, check=True)


def check(words: Sequence[str]) -> None:
    """Checks a command of ours without running it: flags, settings, models, names of modules."""
    if command := _command(words):
        _check_train(command[1:]) if command[0] == "train" else _check_command(command)
    elif words[:2] == ["python", "-m"]:
        _check_module(words[2], words[3:])
    else:
        assert words[0] == "cd" or others.runs(words), f"who knows {words}?"


def _command(words: Sequence[str]) -> list[str] | None:
    """Returns the command of flaxzoo with its arguments, or None where it is something else."""
    rest = list(words[1:] if words[0] == "srun" else words)
    if rest[:2] == ["python", "train.py"]:
        return ["train", *rest[2:]]
    if rest[:3] == ["python", "-m", "flaxzoo"]:
        return rest[3:]
    return rest[1:] if rest[0] == "flaxzoo" else None


def _check_train(flags: Sequence[str]) -> Config:
    processes, flags = distributed.parse_flags(flags, environ={})
    config, _ = cli.parse_train_flags(flags, several_processes=processes is not None)
    assert config.model.name in VARIANTS, config.model.name
    return config


class _Parsed(Exception): ...


def _check_command(words: Sequence[str]) -> None:
    _only_parsed(lambda: commands.run(words))


def _check_module(name: str, flags: Sequence[str]) -> None:
    assert importlib.util.find_spec(name), name
    with mock.patch.object(sys, "argv", [name, *flags]):
        _only_parsed(importlib.import_module(name).main)


def _only_parsed(call: Callable[[], Any]) -> None:
    """Has a command read its flags and do nothing."""
    parse = argparse.ArgumentParser.parse_known_args  # parse_args calls it

    def only_parse(parser: argparse.ArgumentParser, arguments: Any = None, *_: Any) -> None:
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
            call()
        except _Parsed:
            return
    raise AssertionError("it reads no flags")


def unknown_flags(text: str) -> list[str]:
    """Returns the settings that a page names, in examples or between, and no config has."""
    known = field_names()
    named = re.findall(r"--config\.([a-z_]+(?:\.[a-z_]+)*)", text)
    return [name for name in named if name not in known and f"{name}." not in "".join(known)]


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """Has the working directory be `folder`, with the configs and some photographs in it."""
    folder.mkdir(exist_ok=True)
    (folder / "configs").symlink_to(ROOT / "configs")
    stand_ins.write_photographs(folder)
    with contextlib.chdir(folder):
        yield
