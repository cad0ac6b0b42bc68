"""A run that takes seconds."""

import jax
import pytest

from flaxzoo.checkpoint import Checkpoints
from flaxzoo.config import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    ModelConfig,
    OptimizerConfig,
    data_config,
)
from flaxzoo.training.trainer import build


@pytest.fixture
def config() -> Config:
    return Config(
        batch_size=64,
        duration="6 steps",
        eval_every="3 steps",
        log_every="1 steps",
        data=data_config("digits"),
        augment=AugmentConfig(shift=1),
        model=ModelConfig(name="resnet_tiny"),
        optimizer=OptimizerConfig(learning_rate=0.05),
        checkpoint=CheckpointConfig(every="2 steps"),
    )


@pytest.fixture
def saved_arrays():
    """Returns the arrays of the latest checkpoint in a run's folder."""

    def load(config, workdir):
        checkpoints = Checkpoints(workdir / "checkpoints", keep=1)
        state = checkpoints.restore(build(config)[1])
        checkpoints.close()
        return jax.device_get(state)

    return load
