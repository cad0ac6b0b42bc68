"""MnasNet (Tan et al. 2018, https://arxiv.org/abs/1807.11626).

    python train.py --config=configs/mnasnet.py   the bundled digits
    python train.py --config=configs/mnasnet.py:cifar10
    python train.py --config=configs/mnasnet.py:imagenet2012
    python train.py --config=configs/mnasnet.py:imagenet2012,recipe=v2

ImageNet, section 5: RMSprop with decay and momentum 0.9, weight decay 1e-5, a warm-up of 5 epochs
to a rate of 0.256 for 4096 images (here 0.064 for 1024), times 0.97 every 2.4 epochs, dropout of
0.2; from the authors' code 350 epochs, label smoothing 0.1, an average of the weights (0.9999).
Published: 74.0 % top-1 in the abstract of the first version; the last one's 75.2 % is of a net with
squeeze and excitation. torchvision's files: mnasnet1_0 73.46 % and mnasnet0_5 67.73 %, trained
otherwise (https://github.com/pytorch/vision/pull/829), mnasnet0_75 71.18 % and mnasnet1_3 76.51 %
with its new recipe on 176 pixels, which is v2 here (https://github.com/pytorch/vision/pull/6019).

Small images: a stem that keeps their size, and batch normalisation with a momentum of 0.1. The
net's own of 3e-4 takes ten thousand steps, which the digits do not last.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, MNASNET, NEW_RECIPE_176, SMALL, choose

ON_SMALL = {"model.stem": "cifar", "model.norm_momentum": 0.1}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | ON_SMALL | {"model.name": "test_mnasnet"},
        small=SMALL | ON_SMALL | {"model.name": "mnasnet1_0", "optimizer.weight_decay": 1e-4},
        imagenet={
            "v1": MNASNET | {"model.name": "mnasnet1_0"},
            "v2": NEW_RECIPE_176 | {"model.name": "mnasnet1_3"},
        },
    )
