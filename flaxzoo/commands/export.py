"""`flaxzoo export`: models as files for other programs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flaxzoo.arguments import check_output
from flaxzoo.cli import prepare_jax
from flaxzoo.commands import common
from flaxzoo.errors import UserError
from flaxzoo.export import FORMATS, export, source_of
from flaxzoo.models import VARIANTS
from flaxzoo.trained import load_trained


def run(arguments: Sequence[str]) -> None:
    """Writes a file that was proved, and a description beside it."""
    parsed = _parser().parse_args(arguments)
    check_output(str(parsed.out))
    prepare_jax()
    trained = load_trained(_reference(parsed.model, parsed.weights), image_size=parsed.image_size)
    batch = None if parsed.batch == "dynamic" else parsed.batch
    done = export(source_of(trained), parsed.out, parsed.format, batch=batch)
    row = {
        "model": trained.config.model.name,
        "format": parsed.format,
        "file": str(done.path),
        "description": str(done.description),
        "mb": done.size / 1e6,
        "checked_by": done.checked_by,
        "error": done.error,
    }
    if parsed.json or parsed.csv:
        common.write_rows([row], {}, parsed)
        return
    Console(soft_wrap=True, highlight=False).print(
        f"wrote {done.path} ({row['mb']:.1f} MB) and {done.description}\n"
        f"its logits in {done.checked_by} differ from flaxzoo's by {done.error:.1e} of the largest",
        markup=False,
    )


def _reference(model: str, weights: str | None) -> str:
    """Returns what `load_trained` takes for these flags."""
    if weights is None:
        return model
    if model not in VARIANTS:
        raise UserError(
            f"--weights goes with the name of a model, like resnet50; got {model}, which brings "
            "its own."
        )
    return f"{model}={weights}"


def _batch(text: str) -> int | str:
    return text if text == "dynamic" else common.positive(int)(text)


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(
        "export",
        "Writes a trained model to a file, opens it again with the library that will use it, and "
        "compares its logits with the model's. Only a file that passes is kept. FILE.json beside "
        "it holds the classes, and how images are prepared.",
        [
            "runs/pets --format onnx --out pets.onnx",
            "resnet50 --weights resnet50-11ad3fa6.pth --format onnx --out r50.onnx --batch 8",
            "resnet50.IMAGENET1K_V1 --format stablehlo --out r50.stablehlo",
            "runs/pets --format safetensors --out pets.safetensors",
        ],
    )
    parser.add_argument(
        "model", metavar="RUN_OR_NAME",
        help="a run (its best checkpoint by validation), one of its checkpoints/STEP, published "
        "weights, or with --weights a model",
    )  # fmt: skip
    parser.add_argument("--weights", metavar="FILE", help="of the model that is named")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", metavar="FILE", type=Path, required=True)
    parser.add_argument(
        "--image-size", type=common.positive(int), default=0, metavar="PIXELS",
        help="default: that of the run or of the published weights",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=_batch, default="dynamic", metavar="N",
        help="the only number of images that it takes; default: dynamic, any",
    )  # fmt: skip
    common.add_format(parser)
    return parser
