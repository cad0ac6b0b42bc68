"""ResNeXt (Xie et al. 2016, https://arxiv.org/abs/1611.05431).

    python train.py --config=configs/resnext.py                          the bundled digits
    python train.py --config=configs/resnext.py:cifar10                  ResNeXt-29, 8x64d
    python train.py --config=configs/resnext.py:imagenet2012             ResNeXt-50, 77.6 %
    python train.py --config=configs/resnext.py:imagenet2012,recipe=v2   81.2 %

CIFAR, appendix A: 300 epochs in batches of 128, rate 0.1, divided by 10 at 150 and 225, weight
decay 5e-4, crops from 4 pixels of padding, mirroring; Nesterov's momentum as in the authors' code
(https://github.com/facebookresearch/ResNeXt, train.lua). Published: 3.65 % test error on CIFAR-10
and 17.77 % on CIFAR-100 with resnext29_8x64d, the mean of ten runs on all 50,000 training images
(table 7); this one holds out `data.validation`.

ImageNet, recipe v1: torchvision's, 100 epochs in batches of 256, rate 0.1, divided by 10 at 30, 60
and 90, weight decay 1e-4, crops of random scale and aspect ratio, as in the paper (section 4),
whose code has Nesterov's momentum and changes colours as well. Published: resnext50_32x4d 77.8 % by
the paper's table 3, 77.62 % by torchvision; resnext101_32x8d 79.31 %.

ImageNet, recipe v2: torchvision's new recipe. Published: resnext50_32x4d 81.20 % and, trained on
176 pixels, resnext101_32x8d 82.83 % and resnext101_64x4d 83.25 %
(https://github.com/pytorch/vision/pull/5935).
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, NEW_RECIPE, SMALL, TORCHVISION, choose

CIFAR = {
    "model.name": "resnext29_8x64d",
    "duration": "300 epochs",
    "schedule.name": "multistep",
    "schedule.milestones": ("150 epochs", "225 epochs"),
}
ON_176 = {"data.train_sizes": (176,)}
IMAGENET = {
    "v1": TORCHVISION | {"model.name": "resnext50_32x4d", "duration": "100 epochs"},
    "v2": NEW_RECIPE | {"model.name": "resnext50_32x4d"},
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "resnext_tiny"},
        small=SMALL | {"model.name": "resnext29_2x64d"},
        cifar=CIFAR,
        imagenet=IMAGENET,
        variants={"v2": dict.fromkeys(("resnext101_32x8d", "resnext101_64x4d"), ON_176)},
    )
