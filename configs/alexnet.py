"""AlexNet, in one column (Krizhevsky 2014, https://arxiv.org/abs/1404.5997).

    python train.py --config=configs/alexnet.py           the bundled digits
    python train.py --config=configs/alexnet.py:cifar10   enlarged to 64 pixels
    python train.py --config=configs/alexnet.py:imagenet2012

ImageNet: torchvision's recipe for nets without batch normalisation, its defaults at a rate of 0.01.
Published with it: 56.52 % top-1. It was made for 224 pixels; smaller images are enlarged to 64.

Digits: AdamW. Without normalisation SGD leaves a net of so few channels where it starts.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS_ADAMW, SMALL, TORCHVISION, choose, upsampled


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS_ADAMW | upsampled(64) | {"model.name": "test_alexnet"},
        small=SMALL
        | {"model.name": "alexnet", "data.image_size": 64, "optimizer.learning_rate": 0.01},
        imagenet={"v1": TORCHVISION | {"model.name": "alexnet", "optimizer.learning_rate": 0.01}},
    )
