"""GoogLeNet with batch normalisation (Szegedy et al. 2014, https://arxiv.org/abs/1409.4842).

    python train.py --config=configs/googlenet.py   the bundled digits
    python train.py --config=configs/googlenet.py:cifar10
    python train.py --config=configs/googlenet.py:imagenet2012

ImageNet: torchvision's defaults. The paper (section 6) trains asynchronously, lowers the rate by
4 % every 8 epochs and does not say from what, so it cannot be repeated; torchvision's weights are
ported: 69.78 % top-1. Not measured yet with this recipe.

Small images: a stem that keeps their size, and no auxiliary heads, which are made for 224 pixels.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, choose, upsampled


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS
        | upsampled(16)
        | {
            "model.name": "test_googlenet",
            "model.stem": "cifar",
            "model.options": ("aux_logits=False",),
        },
        small=SMALL
        | {
            "model.name": "googlenet",
            "model.stem": "cifar",
            "model.options": ("aux_logits=False",),
        },
        imagenet={"v1": TORCHVISION | {"model.name": "googlenet"}},
    )
