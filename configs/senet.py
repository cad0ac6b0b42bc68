"""Squeeze and excitation (Hu et al. 2017, https://arxiv.org/abs/1709.01507).

    python train.py --config=configs/senet.py                the bundled digits
    python train.py --config=configs/senet.py:cifar10
    python train.py --config=configs/senet.py:imagenet2012   SE-ResNet-50

ImageNet, section 5.1: 100 epochs in batches of 1024, rate 0.6, divided by 10 every 30 epochs;
weight decay, of which it does not say anything, is ResNet's 1e-4. Published: seresnet50 76.71 %,
seresnet101 77.62 %, seresnet152 78.43 %, seresnext50_32x4d 78.90 %, seresnext101_32x4d 79.30 %
top-1 (table 2), one crop of 224 pixels.

Small images: seresnet18 with a stem that keeps their size.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, choose

IMAGENET = {
    "model.name": "seresnet50",
    "batch_size": 1024,
    "duration": "100 epochs",
    "optimizer.learning_rate": 0.6,
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_senet", "model.stem": "cifar"},
        small=SMALL | {"model.name": "seresnet18", "model.stem": "cifar"},
        imagenet={"v1": TORCHVISION | IMAGENET},
    )
