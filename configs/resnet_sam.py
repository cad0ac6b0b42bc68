"""Sharpness-aware minimisation of ResNet (Foret et al. 2020, https://arxiv.org/abs/2010.01412).

    python train.py --config=configs/resnet_sam.py   the bundled digits
    python train.py --config=configs/resnet_sam.py:cifar10
    python train.py --config=configs/resnet_sam.py:imagenet2012

Two gradients a step: twice the time of configs/resnet.py.

CIFAR: SGD with a rho of 0.05, the paper's for CIFAR-10; for CIFAR-100 it has 0.1
(--config.sam.rho=0.1). Its nets are other ones: 97.3 % with WideResNet-28-10, crops and mirroring
(tables 1 and 6). Not measured yet with this one.

ImageNet, section 3.1 and appendix C.1: a rho of 0.05, label smoothing 0.1, weight decay 1e-4, a
cosine without a warm-up, 100 epochs. Published: 77.5 % top-1 with resnet50, and 77.1 % without SAM;
78.6 % in 200 epochs, 79.1 % in 400 (table 2). The paper has a rate of 1.0 for 4096 images, here
0.25 for 1024. Its code has Nesterov's momentum (https://github.com/google-research/sam). The paper
takes the first gradient over each accelerator's part of the batch, this one over the whole batch.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, based_on, choose

IMAGENET = {
    "model.name": "resnet50",
    "batch_size": 1024,
    "duration": "100 epochs",
    "label_smoothing": 0.1,
    "optimizer.learning_rate": 0.25,
    "optimizer.nesterov": True,
    "schedule.name": "cosine",
    "sam.rho": 0.05,
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "resnet_tiny", "sam.rho": 0.05},
        small=SMALL | {"model.name": "resnet20", "sam.rho": 0.05},
        imagenet={"v1": based_on(TORCHVISION, IMAGENET)},
    )
