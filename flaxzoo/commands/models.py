"""`flaxzoo models`: what there is."""

import argparse
from collections.abc import Sequence

from rich.console import Console

from flaxzoo.commands import common
from flaxzoo.errors import UserError, unknown
from flaxzoo.models import FAMILIES, create_model
from flaxzoo.models.info import ModelInfo, count_parameters, model_info

COLUMNS = {
    "model": ("model", ""),
    "parameters": ("parameters", ",d"),
    "gmacs": ("GMACs", ".2f"),
    "image_size": ("pixels", "d"),
    "top1": ("top-1 (%)", ".2f"),
    "classes": ("classes", "d"),
    "min_size": ("smallest", "d"),
    "parity": ("equal to", ""),
}


def run(arguments: Sequence[str]) -> None:
    """Prints a table of the variants that match a pattern."""
    parsed = _parser().parse_args(arguments)
    families = [family.__name__.rpartition(".")[2] for family in FAMILIES]
    if parsed.family and parsed.family not in families:
        raise unknown("family", parsed.family, families)
    names = common.matching(parsed.pattern)
    with Console(stderr=True, highlight=False).status(f"looking at {len(names)} models"):
        rows = [r for name in names if _fits(r := row(name), parsed)]
    if not rows:
        raise UserError(f"no model that matches {parsed.pattern!r} is as the flags ask.")
    if parsed.sort:
        known = [r for r in rows if r[parsed.sort] is not None]
        known.sort(key=lambda r: r[parsed.sort], reverse=parsed.descending)
        rows = [*known, *(r for r in rows if r[parsed.sort] is None)]
    common.write_rows(rows, COLUMNS, parsed)


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(
        "models",
        "Lists the models: published figures where there are any, and whose models they were "
        "compared with and found equal to, outputs, gradients and training.",
        ["", "'resnext*'", "--max-params 30 --sort top1 --descending", "--source timm --json"],
    )
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, like 'resnext*'")
    parser.add_argument("--family", help="a module of flaxzoo.models, like regnet")
    parser.add_argument(
        "--source", choices=("torchvision", "timm", "own"), help="whose architecture and names"
    )
    number = common.positive(float)
    parser.add_argument("--min-params", type=number, metavar="M", help="in millions")
    parser.add_argument("--max-params", type=number, metavar="M", help="in millions")
    parser.add_argument(
        "--max-gmacs", type=number, metavar="G",
        help="published multiply-adds in 10^9; leaves out models without",
    )  # fmt: skip
    parser.add_argument("--sort", choices=tuple(COLUMNS), help="smallest first; unknown last")
    parser.add_argument("--descending", action="store_true", help="largest first")
    common.add_format(parser)
    return parser


def _fits(row: common.Row, flags: argparse.Namespace) -> bool:
    millions, gmacs = row["parameters"] / 1e6, row["gmacs"]
    return (
        (flags.family is None or row["family"] == flags.family)
        and (flags.source is None or (row["reference"] or "own") == flags.source)
        and (flags.min_params is None or millions >= flags.min_params)
        and (flags.max_params is None or millions <= flags.max_params)
        and (flags.max_gmacs is None or (gmacs is not None and gmacs <= flags.max_gmacs))
    )


def row(name: str) -> common.Row:
    """Returns what is known about variant `name`, by the keys of `COLUMNS`."""
    info, model = model_info(name), create_model(name, abstract=True)
    best = max(info.weights, key=lambda weights: weights.top1 or 0, default=None)
    return {
        "model": name,
        "family": info.family,
        "parameters": count_parameters(model),
        "gmacs": info.gmacs,
        "image_size": info.gmacs_size,
        "top1": best.top1 if best else None,
        "classes": model.num_classes,
        "min_size": model.image_size[0] if model.image_size else model.min_size,
        "reference": info.library or None,
        "parity": compared(info),
    }


def compared(info: ModelInfo) -> str | None:
    """Returns whose models a model was found equal to; None where it was compared with none."""
    return (
        ", ".join(
            ("" if parity.equal else "NOT ")
            + parity.against
            + ("" if parity.gradients else " (outputs)")
            for parity in info.parity
        )
        or None
    )
