"""Network in network (Lin et al. 2013, https://arxiv.org/abs/1312.4400).

    python train.py --config=configs/nin.py   the bundled digits
    python train.py --config=configs/nin.py:cifar10
    python train.py --config=configs/nin.py:imagenet2012

The paper does not publish its rate, which it divides by 10 when accuracy stalls, and has 91.19 % on
CIFAR-10 with crops and mirroring, 64.32 % on CIFAR-100 without, both after whitening the pixels.
Not checked against the paper: any of this, only against summaries of it. Here CIFAR has a rate of
0.02 and a cosine; not measured yet.

ImageNet: torchvision's recipe for nets without batch normalisation. The paper has no figure and
torchvision no such net; not measured yet.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS_ADAMW, SMALL, TORCHVISION, choose, upsampled


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS_ADAMW
        | upsampled(16)
        | {"model.name": "test_nin", "model.options": ("dropout=0.0",)},
        small=SMALL
        | {"model.name": "nin_cifar10", "data.image_size": 32, "optimizer.learning_rate": 0.02},
        imagenet={
            "v1": TORCHVISION | {"model.name": "nin_imagenet", "optimizer.learning_rate": 0.01}
        },
    )
