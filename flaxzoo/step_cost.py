"""What a compiled train step needs: memory, operations, traffic, as its compiler reports them."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from flaxzoo.config import Config
from flaxzoo.training.abstract import abstract_step
from flaxzoo.training.parallel import Devices

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)


@dataclass(frozen=True)
class Core:
    """What a device can do at best.

    Attributes:
        memory: in bytes.
        flops: floating-point operations in a second, in bfloat16.
        bandwidth: bytes in a second between its memory and its arithmetic units.
    """

    memory: float
    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Traffic:
    """Collectives of one kind: instructions in a step, and the bytes of their results."""

    count: int
    bytes: int


@dataclass(frozen=True)
class StepCost:
    """One training step on one device; memory in bytes.

    `flops` and `bytes_accessed` are XLA's estimates (`cost_analysis`). Bytes are those of all
    operands and results of what was fused, wherever they lie: copies to on-chip memory, and reads
    there, count like others. (Of resnet50's 344 MB an image on v5e, 83 MB are of fusions that read
    or write there.) The body of a loop counts once; `loops` says how many there are.

    Attributes:
        batch: images on this device.
        devices: that share the step.
        arguments: state and images. The new state takes the memory of the old: `reused`.
        temporaries: what lives within the step, activations first of all.
        peak: what the step needs at once, its program included.
    """

    batch: int
    devices: int
    arguments: int
    outputs: int
    reused: int
    temporaries: int
    program: int
    flops: float
    bytes_accessed: float
    loops: int
    collectives: dict[str, Traffic]
    compile_seconds: float

    @property
    def peak(self) -> int:
        return self.arguments + self.outputs - self.reused + self.temporaries + self.program

    @property
    def intensity(self) -> float:
        """Floating-point operations for each byte that is moved."""
        return self.flops / self.bytes_accessed

    def roofline_seconds(self, core: Core) -> float:
        """Returns the time of a step at full speed of arithmetic or of memory, the slower of both.

        The other and all communication are taken to be hidden behind it.
        """
        return max(self.flops / core.flops, self.bytes_accessed / core.bandwidth)

    def images_per_second(self, core: Core) -> float:
        """Returns what all devices together would reach in that time."""
        return self.devices * self.batch / self.roofline_seconds(core)

    def bound_by(self, core: Core) -> str:
        """Returns which of them is slower: "arithmetic" or "memory"."""
        return "arithmetic" if self.intensity > core.flops / core.bandwidth else "memory"


class DoesNotFitError(MemoryError):
    """The compiler found no way to run a step in the memory of a device; it says what is needed."""


def step_cost(config: Config, devices: Devices) -> StepCost:
    """Compiles the train step of a run, and asks the compiler what it needs.

    Raises:
        UserError: see `abstract_step`.
        DoesNotFitError: the memory of a device is too small.
    """
    step, arguments = abstract_step(config, devices)
    lowered = step.lower(*arguments)
    start = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        raise DoesNotFitError(str(error).splitlines()[0]) from None
    return cost_of(compiled, config.batch_size, devices.count, time.monotonic() - start)


def cost_of(compiled: Any, batch_size: int, devices: int, seconds: float) -> StepCost:
    """Returns what the compiler tells of a compiled step of `batch_size` images in all."""
    memory, costs, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    return StepCost(
        batch=batch_size // devices,
        devices=devices,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        reused=memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        flops=costs["flops"],
        bytes_accessed=costs["bytes accessed"],
        loops=len(re.findall(r"\bwhile\(", text)),
        collectives=collectives(text),
        compile_seconds=seconds,
    )


def collectives(text: str) -> dict[str, Traffic]:
    """Returns the communication in a compiled program, by kind, from its text.

    >>> collectives("%r = (f32[8,2]{1,0}, bf16[4]{0}) all-reduce(%a, %b), channel_id=1")
    {'all-reduce': Traffic(count=1, bytes=72)}
    """
    found: dict[str, Traffic] = {}
    kinds = "|".join(COLLECTIVES)
    for match in re.finditer(rf"= (\(?\w+\[.*?) ({kinds})(-start)?\(", text):
        shapes, kind, started = match.groups()
        sizes = [_bytes(*shape) for shape in re.findall(r"(\w+)\[([\d,]*)\]", shapes)]
        # What starts a collective returns its operands, too, but for an all-reduce.
        total = max(sizes) if started and kind != "all-reduce" else sum(sizes)
        old = found.get(kind, Traffic(0, 0))
        found[kind] = Traffic(old.count + 1, old.bytes + total)
    return found


def _bytes(kind: str, shape: str) -> int:
    bits = int((re.search(r"\d+", kind) or ["8"])[0])  # of f32, bf16, u8, ...; pred has a byte
    return math.prod(int(n) for n in shape.split(",") if n) * bits // 8


@dataclass(frozen=True)
class Search:
    """What `largest_batch` found: the largest batch that fits, the smallest that does not.

    `fails` is None where none failed: `fits` is then the largest allowed, or the last tried.
    """

    fits: int
    fails: int | None
    compiled: int


def largest_batch(
    peak_at: Callable[[int], int | None],
    memory: float,
    start: int,
    *,
    unit: int = 1,
    limit: int | None = None,
    most: int = 10,
) -> Search:
    """Searches the largest batch of a device that fits its memory, in `most` compilations at most.

    What a step needs grows with its batch in nearly a straight line, so a batch that fits says how
    much larger the next may be, up to halfway to one that does not. From 16 images on, batches are
    multiples of 8; a search for thousands ends where a 64th is left.

    Args:
        peak_at: of a batch, what its step needs, in bytes; None where the compiler gave up.
        memory: of the device, in bytes.
        start: the first batch that is tried.
        unit: batches are multiples of it, `start` too.
        limit: no batch is larger; None for any.

    >>> largest_batch(lambda n: 100 + 10 * n if n <= 90 else None, 1000.0, start=32)
    Search(fits=88, fails=96, compiled=5)
    """
    top = math.inf if limit is None else limit // unit * unit
    fits, fails, batch, tried = 0, None, start, 0
    while tried < most and fits < top:
        peak = peak_at(batch)
        tried += 1
        if peak is None or peak > memory:
            fails, batch = batch, (fits + batch) // 2
        else:
            fits, batch = batch, int(batch * memory / peak)
        step = math.lcm(8, unit) if fits >= 16 else unit
        if fails is not None and fails - fits <= max(step, fits // 64):
            break
        batch = batch if fails is None else min(batch, (fits + fails) // 2)
        batch = int(min(max(batch // step * step, fits + step), top))
    return Search(fits, fails, tried)
