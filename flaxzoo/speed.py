"""How fast a model runs on this machine: forward passes and training steps, timed in turns."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from flaxzoo.config import Config, ModelConfig, data_config
from flaxzoo.models import create_model, takes
from flaxzoo.models.base import Classifier
from flaxzoo.training.optimizer import sgd
from flaxzoo.training.parallel import all_devices, compiler_options
from flaxzoo.training.state import first_state, split_model
from flaxzoo.training.step import make_train_step

MODES = ("forward", "train")


@dataclass
class Runner:
    """One way to run a batch, again and again.

    Attributes:
        framework: "flaxzoo", "torch" or "torch.compile".
        run: runs a batch and waits until it is done.
        compile_seconds: from the model to the end of the first batch.
        peak_mib: memory of the device for arguments, results and temporaries, if it is known.
        seconds: of each batch timed so far.
    """

    framework: str
    run: Callable[[], None]
    compile_seconds: float
    peak_mib: float | None = None
    seconds: list[float] = field(default_factory=list)

    @classmethod
    def first(cls, framework: str, run: Callable[[], None], started: float) -> "Runner":
        """Runs the first batch, which compiles; `started` is time.perf_counter before the model."""
        run()
        return cls(framework, run, time.perf_counter() - started)

    @property
    def median(self) -> float:
        """Seconds for a batch."""
        return statistics.median(self.seconds)


def flaxzoo_runner(
    name: str, *, mode: str, batch_size: int, image_size: int, dtype: DTypeLike = jnp.float32
) -> Runner:
    """Returns what runs variant `name` on random images on all devices of this process.

    A training step is the trainer's: normalisation of uint8 images, forward and backward pass, SGD
    with momentum. A forward pass is of float images in evaluation mode.

    Args:
        mode: one of MODES.
        batch_size: over all devices.

    Raises:
        UserError: there is no such model, or it cannot take such images or a batch of this size.
    """
    started = time.perf_counter()
    options: dict[str, Any] = {"image_size": image_size} if takes(name, "image_size") else {}
    model = create_model(name, dtype=dtype, **options)
    model.check_shape((batch_size, image_size, image_size, model.in_channels))
    make = _train if mode == "train" else _forward
    compiled, run = make(model, batch_size, image_size)
    runner = Runner.first("flaxzoo", run, started)
    runner.peak_mib = _mebibytes(compiled)
    return runner


def default_size(name: str) -> int:
    """Returns the side of the images that a benchmark of variant `name` takes: 224, or its own."""
    model = create_model(name, abstract=True)
    return model.image_size[0] if model.image_size else max(224, model.min_train_size)


def take_turns(runners: Sequence[Runner], rounds: int, batches: int = 1) -> None:
    """Times `batches` batches of every runner in each of so many rounds.

    In turns, so that what else happens on the machine meets all of them.
    """
    for _ in range(rounds):
        for runner in runners:
            for _ in range(batches):
                started = time.perf_counter()
                runner.run()
                runner.seconds.append(time.perf_counter() - started)


def _forward(model: Classifier, batch_size: int, size: int) -> tuple[Any, Callable[[], None]]:
    devices = all_devices("jit")
    devices.check_batch(batch_size)
    model.eval()
    model_def, params, batch_stats = split_model(model)

    def forward(params: Any, batch_stats: Any, images: Any) -> Any:
        bound = model_def.bind(params, batch_stats)
        bound.eval()
        return bound(images)

    shape = (batch_size, size, size, model.in_channels)
    pixels = np.random.default_rng(0).standard_normal(shape, np.float32)
    images = devices.split({"image": pixels})["image"]
    weights = devices.place((params, batch_stats))
    options = compiler_options(devices.platform)
    compiled = jax.jit(forward, compiler_options=options).lower(*weights, images).compile()
    return compiled, lambda: compiled(*weights, images).block_until_ready()


def _train(model: Classifier, batch_size: int, size: int) -> tuple[Any, Callable[[], None]]:
    devices = all_devices("jit")
    devices.check_batch(batch_size)
    config = Config(
        model=ModelConfig(num_classes=model.num_classes), data=data_config("imagenet2012")
    )
    config.data.mean, config.data.std = (0.5,), (0.5,)
    model_def, params, batch_stats = split_model(model)
    optimizer = sgd(lambda _: 0.1, momentum=0.9)
    state = devices.place(first_state(params, batch_stats, optimizer, config))
    rng = np.random.default_rng(0)
    shape = (batch_size, size, size, model.in_channels)
    inputs = devices.split(
        {
            "image": rng.integers(256, size=shape, dtype=np.uint8),
            "label": rng.integers(model.num_classes, size=batch_size, dtype=np.int32),
        }
    )
    step = devices.compile_train(make_train_step(model_def, optimizer, config), state)
    compiled = step.lower(state, inputs, {}).compile()  # type: ignore[attr-defined]

    def run() -> None:
        nonlocal state
        state, _ = compiled(state, inputs, {})
        jax.block_until_ready(state.params)

    return compiled, run


def _mebibytes(compiled: Any) -> float | None:
    memory = compiled.memory_analysis()
    if memory is None:  # some backends cannot tell
        return None
    parts = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    reused = memory.alias_size_in_bytes
    return (sum(getattr(memory, part) for part in parts) - reused) / 2**20
