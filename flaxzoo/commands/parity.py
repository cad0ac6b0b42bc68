"""`flaxzoo parity`: models against their PyTorch twins."""

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jax
from rich.console import Console
from rich.status import Status

from flaxzoo.arguments import check_output
from flaxzoo.cli import prepare_jax
from flaxzoo.commands import common
from flaxzoo.errors import UserError
from flaxzoo.parity import CALIBRATED_STEPS, KINDS, LIBRARIES, Report, compare
from flaxzoo.parity.blocks import TITLES, blocks, explain
from flaxzoo.parity.curves import plot_losses
from flaxzoo.parity.page import parity_page

COLUMNS = {
    "block": ("block", ""),
    "shape": ("shape", ""),
    "forward": ("features", ".1e"),
    "gradient": ("gradients", ".1e"),
    "training": ("after training", ".1e"),
    "result": ("", ""),
}


def run(arguments: Sequence[str]) -> None:
    """Compares models with their twins; exits with 1 if one differs."""
    parsed = _parser().parse_args(arguments)
    _check(parsed)
    names = common.matching(parsed.pattern)
    by_block = parsed.stages or len(names) == 1
    _prepare(parsed)
    for_people = not (parsed.json or parsed.csv)
    told = Console(soft_wrap=True, highlight=False, stderr=not for_people)
    reports, rows = [], []
    if for_people and not by_block:
        titles = "".join(f"{kind:>12}" for kind in _kinds(parsed))
        told.print(f"{'model':24}{'dtype':10}{titles}   result")
    for report, seconds in _compared(names, parsed):
        reports.append(report)
        if not for_people:
            rows += _block_rows(report) if by_block else [_row(report)]
        elif by_block:
            _print_blocks(report, seconds, told, parsed)
        else:
            _print_line(report, seconds, told, _kinds(parsed))
    if not for_people:
        common.write_rows(rows, {}, parsed)
    if parsed.plot:
        plot_losses({r.model: r.losses for r in reports if r.losses}, parsed.plot)
    if parsed.html:
        common.write_page(Path(parsed.html), parity_page(reports), told)
    if not all(report.equal for report in reports):
        raise SystemExit(1)


def _prepare(flags: argparse.Namespace) -> None:
    prepare_jax()
    jax.config.update("jax_enable_x64", True)
    # Where each program runs a few times on small images, compiling it well takes most of the time.
    jax.config.update("jax_disable_most_optimizations", not _compares_losses(flags))


def _compared(names: Iterable[str], flags: argparse.Namespace) -> Iterator[tuple[Report, float]]:
    """Yields each report, and how many seconds it took."""
    for name in names:
        for dtype in flags.dtypes or ("float64", "float32"):
            started = time.monotonic()
            with Status(f"comparing {name} in {dtype}", console=Console(stderr=True)):
                report = compare(
                    name,
                    against=flags.against,
                    dtype=dtype,
                    image_size=flags.image_size,
                    batch_size=flags.batch_size,
                    train_steps=flags.train_steps,
                    weights=flags.weights,
                )
            yield report, time.monotonic() - started


def _check(flags: argparse.Namespace) -> None:
    """Fills in the number of steps, and raises UserError where flags do not go together."""
    if flags.train_steps is None:
        flags.train_steps = 1 if flags.gradients else 3
    elif flags.gradients:
        flags.train_steps = max(1, flags.train_steps)
    for target in filter(None, (flags.plot, flags.html)):
        check_output(target)
    if flags.plot and not _compares_losses(flags):
        raise UserError(
            f"--plot draws losses, which are compared in float64 with --train-steps of more than "
            f"{CALIBRATED_STEPS}; got {flags.train_steps}"
            f"{' in float32' if flags.dtypes == ('float32',) else ''}."
        )


def _compares_losses(flags: argparse.Namespace) -> bool:
    return flags.dtypes != ("float32",) and flags.train_steps > CALIBRATED_STEPS


def _kinds(flags: argparse.Namespace) -> tuple[str, ...]:
    return KINDS if _compares_losses(flags) else KINDS[:-1]


def _row(report: Report) -> common.Row:
    """Returns a comparison in figures, None for those that it does not have."""
    compared = {d.kind for d in report.differences}
    return {
        **_about(report),
        "image_size": "x".join(map(str, report.image_size)),
        **{kind: report.worst(kind) if kind in compared else None for kind in KINDS},
        "equal": report.equal,
        "finding": explain(report),
    }


def _block_rows(report: Report) -> list[common.Row]:
    return [{**_about(report), **block.row()} for block in blocks(report)]


def _about(report: Report) -> dict[str, str]:
    return {"model": report.model, "against": report.against, "dtype": report.dtype}


def _print_line(report: Report, seconds: float, told: Console, kinds: Iterable[str]) -> None:
    row = _row(report)
    errors = "".join(f"{'':12}" if row[kind] is None else f"{row[kind]:>12.1e}" for kind in kinds)
    result = "equal" if report.equal else "DIFFERENT"
    told.print(f"{report.model:24}{report.dtype:10}{errors}   {result}  ({seconds:.0f} s)")
    if not report.equal:
        told.print(f"    {explain(report)}", markup=False)
    _print_more(report, told)


def _print_blocks(report: Report, seconds: float, told: Console, flags: argparse.Namespace) -> None:
    height, width = report.image_size
    told.print(
        f"[bold]{report.model}[/] and {report.against}'s, {report.dtype}, "
        f"{height}x{width} pixels, {report.weights or 'calibrated weights'}: relative errors"
    )
    rows = [
        {**block.row(), "result": f"[{'green' if block.equal else 'red'}]{block.result}[/]"}
        for block in blocks(report)
    ]
    shown = {key: how for key, how in COLUMNS.items() if any(row.get(key) for row in rows)}
    common.write_rows(rows, shown, flags)
    allowed = {d.kind: f"{TITLES.get(d.kind, d.kind)} {d.allowed:.0e}" for d in report.differences}
    told.print(f"allowed: {', '.join(allowed.values())}", markup=False)
    told.print(explain(report), style="green" if report.equal else "red", markup=False, end="")
    told.print(f" ({seconds:.0f} s)")
    _print_more(report, told)
    told.print()


def _print_more(report: Report, told: Console) -> None:
    if report.rounding:
        figures = ", ".join(f"{kind} {error:.1e}" for kind, error in report.rounding.items())
        told.print(f"    compared with float64; torch's own float32 is off: {figures}")
    if report.losses:
        told.print(f"    {report.losses}")


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(
        "parity",
        "Gives both twins the same calibrated weights and compares features, logits, gradients, "
        "running statistics and parameters after SGD steps: block by block for a model, a line "
        "each for several. Exit code 1 if they differ.",
        [
            "resnext50_32x4d --image-size 224",
            "resnet50 --weights resnet50-11ad3fa6.pth --against torchvision --float64",
            "'resnet*' --gradients --csv",
            "resnet18 --float64 --train-steps 200 --html resnet18.html",
        ],
    )
    parser.add_argument("pattern", help="a model, or a shell pattern, like 'resnet*'")
    parser.add_argument(
        "--against", choices=LIBRARIES, default="torch_ref", help="whose model is the twin"
    )
    parser.add_argument(
        "--weights", metavar="FILE",
        help="compare with these instead of calibrated ones: a file, a run, or the name of "
        "published weights. Weights near their initial values hide mistakes",
    )  # fmt: skip
    dtype = parser.add_mutually_exclusive_group()
    for name, what in (("float64", "where any mistake shows"), ("float32", "rounding included")):
        dtype.add_argument(
            f"--{name}", dest="dtypes", action="store_const", const=(name,),
            help=f"compare in {name} alone, {what}; default: both",
        )  # fmt: skip
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="default: 64 or the model's least"
    )
    parser.add_argument("--batch-size", type=int, help="default: 2; 16 where losses are compared")
    parser.add_argument(
        "--gradients", action="store_true",
        help="compare gradients, and what one step makes of them, unless --train-steps asks for "
        "more",
    )  # fmt: skip
    parser.add_argument(
        "--train-steps", type=int, metavar="N",
        help="default: 3; 0: forward only; more than 10: compare, in float64, the losses of N "
        "steps on the bundled digits from equal initial values",
    )  # fmt: skip
    parser.add_argument("--stages", action="store_true", help="block by block for several models")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the losses of both twins")
    parser.add_argument("--html", metavar="FILE", help="write a page with tables and plots")
    common.add_format(parser)
    return parser
