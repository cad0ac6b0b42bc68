"""`python -m flaxzoo COMMAND`, also installed as `flaxzoo COMMAND`."""

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flaxzoo.cli import prepare_jax, run_command, train_command
from flaxzoo.errors import UserError, unknown

COMMANDS = ("train", "models", "parity", "data", "augmentations")


def main() -> None:
    """Runs the command that the command line names; exits with its code."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["train"]:  # its flags are ml_collections'
        sys.exit(run_command(lambda: train_command(arguments[1:])))
    if arguments[:1] == ["data"]:
        sys.exit(run_command(lambda: _data(arguments[1:])))
    sys.exit(run_command(lambda: _run(arguments)))


def _data(arguments: list[str]) -> None:
    if arguments[:1] == ["prepare"]:
        from flaxzoo.data.prepare import prepare_command

        prepare_command(arguments[1:])
        return
    from flaxzoo.data.look import data_command

    data_command(arguments)


def _run(arguments: list[str]) -> None:
    if arguments and arguments[0] not in COMMANDS and not arguments[0].startswith("-"):
        raise unknown("command", arguments[0], COMMANDS)
    parsed = _parser().parse_args(arguments)
    parsed.run(parsed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flaxzoo", description="Image classifiers in JAX/Flax, equal to their PyTorch twins."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("train", help="train: the same flags as train.py")

    commands.add_parser(
        "data", help="look at a data set: `data SPEC`; or get it: `data prepare NAME`"
    )

    models = commands.add_parser("models", help="list the models")
    models.add_argument("pattern", nargs="?", default="*", help="shell pattern, like 'resnext*'")
    models.set_defaults(run=_models)

    parity = commands.add_parser(
        "parity",
        help="compare models with their PyTorch twins",
        description="Gives both twins the same calibrated weights and compares features, logits, "
        "gradients, running statistics and parameters after SGD steps. Exit code 1 if they differ.",
        epilog="examples: flaxzoo parity resnext50_32x4d --image-size 224; "
        "flaxzoo parity resnet18 --dtype float64 --train-steps 200 --plot losses.png",
    )
    parity.add_argument("pattern", help="a model, or a shell pattern, like 'resnet*'")
    parity.add_argument(
        "--against", choices=("torch_ref", "torchvision", "timm"), default="torch_ref",
        help="whose model is the twin",
    )  # fmt: skip
    parity.add_argument("--dtype", choices=("float64", "float32", "both"), default="both")
    parity.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="default: 64 or the model's least"
    )
    parity.add_argument("--batch-size", type=int, help="default: 2; 16 where losses are compared")
    parity.add_argument(
        "--train-steps", type=int, default=3, metavar="N",
        help="0: forward only; more than 10: compare, in float64, the losses of N steps on the "
        "bundled digits from equal initial values",
    )  # fmt: skip
    parity.add_argument("--plot", metavar="FILE.png", help="draw the losses of both twins")
    parity.set_defaults(run=_parity)

    augmentations = commands.add_parser(
        "augmentations",
        help="draw what each augmentation does",
        description="Writes a picture with a row an augmentation: the first image, and what random "
        "numbers make of it. The other images are what it is mixed with.",
    )
    augmentations.add_argument(
        "--image", nargs="+", default=[], metavar="FILE", help="default: the bundled digits"
    )
    augmentations.add_argument("--out", default="augmentations.png", metavar="FILE")
    augmentations.add_argument("--seed", type=int, default=0)
    augmentations.set_defaults(run=_augmentations)
    return parser


def _models(arguments: argparse.Namespace) -> None:
    from flaxzoo.models import create_model
    from flaxzoo.models.info import count_parameters, model_info

    columns = ("model", "parameters (M)", "GMACs", "top-1 (%)", "classes", "smallest image")
    table = Table(*columns, box=None)
    for name in _matching(arguments.pattern):
        info, model = model_info(name), create_model(name, abstract=True)
        best = max((weights.top1 or 0 for weights in info.weights), default=0)
        size = model.image_size[0] if model.image_size else model.min_size
        table.add_row(
            name,
            f"{count_parameters(model) / 1e6:.2f}",
            f"{info.gmacs:.2f}" if info.gmacs else "",
            f"{best:.2f}" if best else "",
            str(model.num_classes),
            str(size),
        )
    Console().print(table)


def _parity(arguments: argparse.Namespace) -> None:
    import jax

    from flaxzoo.parity import CALIBRATED_STEPS, KINDS, compare
    from flaxzoo.parity.curves import plot_losses

    losses = arguments.dtype != "float32" and arguments.train_steps > CALIBRATED_STEPS
    if arguments.plot and not losses:
        raise UserError(
            f"--plot draws losses, which are compared in float64 with --train-steps of more than "
            f"{CALIBRATED_STEPS}; got {arguments.train_steps} in {arguments.dtype}."
        )
    prepare_jax()
    jax.config.update("jax_enable_x64", True)
    # Where each program runs a few times on small images, compiling it well takes most of the time.
    jax.config.update("jax_disable_most_optimizations", not losses)
    dtypes = ("float64", "float32") if arguments.dtype == "both" else (arguments.dtype,)
    console, different, curves = Console(soft_wrap=True), 0, {}
    kinds = KINDS if losses else KINDS[:-1]
    console.print(f"{'model':24}{'dtype':10}{''.join(f'{k:>12}' for k in kinds)}   result")
    for name in _matching(arguments.pattern):
        for dtype in dtypes:
            started = time.monotonic()
            report = compare(
                name,
                against=arguments.against,
                dtype=dtype,
                image_size=arguments.image_size,
                batch_size=arguments.batch_size,
                train_steps=arguments.train_steps,
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
    if arguments.plot:
        plot_losses(curves, arguments.plot)
    if different:
        raise SystemExit(1)


def _augmentations(arguments: argparse.Namespace) -> None:
    from flaxzoo.augment.grid import read_images, write_grid

    prepare_jax()
    write_grid(read_images(arguments.image), Path(arguments.out), arguments.seed)
    Console(soft_wrap=True).print(f"wrote {arguments.out}")


def _matching(pattern: str) -> list[str]:
    from flaxzoo.models import VARIANTS, list_models

    names = list_models(pattern)
    if not names:
        raise unknown("model", pattern, VARIANTS)
    return names


if __name__ == "__main__":
    main()
