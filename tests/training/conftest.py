"""A run that takes seconds."""

import pytest

from flaxzoo.config import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    ModelConfig,
    OptimizerConfig,
    data_config,
)


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
