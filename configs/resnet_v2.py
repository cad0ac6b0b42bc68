"""ResNet V2, with norms before convolutions (He et al. 2016, https://arxiv.org/abs/1603.05027).

    python train.py --config=configs/resnet_v2.py   the bundled digits
    python train.py --config=configs/resnet_v2.py:cifar10
    python train.py --config=configs/resnet_v2.py:imagenet2012

Small images: resnetv2_50 with a stem that keeps their size. The paper's nets for CIFAR are others.

ImageNet: torchvision's defaults, which are the paper's (its appendix: batches of 256, rate 0.1
without a warm-up, divided by 10 at 30 and 60 epochs, weight decay 1e-4; how many epochs in all, it
does not say). Not measured yet, and torchvision has no such net. TensorFlow's slim publishes 75.6 %
for 50, 77.0 % for 101 and 77.8 % for 152 layers, all with another training and evaluated on 299
pixels (https://github.com/tensorflow/models/tree/master/research/slim).
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, choose


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_resnet_v2", "model.stem": "cifar"},
        small=SMALL | {"model.name": "resnetv2_50", "model.stem": "cifar"},
        imagenet={"v1": TORCHVISION | {"model.name": "resnetv2_50"}},
    )
