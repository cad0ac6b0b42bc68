"""ShuffleNet V2 (Ma et al. 2018, https://arxiv.org/abs/1807.11164).

    python train.py --config=configs/shufflenet_v2.py                          the bundled digits
    python train.py --config=configs/shufflenet_v2.py:cifar10
    python train.py --config=configs/shufflenet_v2.py:imagenet2012             x1_0, 69.4 %
    python train.py --config=configs/shufflenet_v2.py:imagenet2012,recipe=v2   x1_5, 73.0 %

ImageNet, recipe v1: the paper's, which is ShuffleNet's (configs/shufflenet.py): 300,000 steps of
1024 images, a rate that falls from 0.5 to 0 in a line, weight decay 4e-5. Published:
shufflenet_v2_x0_5 60.3 %, x1_0 69.4 %, x1_5 72.6 %, x2_0 74.9 % top-1 (table 8). Recipe v2:
torchvision's new recipe on 176 pixels (https://github.com/pytorch/vision/pull/5906). Published:
x1_5 73.00 %, x2_0 76.23 %, both of the raw weights, not of their average.

Small images: a stem that keeps their size.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, NEW_RECIPE_176, SHUFFLENET, SMALL, choose


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_shufflenet_v2", "model.stem": "cifar"},
        small=SMALL | {"model.name": "shufflenet_v2_x1_0", "model.stem": "cifar"},
        imagenet={
            "v1": SHUFFLENET | {"model.name": "shufflenet_v2_x1_0"},
            "v2": NEW_RECIPE_176 | {"model.name": "shufflenet_v2_x1_5"},
        },
    )
