"""Timing the twins beside flaxzoo."""

import pytest

from flaxzoo.parity.speed import torch_runner
from flaxzoo.speed import take_turns


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("name", ["resnet_tiny", "test_googlenet"])
def test_twins_run_and_are_timed(name, mode):
    runner = torch_runner(
        name, framework="torch", mode=mode, batch_size=4, image_size=64, dtype="bfloat16"
    )
    take_turns([runner], rounds=2)
    assert runner.framework == "torch"
    assert len(runner.seconds) == 2
    assert runner.compile_seconds > 0
