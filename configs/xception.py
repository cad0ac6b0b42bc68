"""Xception (Chollet 2016, https://arxiv.org/abs/1610.02357).

    python train.py --config=configs/xception.py   the bundled digits
    python train.py --config=configs/xception.py:cifar10
    python train.py --config=configs/xception.py:imagenet2012

ImageNet, sections 4.2 and 4.3 of the paper: SGD with momentum 0.9, rate 0.045, times 0.94 every two
epochs, weight decay 1e-5, dropout of 0.5 before the last layer, on 299 pixels. Published: 79.0 %
top-1, one crop, of an average of the weights (table 1). The paper does not say how large a batch is
or how many epochs there are; here they are 256 and 120, with an average of a thousand steps. Not
measured yet.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, choose, upsampled

IMAGENET = {
    "model.name": "xception",
    "model.options": ("dropout=0.5",),
    "data.image_size": 299,
    "duration": "120 epochs",
    "optimizer.learning_rate": 0.045,
    "optimizer.weight_decay": 1e-5,
    "schedule.every": "2 epochs",
    "schedule.gamma": 0.94,
    "ema.decay": 0.999,
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | upsampled(16) | {"model.name": "test_xception", "model.stem": "cifar"},
        small=SMALL | {"model.name": "xception", "model.stem": "cifar"},
        imagenet={"v1": TORCHVISION | IMAGENET},
    )
