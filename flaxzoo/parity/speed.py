"""The twins of torch_ref as runners of flaxzoo.speed, to be timed beside flaxzoo."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from flaxzoo.errors import UserError
from flaxzoo.models import takes
from flaxzoo.speed import Runner

FRAMEWORKS = ("torch", "torch.compile")


def torch_runner(
    name: str, *, framework: str, mode: str, batch_size: int, image_size: int, dtype: str
) -> Runner:
    """Returns what runs the twin of variant `name` as `flaxzoo.speed.flaxzoo_runner` does.

    It runs on a GPU if torch has one, in the faster of torch's two layouts, which is found out with
    two batches each. bfloat16 is autocast, as torch trains with it.

    Args:
        framework: one of FRAMEWORKS.

    Raises:
        UserError: torch is not installed.
    """
    candidates = []
    for channels_last in (False, True):
        started = time.perf_counter()
        run = _batch(name, framework, mode, batch_size, image_size, dtype, channels_last)
        runner = Runner.first(framework, run, started)
        started = time.perf_counter()
        for _ in range(2):
            run()
        candidates.append((time.perf_counter() - started, runner))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def _batch(
    name: str, framework: str, mode: str, batch_size: int, size: int, dtype: str, last: bool
) -> Callable[[], None]:
    try:
        import torch

        import torch_ref
    except ModuleNotFoundError:
        raise UserError("comparing with torch needs it: pip install 'flaxzoo[parity]'") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if last else torch.contiguous_format
    options: dict[str, Any] = {"image_size": size} if takes(name, "image_size") else {}
    model = torch_ref.create_model(name, **options).to(device).to(memory_format=layout)  # type: ignore[call-overload]
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((batch_size, 3, size, size), np.float32)
    images = torch.from_numpy(pixels).to(device).contiguous(memory_format=layout)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    model.train(mode == "train")
    call = torch.compile(model) if framework == "torch.compile" else model
    half = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def forward() -> None:
        with torch.inference_mode(), half:
            call(images)
        wait()

    def train() -> None:
        with half:
            outputs = call(images)
        # Inception's and GoogLeNet's heads in training come as a named tuple, the main one first.
        logits = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        wait()

    return train if mode == "train" else forward
