"""`flaxzoo compile`: what the training step of a config needs on a TPU that is not there."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from flaxzoo.augment import mixes
from flaxzoo.cli import parse_train_flags
from flaxzoo.commands import common
from flaxzoo.config import Config
from flaxzoo.errors import UserError
from flaxzoo.step_cost import (
    COLLECTIVES,
    Core,
    DoesNotFitError,
    Search,
    StepCost,
    Traffic,
    largest_batch,
    step_cost,
)
from flaxzoo.tpu import EXAMPLE, described_devices
from flaxzoo.training.abstract import most_images
from flaxzoo.training.parallel import Devices

GIB = 2**30


def run(arguments: Sequence[str]) -> None:
    """Compiles the training step of a config and prints what the compiler says of it."""
    parser = _parser()
    parser.check_flags(arguments, but="--config.")
    parsed, overrides = parser.parse_known_args(arguments)
    config, _ = parse_train_flags([f"--config={parsed.config}", *overrides])
    jax.config.update("jax_platforms", "cpu")  # what is computed here needs no accelerator
    devices, core = described_devices(parsed.topology, config.parallel, config.shard_params)
    if parsed.batch_per_device:
        config = replace(config, batch_size=parsed.batch_per_device * devices.count)
    search = None
    if parsed.largest_batch:
        cost, search = _largest(config, devices, core)
        config = replace(config, batch_size=cost.batch * devices.count)
    else:
        cost = _compiled(config, devices, core)
    row = _row(config, parsed.topology, cost, core, search)
    if parsed.json or parsed.csv:
        common.write_rows([row], {}, parsed)
    else:
        _print(row, cost, core, search)


def _compiled(config: Config, devices: Devices, core: Core) -> StepCost:
    console, each = Console(stderr=True, highlight=False), config.batch_size // devices.count
    try:
        with console.status(f"compiling for {each} images a device: this may take minutes"):
            return step_cost(config, devices)
    except DoesNotFitError as error:
        raise UserError(
            f"the training step does not fit the {core.memory / GIB:g} GiB of a device with {each} "
            f"images on each: {error} Try a smaller --batch-per-device, --config.remat=true, "
            "--config.accumulate, or --largest-batch, which looks for what fits."
        ) from None


def _largest(config: Config, devices: Devices, core: Core) -> tuple[StepCost, Search]:
    """Returns the cost of the largest step that fits, and how it was found."""
    console, costs = Console(stderr=True, highlight=False), dict[int, StepCost]()

    def peak_at(each: int) -> int | None:
        try:
            with console.status(f"compiling for {each} images a device"):
                cost = step_cost(replace(config, batch_size=each * devices.count), devices)
        except DoesNotFitError as error:
            console.print(f"{each} images a device: {error}", markup=False)
            return None
        needed, has = cost.peak / GIB, core.memory / GIB
        console.print(
            f"{each} images a device: {needed:.2f} of {has:g} GiB, "
            f"compiled in {cost.compile_seconds:.0f} s"
        )
        costs[each] = cost
        return cost.peak

    # What the step checks: parts of equal size, and pairs of images to be mixed.
    unit = config.accumulate * (2 if mixes(config.augment) else 1)
    images = most_images(config)
    search = largest_batch(
        peak_at,
        core.memory,
        max(unit, config.batch_size // devices.count // unit * unit),
        unit=unit,
        limit=None if images is None else images // devices.count,
    )
    if not search.fits:
        raise UserError(
            f"not one image fits the {core.memory / GIB:g} GiB of a device: see the lines above."
        )
    return costs[search.fits], search


def _row(
    config: Config, topology: str, cost: StepCost, core: Core, search: Search | None
) -> dict[str, Any]:
    """Returns all that is known, one number or text for each key."""
    images = cost.batch * cost.devices
    none = Traffic(0, 0)
    traffic = {
        f"{kind.replace('-', '_')}_{what}": getattr(cost.collectives.get(kind, none), what)
        for kind in COLLECTIVES
        for what in ("count", "bytes")
    }
    return {
        "model": config.model.name,
        "topology": topology,
        "devices": cost.devices,
        "parallel": config.parallel,
        "batch_norm": config.batch_norm,
        "batch_per_device": cost.batch,
        "batch_size": images,
        "argument_bytes": cost.arguments,
        "output_bytes": cost.outputs,
        "reused_bytes": cost.reused,
        "temporary_bytes": cost.temporaries,
        "program_bytes": cost.program,
        "peak_bytes": cost.peak,
        "memory_bytes": round(core.memory),
        "flops": cost.flops,
        "bytes_accessed": cost.bytes_accessed,
        "flops_per_image": cost.flops / cost.batch,
        "bytes_per_image": cost.bytes_accessed / cost.batch,
        "flops_per_byte": cost.intensity,
        "loops": cost.loops,
        "bound_by": cost.bound_by(core),
        "roofline_step_seconds": cost.roofline_seconds(core),
        "roofline_images_per_second": cost.images_per_second(core),
        **traffic,
        "compile_seconds": cost.compile_seconds,
        "largest_batch_per_device": search and search.fits,
        "too_large_batch_per_device": search and search.fails,
    }


def _print(row: dict[str, Any], cost: StepCost, core: Core, search: Search | None) -> None:
    console = common.console()
    console.print(
        f"{row['model']} on {row['topology']}: {cost.devices} x {cost.batch} images a step, "
        f"compiled in {cost.compile_seconds:.0f} s\n",
        markup=False,
    )
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for line in _lines(row, cost, core):
        table.add_row(*line)
    console.print(table)
    if search:
        beyond = f"; {search.fails} do not" if search.fails else ", and more were not tried"
        console.print(f"\nThe largest batch: {search.fits} images a device fit{beyond}.")
    console.print(
        "\nThe roofline is no measurement: it divides XLA's count of operations and bytes by the "
        "chip's figures. That count takes copies to on-chip memory for traffic, too."
    )
    if cost.loops:
        console.print(
            f"\n{cost.loops} loops count as if they ran once, so operations and bytes are too few."
        )


def _lines(row: dict[str, Any], cost: StepCost, core: Core) -> list[tuple[str, str, str]]:
    balance = core.flops / core.bandwidth
    lines = [
        ("memory of a device", _size(cost.peak), f"of {_size(core.memory)}, at its peak"),
        ("  arguments", _size(cost.arguments), "state and images; the new state takes its place"),
        ("  temporaries", _size(cost.temporaries), "activations, gradients"),
        ("  other results", _size(cost.outputs - cost.reused), ""),
        ("  program", _size(cost.program), ""),
        ("operations an image", f"{row['flops_per_image'] / 1e9:,.4g} GFLOP", ""),
        ("bytes an image", f"{row['bytes_per_image'] / 1e6:,.1f} MB", "read and written"),
        ("operations a byte", f"{cost.intensity:,.0f}", f"the chip balances {balance:,.0f}"),
        (
            "roofline",
            f"{row['roofline_images_per_second']:,.0f} images/s",
            f"of all devices, bound by {cost.bound_by(core)}",
        ),
    ]
    for kind, traffic in cost.collectives.items():
        lines.append((kind, f"{traffic.count}", f"{traffic.bytes / 1e6:,.2f} MB a step"))
    return lines


def _size(number: float | int) -> str:
    return f"{number / GIB:,.2f} GiB" if number >= GIB else f"{number / 2**20:,.1f} MiB"


def _parser() -> common.Parser:
    parser = common.parser(
        "compile",
        "Compiles the training step of a config for a TPU that need not be there, as a run would, "
        "and tells what the compiler knows: memory, operations, memory traffic, communication, and "
        "the images per second that these and the chip's figures allow. Needs libtpu from PyPI; no "
        "data and no weights. Compiling takes minutes.",
        [
            "configs/resnext.py:imagenet2012 --topology v5e:2x4",
            "configs/resnet.py:imagenet2012 --batch-per-device 128 --config.batch_norm=per_device",
            "configs/vit.py:imagenet2012 --topology v6e:1x1 --largest-batch",
            "configs/resnet.py:folder=. --config.model.num_classes=37 --json",
        ],
    )
    parser.add_argument("config", metavar="CONFIG", help="as train.py takes it: FILE[:ARG]")
    parser.add_argument(
        "--topology", default=EXAMPLE, metavar="NAME",
        help=f"generation and chips along each axis; default: {EXAMPLE}, eight chips",
    )  # fmt: skip
    parser.add_argument(
        "--batch-per-device", type=common.positive(int), default=0, metavar="N",
        help="images on each device; default: config.batch_size over all",
    )  # fmt: skip
    parser.add_argument(
        "--largest-batch", action="store_true",
        help="look for the largest batch that fits, in a few compilations",
    )  # fmt: skip
    common.add_format(parser)
    return parser
