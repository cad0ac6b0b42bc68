"""`flaxzoo evaluate`: accuracy and calibration of trained models on a data set."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from flaxzoo.cli import prepare_jax
from flaxzoo.commands import common
from flaxzoo.evaluation import BINS, SPLITS, TTA, Evaluation, evaluate_trained, load_data
from flaxzoo.models.info import count_parameters
from flaxzoo.trained import KINDS, find_trained, load_trained

COLUMNS = {
    "model": ("run or weights", ""),
    "top1": ("top-1 (%)", ".2f"),
    "top5": ("top-5 (%)", ".2f"),
    "loss": ("loss", ".4f"),
    "ece": ("ECE (%)", ".2f"),
    "images": ("images", ",d"),
    "image_size": ("pixels", "d"),
}
CLASS_COLUMNS = {
    "class": ("class", ""),
    "images": ("images", ",d"),
    "accuracy": ("accuracy (%)", ".2f"),
    "precision": ("precision (%)", ".2f"),
    "confused_with": ("most taken for", ""),
    "confused": ("times", "d"),
}
BIN_COLUMNS = {
    "confidence": ("confidence (%)", ".1f"),
    "accuracy": ("accuracy (%)", ".1f"),
    "images": ("images", ",d"),
    "low": ("above", ".3f"),
    "high": ("up to", ".3f"),
}


def run(arguments: Sequence[str]) -> None:
    """Evaluates each model in turn, and prints what it got."""
    parsed = _parser().parse_args(arguments)
    prepare_jax()
    evaluations = [_evaluate(name, parsed) for name in find_trained(parsed.models)]
    if parsed.json:
        rows = [_row(e) | _tables(e, parsed.per_class) for e in evaluations]
        common.write_rows(rows, COLUMNS, parsed)
    elif parsed.csv and parsed.per_class:
        named = [{"model": e.trained.name} | row for e in evaluations for row in _class_rows(e)]
        common.write_rows(named, CLASS_COLUMNS, parsed)
    elif parsed.csv:
        common.write_rows([e.timm_row() for e in evaluations], COLUMNS, parsed)
    else:
        _print(evaluations, parsed)


def _evaluate(name: str, parsed: argparse.Namespace) -> Evaluation:
    trained = load_trained(
        name,
        kind=parsed.weights or "",
        image_size=parsed.image_size,
        source=parsed.data or "folder",
    )
    return evaluate_trained(
        trained,
        load_data(trained, parsed.data, parsed.data_dir),
        split=parsed.split or "",
        tta=parsed.tta,
        batch_size=parsed.batch_size,
    )


def _row(evaluation: Evaluation) -> dict[str, Any]:
    trained = evaluation.trained
    return {
        "model": trained.name,
        "variant": trained.config.model.name,
        "path": str(trained.path),
        "weights": trained.kind or None,
        "split": evaluation.review.name,
        "top1": 100 * evaluation.top1,
        "top5": 100 * evaluation.top5,
        "loss": evaluation.loss,
        "ece": 100 * evaluation.ece,
        "images": evaluation.images,
        "parameters": count_parameters(trained.model),
        "image_size": trained.config.data.image_size,
    }


def _class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    def percent(share: float | None) -> float | None:
        return None if share is None else 100 * share

    return [
        {
            "class": result.name,
            "images": result.images,
            "accuracy": percent(result.accuracy),
            "precision": percent(result.precision),
            "confused_with": result.confused_with,
            "confused": result.confused,
        }
        for result in evaluation.review.class_results()
    ]


def _bin_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows = [dataclasses.asdict(one) for one in evaluation.bins]
    for row in rows:
        for key in ("confidence", "accuracy"):
            row[key] = None if row[key] is None else 100 * row[key]
    return rows


def _tables(evaluation: Evaluation, per_class: bool) -> dict[str, Any]:
    tables = {"reliability": _bin_rows(evaluation)}
    return tables | ({"classes": _class_rows(evaluation)} if per_class else {})


def _print(evaluations: Sequence[Evaluation], parsed: argparse.Namespace) -> None:
    console = Console(soft_wrap=True, highlight=False)
    common.write_rows([_row(e) for e in evaluations], COLUMNS, parsed)
    for evaluation in evaluations:
        trained, of = evaluation.trained, evaluation.review
        kind = {"ema": ", averaged weights", "raw": "", "": ""}[trained.kind]
        mirrored = ", with mirror images" if parsed.tta == "flip" else ""
        console.print(f"\n{trained.path}{kind}: {of.name} split{mirrored}", markup=False)
        if parsed.reliability:
            common.write_rows(
                [r for r in _bin_rows(evaluation) if r["images"]], BIN_COLUMNS, parsed
            )
        if parsed.per_class:
            common.write_rows(_class_rows(evaluation), CLASS_COLUMNS, parsed)


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(
        "evaluate",
        "Judges models on every image of a split: accuracy, mean cross-entropy, and the expected "
        f"calibration error (ECE, {BINS} bins, Guo et al. 2017). Images are prepared as in the "
        "run, or as the publisher of the weights does. A run's data must have its classes, in "
        "their order.",
        [
            "runs/resnext --per-class",
            "runs/a/checkpoints --split validation",
            "runs --csv",
            "resnet50 vit_b_16.IMAGENET1K_V1 --data imagenet2012 --tta flip",
            "seresnet50=weights.safetensors --data folder=PATH --reliability",
        ],
    )  # fmt: skip
    parser.add_argument(
        "models", nargs="+", metavar="RUN_OR_WEIGHTS",
        help="a run (its best checkpoint by validation), RUN/checkpoints (all of them), one of "
        "them, a folder of save_pretrained, a folder of any of these or of files, a file of "
        "weights (MODEL=FILE to say whose they are), or the name of published weights, like "
        "resnet50 or timm/resnet50.a1_in1k",
    )  # fmt: skip
    parser.add_argument(
        "--data", default="", metavar="SPEC",
        help="as in configs: digits, folder=PATH, ...; default: that of the run",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", default="", metavar="DIR", help="where archives and prepared sets lie"
    )
    parser.add_argument(
        "--split", choices=SPLITS, help="default: the first of these that the data has"
    )
    parser.add_argument(
        "--tta", choices=TTA, default="none",
        help="flip: the mean of the probabilities of each image and of its mirror image",
    )  # fmt: skip
    parser.add_argument(
        "--weights", choices=KINDS,
        help="of a checkpoint, the trained ones or their average; default: the average where the "
        "run kept one, as in its summary",
    )  # fmt: skip
    common.add_images(parser)
    parser.add_argument("--per-class", action="store_true", help="a line for each class")
    parser.add_argument(
        "--reliability", action="store_true",
        help="how often the model is right when it is so sure (always in --json)",
    )  # fmt: skip
    common.add_format(parser)
    return parser
