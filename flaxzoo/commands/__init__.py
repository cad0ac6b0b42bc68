"""The command line, `python -m flaxzoo COMMAND`: a module of this package for each command.

A module has `run(arguments)`, which gets what follows the command's name. It is imported when its
command is called, so that `--help` needs no JAX.
"""

import importlib
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from flaxzoo.errors import unknown

COMMANDS = {
    "train": "train a model; the same as train.py",
    "data": "look at a data set, or get one",
    "models": "list the models",
    "info": "tell all about a model: stages, layers, costs, paper, weights",
    "convert": "carry weights from one kind of file to another",
    "pretrained": "list published weights, or get them",
    "parity": "compare models with their PyTorch twins",
    "evaluate": "accuracy and calibration of trained models",
    "predict": "what a trained model takes images for",
    "explain": "draw what a prediction rests on",
    "export": "write a model as ONNX, StableHLO or weights, and prove the file",
    "benchmark": "time models, also against PyTorch",
    "compile": "what a training step needs on a TPU that is not there",
    "report": "compare runs: a table, differing settings, curves",
    "augmentations": "draw what each augmentation does",
}


def run(arguments: Sequence[str]) -> None:
    """Runs the command that `arguments` begin with.

    Raises:
        UserError: there is no such command, or it cannot do what it was asked for.
        SystemExit: it ends with another code than 0.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        _help()
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    importlib.import_module(f"flaxzoo.commands.{name}").run(rest)


def _help() -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print("usage: flaxzoo COMMAND ...\n", markup=False)
    console.print("Image classifiers in JAX/Flax, equal to their PyTorch twins.\n", markup=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, what in COMMANDS.items():
        table.add_row(f"  {name}", what)
    console.print(table)
    console.print("\nflaxzoo COMMAND --help tells more, with examples.", markup=False)
