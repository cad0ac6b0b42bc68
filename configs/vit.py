"""Vision transformer (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929).

    python train.py --config=configs/vit.py                the bundled digits
    python train.py --config=configs/vit.py:cifar10        enlarged to 64 pixels
    python train.py --config=configs/vit.py:imagenet2012   ViT-B/16
    python train.py --config=configs/vit.py:imagenet2012,model=vit_l_16

ImageNet, from scratch: torchvision's recipe, AdamW at 0.003 for 4096 images, weight decay 0.3,
RandAugment, mixup and CutMix. Published: vit_b_16 81.07 %, vit_b_32 75.91 % (AutoAugment), vit_l_32
76.97 % top-1. vit_l_16, 79.66 %, has the new recipe with gradients clipped to a norm of 1; its 242
pixels before the crop were chosen afterwards. Without repeated augmentation, which torchvision has,
and with warm-up and cosine in every step.

Small images are enlarged to 64 pixels, 16 patches. ViT needs more of them than CIFAR has to be good
(section 4.3 of the paper).
"""

from flaxzoo.config import Config
from flaxzoo.recipes import (
    DIGITS_ADAMW,
    NEW_RECIPE,
    SMALL,
    SMALL_ADAMW,
    TORCHVISION,
    based_on,
    choose,
    ema_per_step,
    upsampled,
)

V1 = based_on(
    TORCHVISION,
    {
        "model.name": "vit_b_16",
        "batch_size": 4096,
        "duration": "300 epochs",
        "label_smoothing": 0.11,
        "augment.policy": "randaugment",
        "augment.mixup": 0.2,
        "augment.cutmix": 1.0,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 3e-3,
        "optimizer.weight_decay": 0.3,
        "optimizer.clip_norm": 1.0,
        "schedule.name": "cosine",
        "schedule.warmup": "30 epochs",
        "schedule.warmup_factor": 0.033,
        "ema.decay": ema_per_step(0.99998, 32, 4096, 300),
    },
)
VARIANTS = {
    "vit_b_32": {"augment.policy": "autoaugment_imagenet"},
    "vit_l_16": NEW_RECIPE | {"data.resize": 242, "optimizer.clip_norm": 1.0},
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS_ADAMW | upsampled(32) | {"model.name": "test_vit"},
        small=based_on(SMALL, SMALL_ADAMW) | {"model.name": "vit_b_16", "data.image_size": 64},
        imagenet={"v1": V1},
        variants={"v1": VARIANTS},
    )
