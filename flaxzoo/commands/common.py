"""What commands share: parsers with examples, output for people and for programs."""

import argparse
import csv
import itertools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from flaxzoo.errors import UserError, unknown

Row = Mapping[str, Any]
_LARGEST = 2**31 - 1  # of what flags count


class Parser(argparse.ArgumentParser):
    """A parser that answers a slip with UserError, and a misspelt flag with the nearest ones."""

    def parse_args(self, args: Sequence[str], namespace: Any = None) -> Any:
        """Returns the parsed arguments.

        Raises:
            UserError: a flag is not known, has no value or a wrong one; something is missing.
        """
        self.check_flags(args)
        return super().parse_args(args, namespace)

    def check_flags(self, arguments: Sequence[str], but: str = "") -> None:
        """Refuses flags that are not known, unless they begin with `but`.

        argparse itself would first tell what is missing: the flag that was meant.
        """
        for argument in itertools.takewhile("--".__ne__, arguments):
            flag = argument.partition("=")[0]
            known = self._option_string_actions
            if flag.startswith("--") and flag not in known and not (but and flag.startswith(but)):
                listed = [name for name in known if name.startswith("--")]
                raise unknown(f"flag of {self.prog}", flag, listed)

    def error(self, message: str) -> NoReturn:
        """Raises UserError in place of printing how the command is used."""
        raise UserError(f"{self.prog}: {message}; {self.prog} --help tells more.")


def parser(name: str, description: str, examples: Sequence[str]) -> Parser:
    """Returns the parser of command `name`, whose help ends with `examples`."""
    lines = "\n".join(f"  flaxzoo {name} {example}".rstrip() for example in examples)
    return Parser(
        prog=f"flaxzoo {name}",
        description=description,
        epilog=f"examples:\n{lines}",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wraps the description and leaves the examples, a line each, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        kind = argparse.RawDescriptionHelpFormatter if "\n" in text else argparse.HelpFormatter
        return kind._fill_text(self, text, width, indent)


def add_format(parser: argparse.ArgumentParser) -> None:
    """Adds --json and --csv, which `write_rows` follows."""
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print JSON for programs")
    formats.add_argument("--csv", action="store_true", help="print CSV for programs")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say which trained model: --model, --weights and --classes."""
    parser.add_argument(
        "--model", required=True, metavar="RUN_OR_WEIGHTS",
        help="a run (its best checkpoint by validation), one of its checkpoints/STEP, a folder of "
        "save_pretrained, a file of weights (MODEL=FILE to say whose they are), or the name "
        "of published weights, like resnet50 or timm/resnet50.a1_in1k",
    )  # fmt: skip
    parser.add_argument(
        "--weights", choices=("raw", "ema"),
        help="of a checkpoint, the trained ones or their average; default: the average where the "
        "run kept one",
    )  # fmt: skip
    parser.add_argument(
        "--classes", metavar="FILE",
        help="names of the classes: a JSON list, or one a line; default: those of the run, or "
        "numbers from 0",
    )  # fmt: skip


def add_images(parser: argparse.ArgumentParser) -> None:
    """Adds --image-size and --batch-size."""
    parser.add_argument(
        "--image-size", type=positive(int), default=0, metavar="PIXELS",
        help="default: that of the run or of the published weights",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=positive(int), default=64, metavar="N")


def write_page(path: Path, page: str, console: Console) -> None:
    """Writes a page of HTML, whole or not at all, and says so.

    Raises:
        UserError: it cannot be written.
    """
    from flaxzoo.weight_writing import written

    with written(path) as part:
        # A file's name need not be UTF-8.
        part.write_text(page, encoding="utf-8", errors="backslashreplace")
    console.print(f"wrote {path}", markup=False)


def write_rows(
    rows: Sequence[Row], columns: Mapping[str, tuple[str, str]], arguments: argparse.Namespace
) -> None:
    """Prints `rows`: as a table, or all that they hold as JSON or CSV.

    Args:
        rows: with equal keys. None is a value that is not known.
        columns: of the table: a row's key, the title, and how a value is formatted (".2f");
            text, which has no format, stands left.
        arguments: parsed, with the flags of `add_format`.
    """
    if arguments.json:
        json.dump(list(rows), sys.stdout, indent=2)
        print()
    elif arguments.csv:
        writer = csv.DictWriter(sys.stdout, rows[0] if rows else columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        table = Table(box=None)
        for i, (title, how) in enumerate(columns.values()):
            table.add_column(
                title,
                justify="right" if how else "left",
                no_wrap=i == 0,
                overflow="ellipsis" if i == 0 else "fold",  # paths differ in their ends
            )
        for row in rows:
            cells = [(row[key], how) for key, (_, how) in columns.items()]
            table.add_row(*("" if value is None else format(value, how) for value, how in cells))
        console().print(table)


def console() -> Console:
    """Returns where tables are printed: as wide as the terminal, or 100 where there is none."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=100 if piped else None, highlight=False)


def matching(pattern: str) -> list[str]:
    """Returns the variants that match a shell pattern.

    Raises:
        UserError: there is none.
    """
    from flaxzoo.models import VARIANTS, list_models

    names = list_models(pattern)
    if not names:
        raise unknown("model", pattern, VARIANTS)
    return names


def positive(what: type[int] | type[float]) -> Callable[[str], Any]:
    """Returns what reads a flag that takes a positive number, for `add_argument(type=...)`."""

    def read(text: str) -> Any:
        value = what(text)
        if not 0 < value <= _LARGEST:
            limit = f", and at most {_LARGEST}" if value > 0 else ""
            raise argparse.ArgumentTypeError(f"must be positive{limit}; got {text}")
        return value

    read.__name__ = "number"
    return read
