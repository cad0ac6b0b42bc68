"""MobileNetV2 (Sandler et al. 2018, https://arxiv.org/abs/1801.04381).

    python train.py --config=configs/mobilenet_v2.py                          the bundled digits
    python train.py --config=configs/mobilenet_v2.py:cifar10
    python train.py --config=configs/mobilenet_v2.py:imagenet2012             71.9 %
    python train.py --config=configs/mobilenet_v2.py:imagenet2012,recipe=v2   72.2 %

ImageNet, recipe v1: torchvision's, 300 epochs in batches of 256, rate 0.045, times 0.98 every
epoch, weight decay 4e-5. Published: 71.88 % top-1. Recipe v2: torchvision's new recipe on 176
pixels (https://github.com/pytorch/vision/pull/5560). Published: 72.15 %.

Small images: a stem that keeps their size.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, MOBILENET, NEW_RECIPE_176, SMALL, choose


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_mobilenet_v2", "model.stem": "cifar"},
        small=SMALL
        | {"model.name": "mobilenet_v2", "model.stem": "cifar", "optimizer.weight_decay": 4e-5},
        imagenet={
            "v1": MOBILENET | {"model.name": "mobilenet_v2"},
            "v2": NEW_RECIPE_176 | {"model.name": "mobilenet_v2"},
        },
    )
