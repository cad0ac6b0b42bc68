"""ConvNeXt (Liu et al. 2022, https://arxiv.org/abs/2201.03545).

    python train.py --config=configs/convnext.py                the bundled digits
    python train.py --config=configs/convnext.py:cifar10
    python train.py --config=configs/convnext.py:imagenet2012   ConvNeXt-T
    python train.py --config=configs/convnext.py:imagenet2012,model=convnext_base

ImageNet: torchvision's recipe, its new one with AdamW at 1e-3 for 1024 images and weight decay
0.05, on 176 pixels. Published: convnext_tiny 82.52 %, small 83.62 %, base 84.06 %, large 84.41 %
top-1; the size to which images are reduced before the centre crop was chosen afterwards, for each
variant.

Small images: a stem that keeps their size.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS_ADAMW, NEW_RECIPE_176, SMALL, SMALL_ADAMW, based_on, choose

IMAGENET = {
    "model.name": "convnext_tiny",
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 1e-3,
    "optimizer.weight_decay": 0.05,
    "optimizer.decay_on": "weights",
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS_ADAMW | {"model.name": "test_convnext", "model.stem": "cifar"},
        small=based_on(SMALL, SMALL_ADAMW) | {"model.name": "convnext_tiny", "model.stem": "cifar"},
        imagenet={"v1": based_on(NEW_RECIPE_176, IMAGENET)},
    )
