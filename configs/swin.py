"""Swin transformer, V1 and V2 (Liu et al. 2021, https://arxiv.org/abs/2103.14030, 2111.09883).

    python train.py --config=configs/swin.py                the bundled digits
    python train.py --config=configs/swin.py:cifar10
    python train.py --config=configs/swin.py:imagenet2012   Swin-T
    python train.py --config=configs/swin.py:imagenet2012,model=swin_v2_t

ImageNet: torchvision's recipe, 300 epochs, AdamW at 1e-3 for 1024 images, weight decay 0.05 on
weights only, a warm-up of 20 epochs, TrivialAugment, mixup 0.8, CutMix, random erasing. Published:
swin_t 81.47 %, swin_s 83.20 %, swin_b 83.58 %; on 256 pixels swin_v2_t 82.07 %, swin_v2_s 83.71 %,
swin_v2_b 84.11 % top-1; the size before the centre crop was chosen afterwards. Without repeated
augmentation, and with warm-up and cosine in every step.

Small images: patches of 2 pixels.
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
    "model.name": "swin_t",
    "duration": "300 epochs",
    "augment.mixup": 0.8,
    "augment.erase": 0.25,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 1e-3,
    "optimizer.weight_decay": 0.05,
    "optimizer.decay_on": "weights",
    "optimizer.clip_norm": 5.0,
    "schedule.name": "cosine",
    "schedule.warmup": "20 epochs",
    "schedule.warmup_factor": 0.01,
    "schedule.min_rate": 1e-5,
    "ema.decay": ema_per_step(0.99998, 32, 1024, 300),
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS_ADAMW
        | upsampled(16)
        | {
            "model.name": "test_swin",
            "model.options": ("patch_size=2",),
        },
        small=based_on(SMALL, SMALL_ADAMW)
        | {"model.name": "swin_t", "model.options": ("patch_size=2",)},
        imagenet={"v1": based_on(NEW_RECIPE, IMAGENET)},
    )
