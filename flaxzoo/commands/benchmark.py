"""`flaxzoo benchmark`: images per second, of flaxzoo and of PyTorch."""

import argparse
from collections.abc import Sequence

from rich.console import Console

from flaxzoo.cli import prepare_jax
from flaxzoo.commands import common
from flaxzoo.models.info import model_info
from flaxzoo.speed import MODES, Runner, default_size, flaxzoo_runner, take_turns

COLUMNS = {
    "model": ("model", ""),
    "framework": ("framework", ""),
    "mode": ("mode", ""),
    "images_per_second": ("images/s", ",.1f"),
    "step_time": ("ms/batch", ",.1f"),
    "fastest": ("fastest", ",.1f"),
    "slowest": ("slowest", ",.1f"),
    "relative": ("relative", ".2f"),
    "compile_seconds": ("first batch (s)", ".1f"),
    "peak_mib": ("MiB", ",.0f"),
}


def run(arguments: Sequence[str]) -> None:
    """Times models, a line each for every framework and mode."""
    parsed = _parser().parse_args(arguments)
    prepare_jax()
    rows, names = [], common.matching(parsed.pattern)
    console = Console(stderr=True, highlight=False)
    for name in names:
        for mode in MODES if parsed.mode == "both" else (parsed.mode,):
            with console.status(f"{name}, {mode}"):
                rows += _rows(name, mode, parsed)
    common.write_rows(rows, COLUMNS, parsed)


def _rows(name: str, mode: str, parsed: argparse.Namespace) -> list[common.Row]:
    size = parsed.image_size or default_size(name)
    how = {"mode": mode, "batch_size": parsed.batch_size, "image_size": size, "dtype": parsed.dtype}
    runners = [flaxzoo_runner(name, **how)]
    if parsed.against == "torch":
        from flaxzoo.parity.speed import FRAMEWORKS, torch_runner

        runners += [torch_runner(name, framework=f, **how) for f in FRAMEWORKS]
    take_turns(runners, parsed.rounds)
    return [_row(name, runner, runners, parsed, how) for runner in runners]


def _row(
    name: str,
    runner: Runner,
    runners: Sequence[Runner],
    parsed: argparse.Namespace,
    how: dict,
) -> common.Row:
    info, fastest = model_info(name), min(r.median for r in runners[1:] or runners)
    return {
        "model": name,
        "framework": runner.framework,
        **how,
        "images_per_second": parsed.batch_size / runner.median,
        "step_time": 1e3 * runner.median,
        "fastest": 1e3 * min(runner.seconds),
        "slowest": 1e3 * max(runner.seconds),
        # What flaxzoo is measured against is the faster of torch's two.
        "relative": fastest / runner.median if len(runners) > 1 else None,
        "compile_seconds": runner.compile_seconds,
        "peak_mib": runner.peak_mib,
        "batches": len(runner.seconds),
        "param_count": round(info.parameters / 1e6, 2),
        "gmacs": info.gmacs if how["image_size"] == info.gmacs_size else None,
    }


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(
        "benchmark",
        "Times forward passes and training steps on random images, on all devices: the median "
        "over rounds, and the fastest and slowest batch. With --against torch the twins run in "
        "turns with flaxzoo, eager and compiled, each in the faster of torch's layouts; relative "
        "is the speed against the faster of them.",
        [
            "resnet50 --batch-size 64 --dtype bfloat16",
            "resnet18 --image-size 128 --against torch",
            "'mobilenet*' --mode train --csv",
        ],
    )
    parser.add_argument("pattern", help="a model, or a shell pattern, like 'resnet*'")
    parser.add_argument("--mode", choices=(*MODES, "both"), default="both")
    number = common.positive(int)
    parser.add_argument("--batch-size", type=number, default=16, metavar="N", help="default: 16")
    parser.add_argument(
        "--image-size", type=number, metavar="PIXELS", help="default: 224, or the model's own"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=number, default=10, metavar="N", help="default: 10")
    parser.add_argument("--against", choices=("torch",), help="time PyTorch as well")
    common.add_format(parser)
    return parser
