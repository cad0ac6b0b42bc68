"""`flaxzoo info`: all about one model."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from flaxzoo.commands import common
from flaxzoo.commands.models import compared
from flaxzoo.models import create_model, default_options, takes
from flaxzoo.models.base import Classifier
from flaxzoo.models.info import ModelInfo, Weights, count_parameters, model_info
from flaxzoo.models.summary import Part, layer_parts, stage_parts

COLUMNS = {
    "name": ("stage", ""),
    "output": ("output", ""),
    "stride": ("stride", "d"),
    "parameters": ("parameters", ",d"),
    "multiply_adds": ("multiply-adds", ",d"),
    "activation_mib": ("activations (MiB)", ".2f"),
}
LAYER_COLUMNS = {
    "name": ("layer", ""),
    "kind": ("class", ""),
    **{key: COLUMNS[key] for key in ("output", "parameters", "multiply_adds", "activation_mib")},
}


def run(arguments: Sequence[str]) -> None:
    """Prints what is known about a model, and what each of its stages or layers costs."""
    parser = common.parser(
        "info",
        "Tells all about a model. Shapes, multiply-adds and activations (what convolutions and "
        "matrix products put out, in float32) are those of one image.",
        ["resnext50_32x4d", "vit_b_16 --depth 3 --image-size 384", "resnet18 --json"],
    )
    parser.add_argument("name", help="a model; `flaxzoo models` lists them")
    parser.add_argument(
        "--image-size", type=common.positive(int), metavar="PIXELS", help="default: the published"
    )
    parser.add_argument(
        "--depth", type=common.positive(int), metavar="N",
        help="layers in place of stages, down to N names: 2 for layer1.0",
    )  # fmt: skip
    common.add_format(parser)
    parsed = parser.parse_args(arguments)
    info = model_info(parsed.name)
    size = parsed.image_size or default_size(info)
    options: dict[str, Any] = {"image_size": size} if takes(info.name, "image_size") else {}
    model = create_model(info.name, abstract=True, **options)
    stages = stage_parts(model, size, size)
    strides = {feature.name: feature.stride for feature in model.feature_info()}
    parts = layer_parts(model, size, size, parsed.depth) if parsed.depth else stages
    rows = [_row(part, strides) for part in parts]
    facts = _facts(info, model, size, stages)
    if parsed.json:
        stage_rows = [_row(part, strides) for part in stages]
        layers = {"layers": rows} if parsed.depth else {}
        json.dump({**facts, "stages": stage_rows, **layers}, sys.stdout, indent=2)
        print()
        return
    if not parsed.csv:
        _print_facts(facts, info)
    if parsed.depth:
        for row in rows:
            if not parsed.csv:
                row["name"] = "  " * row["name"].count(".") + row["name"]
    common.write_rows(rows, LAYER_COLUMNS if parsed.depth else COLUMNS, parsed)


def default_size(info: ModelInfo) -> int:
    """Returns the size of image, in pixels, that a model is published with; 32 for ten classes."""
    model = create_model(info.name, abstract=True)
    if model.image_size:
        return model.image_size[0]
    published = info.gmacs_size or (info.weights[0].image_size if info.weights else None)
    return published or max(model.min_size, 32 if model.num_classes <= 100 else 224)


def _row(part: Part, strides: dict[str, int]) -> dict[str, Any]:
    return {
        **dataclasses.asdict(part),
        "output": None if part.shape is None else "x".join(map(str, part.shape)),
        "stride": strides.get(part.name),
        "activation_mib": part.activations * 4 / 2**20,
    }


def _facts(info: ModelInfo, model: Classifier, size: int, stages: list[Part]) -> dict[str, Any]:
    return {
        "model": info.name,
        "family": info.family,
        "papers": info.papers,
        "source": info.library or "own",
        "source_name": info.library_name or None,
        "parity": [dataclasses.asdict(parity) for parity in info.parity],
        "image_size": size,
        "min_size": model.min_size,
        "fixed_size": model.image_size is not None,
        "parameters": count_parameters(model),
        "multiply_adds": sum(part.multiply_adds for part in stages),
        "activation_mib": sum(part.activations for part in stages) * 4 / 2**20,
        "published_gmacs": info.gmacs,
        "published_gmacs_size": info.gmacs_size,
        "options": {k: _plain(v) for k, v in default_options(info.name).items()},
        "weights": [dataclasses.asdict(weights) for weights in info.weights],
    }


def _plain(value: Any) -> Any:
    """Returns what JSON can hold."""
    return value if isinstance(value, int | float | str | None) else str(value)


def _print_facts(facts: dict[str, Any], info: ModelInfo) -> None:
    """Prints the facts that people look for, a line each, above the table."""
    size = facts["image_size"]
    least = facts["min_size"]
    lines = [("paper", paper) for paper in info.papers]
    if info.library:
        lines.append(("same as", f"{info.library}'s {info.library_name}"))
    lines += [
        ("found equal to", compared(info) or "not measured yet, see docs/parity.md"),
        ("parameters", f"{facts['parameters']:,}"),
        ("GMACs", f"{facts['multiply_adds'] / 1e9:.3f} at {size}x{size} pixels"),
        ("activations", f"{facts['activation_mib']:.1f} MiB an image"),
        ("images", "of the size it is made for" if facts["fixed_size"]
         else f"of {least}x{least} pixels or more"),
        ("options", ", ".join(f"{k}={v!r}" for k, v in facts["options"].items())),
    ]  # fmt: skip
    lines += [("weights", _weights_line(weights)) for weights in info.weights]
    table = Table(box=None, show_header=False, pad_edge=False)
    shown = ""
    for key, value in lines:
        table.add_row("" if key == shown else key, value)
        shown = key
    console = common.console()
    console.print(f"{info.name}\n", markup=False)
    console.print(table)
    console.print()


def _weights_line(weights: Weights) -> str:
    accuracy = (
        f"top-1 {weights.top1:.2f} %, top-5 {weights.top5:.2f} %"
        if weights.top1
        else (f"{weights.classes} classes" if weights.classes else "no head")
    )
    mean, std = (" ".join(f"{v:g}" for v in values) for values in (weights.mean, weights.std))
    return (
        f"{weights.name}: {accuracy}; {weights.image_size} pixels, cut from {weights.resize} "
        f"({weights.interpolation}), mean {mean}, std {std}; {weights.url}"
    )
