"""ResNet (He et al. 2015, https://arxiv.org/abs/1512.03385).

    python train.py --config=configs/resnet.py                          the bundled digits
    python train.py --config=configs/resnet.py:cifar10                  ResNet-20
    python train.py --config=configs/resnet.py:cifar10,model=resnet56
    python train.py --config=configs/resnet.py:imagenet2012             ResNet-50, 76.1 %
    python train.py --config=configs/resnet.py:imagenet2012,recipe=v2   ResNet-50, 80.9 %

CIFAR, section 4.2 of the paper: 64,000 steps of 128 images, rate 0.1, divided by 10 at 32,000 and
48,000, weight decay 1e-4, crops from 4 pixels of padding, mirroring. Published on CIFAR-10:
resnet20 91.25 %, resnet32 92.49 %, resnet44 92.83 %, resnet56 93.03 %, resnet110 93.39 % (table 6),
the last as a mean of five runs and after some 400 steps at a rate of 0.01, which are not done here.
The paper trains on all 50,000 images in the end; this recipe holds out `data.validation`.

ImageNet, recipe v1: torchvision's defaults. Batch, rate and weight decay are the paper's (section
3.4), which lowers the rate when the error stalls, in up to 600,000 steps, and crops from images of
256 to 480 pixels. Published by torchvision: resnet18 69.76 %, resnet34 73.31 %, resnet50 76.13 %,
resnet101 77.37 %, resnet152 78.31 %.

ImageNet, recipe v2: torchvision's new recipe for resnet50, trained on 176 pixels and evaluated on
224. Published: 80.86 % (https://github.com/pytorch/vision/issues/3995#issuecomment-1013906621). It
departs from it as flaxzoo.recipes.NEW_RECIPE says, but for weight decay: as there, only the norms
have none. Others were trained on 224 pixels: resnet101 81.89 %, resnet152 82.28 %, wide_resnet101_2
82.51 %; wide_resnet50_2 on 176, 81.60 %.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, NEW_RECIPE_176, SMALL, TORCHVISION, choose

CIFAR = {
    "duration": "64000 steps",
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
    "optimizer.weight_decay": 1e-4,
    "schedule.name": "multistep",
    "schedule.milestones": ("32000 steps", "48000 steps"),
}
V2 = NEW_RECIPE_176 | {
    "model.name": "resnet50",
    "optimizer.decay_on": "all",
    "optimizer.decay_exclude": (r"bn\d\.|downsample\.1\.",),
}
ON_224 = {"data.train_sizes": ()}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "resnet_tiny"},
        small=SMALL | {"model.name": "resnet20"},
        cifar=CIFAR,
        imagenet={"v1": TORCHVISION | {"model.name": "resnet50"}, "v2": V2},
        variants={
            "v2": dict.fromkeys(("resnet101", "resnet152", "wide_resnet101_2"), ON_224),
        },
    )
