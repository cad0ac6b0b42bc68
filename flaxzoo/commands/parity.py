"""`flaxzoo parity`: models against their PyTorch twins."""

import argparse
import time
from collections.abc import Sequence

import jax
from rich.console import Console

from flaxzoo.cli import prepare_jax
from flaxzoo.commands import common
from flaxzoo.errors import UserError
from flaxzoo.parity import CALIBRATED_STEPS, KINDS, compare
from flaxzoo.parity.curves import plot_losses


def run(arguments: Sequence[str]) -> None:
    """Compares models with their twins; exits with 1 if one differs."""
    parsed = _parser().parse_args(arguments)
    losses = parsed.dtype != "float32" and parsed.train_steps > CALIBRATED_STEPS
    if parsed.plot and not losses:
        raise UserError(
            f"--plot draws losses, which are compared in float64 with --train-steps of more than "
            f"{CALIBRATED_STEPS}; got {parsed.train_steps} in {parsed.dtype}."
        )
    prepare_jax()
    jax.config.update("jax_enable_x64", True)
    # Where each program runs a few times on small images, compiling it well takes most of the time.
    jax.config.update("jax_disable_most_optimizations", not losses)
    dtypes = ("float64", "float32") if parsed.dtype == "both" else (parsed.dtype,)
    console, different, curves = Console(soft_wrap=True), 0, {}
    kinds = KINDS if losses else KINDS[:-1]
    console.print(f"{'model':24}{'dtype':10}{''.join(f'{k:>12}' for k in kinds)}   result")
    for name in common.matching(parsed.pattern):
        for dtype in dtypes:
            started = time.monotonic()
            report = compare(
                name,
                against=parsed.against,
                dtype=dtype,
                image_size=parsed.image_size,
                batch_size=parsed.batch_size,
                train_steps=parsed.train_steps,
            )
            compared = {d.kind for d in report.differences}
            errors = "".join(
                f"{report.worst(kind):>12.1e}" if kind in compared else f"{'':12}" for kind in kinds
            )
            seconds = time.monotonic() - started
            result = "equal" if report.equal else "DIFFERENT"
            console.print(f"{name:24}{dtype:10}{errors}   {result}  ({seconds:.0f} s)")
            for d in report.failures[:5]:
                console.print(f"    {d.kind} {d.name}: {d.error:.1e}, allowed {d.allowed:.1e}")
            if report.rounding:
                figures = ", ".join(f"{kind} {e:.1e}" for kind, e in report.rounding.items())
                console.print(f"    compared with float64; torch's own float32 is off: {figures}")
            if report.losses:
                console.print(f"    {report.losses}")
                curves[name] = report.losses
            different += not report.equal
    if parsed.plot:
        plot_losses(curves, parsed.plot)
    if different:
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    parser = common.parser(
        "parity",
        "Gives both twins the same calibrated weights and compares features, logits, gradients, "
        "running statistics and parameters after SGD steps. Exit code 1 if they differ.",
        [
            "resnext50_32x4d --image-size 224",
            "resnet18 --dtype float64 --train-steps 200 --plot losses.png",
        ],
    )
    parser.add_argument("pattern", help="a model, or a shell pattern, like 'resnet*'")
    parser.add_argument(
        "--against", choices=("torch_ref", "torchvision", "timm"), default="torch_ref",
        help="whose model is the twin",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=("float64", "float32", "both"), default="both")
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="default: 64 or the model's least"
    )
    parser.add_argument("--batch-size", type=int, help="default: 2; 16 where losses are compared")
    parser.add_argument(
        "--train-steps", type=int, default=3, metavar="N",
        help="0: forward only; more than 10: compare, in float64, the losses of N steps on the "
        "bundled digits from equal initial values",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE.png", help="draw the losses of both twins")
    return parser
