"""MobileNetV3 (Howard et al. 2019, https://arxiv.org/abs/1905.02244).

    python train.py --config=configs/mobilenet_v3.py   the bundled digits
    python train.py --config=configs/mobilenet_v3.py:cifar10
    python train.py --config=configs/mobilenet_v3.py:imagenet2012,model=mobilenet_v3_small

ImageNet: torchvision's recipe, 600 epochs in batches of 1024, RMSprop at 0.064, times 0.973 every
second epoch, weight decay 1e-5, AutoAugment, random erasing. Published: mobilenet_v3_large 74.04 %,
mobilenet_v3_small 67.67 % top-1, after averaging the parameters of three checkpoints, which is not
done here.

Small images: a stem that keeps their size.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, based_on, choose

IMAGENET = {
    "model.name": "mobilenet_v3_large",
    "batch_size": 1024,
    "duration": "600 epochs",
    "augment.policy": "autoaugment_imagenet",
    "augment.erase": 0.2,
    "optimizer.name": "rmsprop",
    "optimizer.learning_rate": 0.064,
    "optimizer.alpha": 0.9,
    "optimizer.momentum": 0.9,
    "optimizer.eps": 0.0316,
    "optimizer.weight_decay": 1e-5,
    "schedule.name": "step",
    "schedule.every": "2 epochs",
    "schedule.gamma": 0.973,
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_mobilenet_v3", "model.stem": "cifar"},
        small=SMALL
        | {
            "model.name": "mobilenet_v3_large",
            "model.stem": "cifar",
            "optimizer.weight_decay": 1e-4,
        },
        imagenet={"v1": based_on(TORCHVISION, IMAGENET)},
    )
