"""`flaxzoo pretrained`: published weights, and getting them."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flaxzoo.arguments import one_of
from flaxzoo.commands import common
from flaxzoo.conversion import identify, match
from flaxzoo.convert import load_torch
from flaxzoo.errors import UserError
from flaxzoo.models import VARIANTS
from flaxzoo.pretrained import find, listed, named_model
from flaxzoo.sources import read_source

COLUMNS = {
    "model": ("model", ""),
    "weights": ("weights", ""),
    "top1": ("top-1 (%)", ".2f"),
    "classes": ("classes", "d"),
    "image_size": ("pixels", "d"),
    "megabytes": ("MB", ",.1f"),
    "local": ("on this machine", ""),
    "url": ("address", ""),
}


def run(arguments: Sequence[str]) -> None:
    """Lists published weights, or downloads some and loads them."""
    parser = common.parser(
        "pretrained",
        "Lists published weights, and which of them are on this machine: in the caches of torch, "
        "of the Hugging Face hub, or of flaxzoo. Sizes are those of the parameters where the file "
        "is not here. --download gets one file, verifies it and loads it.",
        [
            "",
            "'resnet*' --csv",
            "resnet50.IMAGENET1K_V1 --download",
            "timm/resnet50.a1_in1k --download --model resnet50",
        ],
    )
    parser.add_argument(
        "name", nargs="?", default="*", metavar="NAME",
        help="a model, a model and its weights with a dot between, a pattern of such, or with "
        "--download timm/REPOSITORY",
    )  # fmt: skip
    parser.add_argument("--download", action="store_true", help="get the weights and load them")
    parser.add_argument("--model", help="that is to have weights of timm/REPOSITORY")
    common.add_format(parser)
    parsed = parser.parse_args(arguments)
    if not parsed.download:
        common.write_rows(listed(parsed.name), COLUMNS, parsed)
        return
    if parsed.name == "*":
        raise UserError("--download takes the name of weights, like resnet50.IMAGENET1K_V1.")
    if parsed.model:
        one_of("model", parsed.model, VARIANTS)
    model = parsed.model or named_model(parsed.name)
    path = find(parsed.name, model)
    told = _proved(path, model)
    if parsed.json:
        json.dump(told, sys.stdout, indent=2)
        print()
    elif parsed.csv:
        common.write_rows([told], COLUMNS, parsed)
    else:
        Console(soft_wrap=True, highlight=False).print(
            f"{told['path']} is whole and fits {told['model']}: {told['arrays']} arrays, "
            f"{told['classes']} classes",
            markup=False,
        )


def _proved(path: Path, model: str) -> dict[str, object]:
    """Returns what a file holds, once it was found to be exactly the weights of its model."""
    source = read_source(path)
    fit = match(source, model) if model else identify(source)
    try:
        fit.check()
    except UserError as error:
        raise UserError(f"{path} was downloaded, but {error}") from None
    load_torch(fit.model, fit.weights, naming="own")
    return {
        "model": fit.model.variant,
        "classes": fit.model.num_classes,
        "arrays": len(source.weights),
        "path": str(path),
    }
