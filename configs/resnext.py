r"""ResNeXt (Xie et al. 2016, https://arxiv.org/abs/1611.05431).

python train.py --config=configs/resnext.py
"""

from flaxzoo.config import (
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
)


def get_config(arg="digits"):
    return Config(
        batch_size=64,
        duration="30 epochs",
        data=DataConfig(source="digits", image_size=8),
        model=ModelConfig(name="resnext_tiny"),
        augment=AugmentConfig(shift=1),
        optimizer=OptimizerConfig(learning_rate=0.1, weight_decay=5e-4, nesterov=True),
        schedule=ScheduleConfig(name="cosine", warmup="2 epochs"),
    )
