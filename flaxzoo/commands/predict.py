"""`flaxzoo predict`: what a trained model takes images for."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flaxzoo.cli import prepare_jax
from flaxzoo.commands import common
from flaxzoo.errors import UserError
from flaxzoo.picture import check_ending, write
from flaxzoo.predict import SHEET, Prediction, draw_sheet, find_images, predict_files
from flaxzoo.trained import load_trained, read_class_names

NAMED = 5  # unreadable images in a message


def run(arguments: Sequence[str]) -> None:
    """Prints the likeliest classes of each image."""
    parsed = _parser().parse_args(arguments)
    if parsed.sheet:
        check_ending(parsed.sheet)
    paths = find_images(parsed.images)
    prepare_jax()
    trained = load_trained(parsed.model, kind=parsed.weights or "", image_size=parsed.image_size)
    if parsed.classes:
        names = read_class_names(Path(parsed.classes), trained.model.num_classes)
        trained = dataclasses.replace(trained, classes=names)
    predictions, refused = predict_files(
        trained, paths, top=parsed.top, batch_size=parsed.batch_size
    )
    if parsed.json or parsed.csv:
        rows = [row for prediction in predictions for row in _rows(prediction)]
        common.write_rows(rows, dict.fromkeys(FIELDS, ("", "")), parsed)
    else:
        columns = {"image": ("image", "")} | {
            str(k): (f"{k}", "") for k in range(1, min(parsed.top, trained.model.num_classes) + 1)
        }
        common.write_rows([_line(prediction) for prediction in predictions], columns, parsed)
    if parsed.sheet and predictions:
        write(draw_sheet(predictions), Path(parsed.sheet))
        left_out = f", the first {SHEET} images" if len(predictions) > SHEET else ""
        Console(soft_wrap=True, stderr=True).print(f"wrote {parsed.sheet}{left_out}")
    if refused:
        told = "; ".join(map(str, refused[:NAMED]))
        more = f"; and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
        raise UserError(f"{len(refused)} of {len(paths)} images: {told}{more}")


FIELDS = ("image", "rank", "index", "class", "probability")


def _rows(prediction: Prediction) -> list[common.Row]:
    found = zip(prediction.indices, prediction.classes, prediction.probabilities, strict=True)
    return [
        dict(zip(FIELDS, (str(prediction.path), rank, *one), strict=True))
        for rank, one in enumerate(found, 1)
    ]


def _line(prediction: Prediction) -> common.Row:
    found = zip(prediction.classes, prediction.probabilities, strict=True)
    return {"image": str(prediction.path)} | {
        str(rank): f"{name} {p:.1%}" for rank, (name, p) in enumerate(found, 1)
    }


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(
        "predict",
        "Prints the likeliest classes of images, prepared as the model was evaluated. Images that "
        "cannot be read are named at the end, after the predictions of the others, with exit "
        "code 2.",
        [
            "cat.jpg photos/ --model runs/pets",
            "'photos/**/*.png' --model resnet50 --classes imagenet.json --sheet sheet.png",
            "photos --model resnet18=weights.pth --top 1 --csv",
        ],
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, 'patterns'")
    common.add_model(parser)
    parser.add_argument("--top", type=common.positive(int), default=5, metavar="K")
    parser.add_argument("--sheet", metavar="FILE.png", help="draw the images with what they are")
    common.add_images(parser)
    common.add_format(parser)
    return parser
