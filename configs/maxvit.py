"""MaxViT (Tu et al. 2022, https://arxiv.org/abs/2204.01697).

    python train.py --config=configs/maxvit.py           the bundled digits
    python train.py --config=configs/maxvit.py:cifar10   enlarged to 64 pixels
    python train.py --config=configs/maxvit.py:imagenet2012

ImageNet: torchvision's recipe, 400 epochs, AdamW at 0.003 for 4096 images, weight decay 0.05 but on
the tables of positions, a warm-up of 32 epochs, TrivialAugment, mixup 0.8 without CutMix, gradients
clipped to a norm of 1. Published: maxvit_t 83.70 % top-1. Warm-up and cosine move with every step.

Small images are enlarged to 64 pixels; windows and grids have a size of 2.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import (
    DIGITS_ADAMW,
    NEW_RECIPE,
    SMALL,
    SMALL_ADAMW,
    based_on,
    choose,
    ema_per_step,
    upsampled,
)

IMAGENET = {
    "model.name": "maxvit_t",
    "batch_size": 4096,
    "duration": "400 epochs",
    "augment.mixup": 0.8,
    "augment.cutmix": 0.0,
    "augment.erase": 0.0,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 3e-3,
    "optimizer.weight_decay": 0.05,
    "optimizer.decay_exclude": ("relative_position_bias_table",),
    "optimizer.clip_norm": 1.0,
    "schedule.name": "cosine",
    "schedule.warmup": "32 epochs",
    "schedule.warmup_factor": 0.01,
    "schedule.min_rate": 1e-5,
    "ema.decay": ema_per_step(0.99998, 32, 4096, 400),
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS_ADAMW | upsampled(16) | {"model.name": "test_maxvit"},
        small=based_on(SMALL, SMALL_ADAMW)
        | {"model.name": "maxvit_t", "data.image_size": 64, "model.options": ("partition_size=2",)},
        imagenet={"v1": based_on(NEW_RECIPE, IMAGENET)},
    )
