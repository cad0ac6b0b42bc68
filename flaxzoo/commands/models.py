"""`flaxzoo models`: what there is."""

from collections.abc import Sequence

from flaxzoo.commands import common
from flaxzoo.models import create_model
from flaxzoo.models.info import count_parameters, model_info

COLUMNS = {
    "model": ("model", ""),
    "parameters": ("parameters", ",d"),
    "gmacs": ("GMACs", ".2f"),
    "image_size": ("pixels", "d"),
    "top1": ("top-1 (%)", ".2f"),
    "classes": ("classes", "d"),
    "min_size": ("smallest image", "d"),
}


def run(arguments: Sequence[str]) -> None:
    """Prints a table of the variants that match a pattern."""
    parser = common.parser(
        "models", "Lists the models: published figures where there are any.",
        ["", "'resnext*'", "--json"],
    )  # fmt: skip
    parser.add_argument("pattern", nargs="?", default="*", help="shell pattern, like 'resnext*'")
    common.add_format(parser)
    parsed = parser.parse_args(arguments)
    rows = [row(name) for name in common.matching(parsed.pattern)]
    common.write_rows(rows, COLUMNS, parsed)


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
    }
