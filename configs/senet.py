"""Squeeze and excitation (Hu et al. 2017, https://arxiv.org/abs/1709.01507).

    python train.py --config=configs/senet.py                the bundled digits
    python train.py --config=configs/senet.py:cifar10
    python train.py --config=configs/senet.py:imagenet2012   SE-ResNet-50

ImageNet, section 5: 100 epochs in batches of 1024, rate 0.6, divided by 10 every 30 epochs; weight
decay 1e-4 is ResNet's. Published: seresnet50 76.71 %, seresnet101 77.62 %, seresnet152 78.43 %
top-1 (table 2: SE-ResNet), one crop of 224 pixels.

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
