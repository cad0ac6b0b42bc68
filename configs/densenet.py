"""DenseNet (Huang et al. 2016, https://arxiv.org/abs/1608.06993).

    python train.py --config=configs/densenet.py                the bundled digits
    python train.py --config=configs/densenet.py:cifar10        DenseNet-BC, 100 layers, k = 12
    python train.py --config=configs/densenet.py:imagenet2012   DenseNet-121

CIFAR, section 4.2: 300 epochs in batches of 64, rate 0.1, divided by 10 at a half and at three
quarters, weight decay 1e-4, Nesterov. Published with crops and mirroring: densenet_bc_100_k12
95.49 % on CIFAR-10 and 77.73 % on CIFAR-100; densenet40_k12 94.76 % and 75.58 % (table 2).

ImageNet, section 4.2: torchvision's defaults are the paper's, with Nesterov; its crops have their
colours changed as well (https://github.com/facebookarchive/fb.resnet.torch). Published: densenet121
74.98 %, densenet169 76.20 %, densenet201 77.42 % top-1 in the paper (table 3), 74.43 %, 75.60 % and
76.90 % for torchvision's files; densenet161 77.14 %.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, choose

CIFAR = {
    "batch_size": 64,
    "duration": "300 epochs",
    "optimizer.weight_decay": 1e-4,
    "schedule.name": "multistep",
    "schedule.milestones": ("50%", "75%"),
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_densenet", "model.stem": "cifar"},
        small=SMALL | {"model.name": "densenet_bc_100_k12"},
        cifar=CIFAR,
        imagenet={"v1": TORCHVISION | {"model.name": "densenet121", "optimizer.nesterov": True}},
    )
