"""CIFAR-10 in half an hour on two CPU cores.

    python train.py --config=configs/cifar10_fast.py:cifar10
    python train.py --config=configs/cifar10_fast.py:npz=PATH    CIFAR-10 as a .npz file
    python train.py --config=configs/cifar10_fast.py             the bundled digits

ResNet-18 with a quarter of its channels and a stem that keeps 32 pixels; eight epochs in which the
images grow from 16 pixels to 32 (Tan and Le 2021, https://arxiv.org/abs/2104.00298), with a rate
that falls to 0 in a line. Measured with benchmarks/cifar10_fast.py on an x86_64 machine: 85.0, 85.0
and 85.4 % on the first 1,000 test images (seeds 0 to 2; standard error of each 1.1). Seed 0 took
23 min 29 s with compilation on two cores that did other work besides; the others, side by side on a
core each, 35 and 37 minutes. PyTorch, by the same recipe on the same batches: 86.1 % (seed 0) in
15 min 9 s, on two cores with less beside.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, based_on, choose

FAST = {
    "batch_size": 128,
    "duration": "8 epochs",
    "label_smoothing": 0.1,
    "eval_every": "25%",
    "checkpoint.every": "25%",
    "augment.shift": 2,
    "data.image_size": 32,
    "data.validation": 0.02,
    "data.train_sizes": (16, 16, 20, 24, 32),
    "model.name": "resnet18",
    "model.stem": "cifar",
    "model.options": ("planes=16",),
    "optimizer.learning_rate": 0.2,
    "optimizer.nesterov": True,
    "optimizer.weight_decay": 5e-4,
    "optimizer.decay_on": "weights",
    "schedule.name": "linear",
    "schedule.warmup": "15%",
    "ema.decay": 0.995,
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "resnet_tiny"},
        small=based_on(SMALL, FAST) | {"augment.flip": not arg.startswith("mnist")},
        imagenet={"v1": TORCHVISION | {"model.name": "resnet18"}},
    )
