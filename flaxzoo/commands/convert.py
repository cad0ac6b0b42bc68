"""`flaxzoo convert`: weights from any kind of file to any other."""

import dataclasses
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flaxzoo.commands import common
from flaxzoo.conversion import Fit, identify, is_folder, match, write
from flaxzoo.sources import read_source
from flaxzoo.weight_writing import check_suffix

COLUMNS = {
    "key": ("key", ""),
    "name": ("in the model", ""),
    "status": ("what became of it", ""),
    "shape": ("shape", ""),
    "dtype": ("type", ""),
}


def run(arguments: Sequence[str]) -> None:
    """Converts a file of weights, and tells what became of each array."""
    parser = common.parser(
        "convert",
        "Writes weights to another kind of file, with the names that the PyTorch twin has today. "
        "Which model they are of is found from their names and shapes. Values and types stay as "
        "they are. No torch is needed.",
        [
            "resnet50-11ad3fa6.pth resnet50.safetensors",
            "runs/flowers flowers.pth",
            "runs/flowers/checkpoints/1200 flowers/",
            "timm.safetensors weights.npz --model mobilenet_v3_large --verbose",
        ],
    )
    parser.add_argument(
        "input", metavar="IN",
        help="a file of torch, .safetensors, .npz, a run, its checkpoint, or a saved model",
    )  # fmt: skip
    parser.add_argument(
        "output", metavar="OUT",
        help=".pth, .pt, .safetensors, .npz, or FOLDER/ for flaxzoo.from_pretrained",
    )  # fmt: skip
    parser.add_argument("--model", metavar="NAME", help="where names and shapes do not tell")
    parser.add_argument(
        "--image-size", type=common.positive(int), metavar="PIXELS",
        help="of models made for one size of image, where it is neither theirs nor published",
    )  # fmt: skip
    parser.add_argument("--verbose", action="store_true", help="a table of every key")
    common.add_format(parser)
    parsed = parser.parse_args(arguments)
    if not is_folder(parsed.output):
        check_suffix(Path(parsed.output))
    source = read_source(Path(parsed.input).expanduser(), "IN", parsed.model or "")
    if parsed.model:
        fit = match(source, parsed.model, parsed.image_size)
    else:
        fit = identify(source, parsed.image_size)
    _report(fit, parsed)
    fit.check()
    write(fit, parsed.output)
    if not (parsed.json or parsed.csv):
        Console(soft_wrap=True, highlight=False).print(f"wrote {parsed.output}", markup=False)


def _report(fit: Fit, parsed: Namespace) -> None:
    rows = [dataclasses.asdict(key) for key in fit.keys]
    model = fit.model
    if parsed.json:
        content = {
            "input": fit.source.path,
            "output": parsed.output,
            "model": model.variant,
            "num_classes": model.num_classes,
            "in_channels": model.in_channels,
            "options": dict(model.variant_options),
            "naming": fit.naming,
            "counts": fit.counts,
            "notes": fit.notes,
            "keys": rows,
        }
        json.dump(content, sys.stdout, indent=2)
        print()
        return
    if parsed.verbose or parsed.csv:
        for row in rows:
            row["shape"] = "x".join(map(str, row["shape"]))
            expected = row.pop("expected")
            if expected is not None:
                row["shape"] += f", not {'x'.join(map(str, expected))}"
        common.write_rows(rows, COLUMNS, parsed)
    if not parsed.csv:
        console = Console(soft_wrap=True, highlight=False)
        names = "timm's names" if fit.naming == "timm" else "its own names"
        counts = ", ".join(f"{count} {status}" for status, count in fit.counts.items())
        console.print(
            f"{model.variant} of {model.num_classes} classes and {model.in_channels} channels, "
            f"{names}: {counts}",
            markup=False,
        )
        for note in fit.notes:
            console.print(note, markup=False)
