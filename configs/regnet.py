"""RegNet (Radosavovic et al. 2020, https://arxiv.org/abs/2003.13678).

    python train.py --config=configs/regnet.py   the bundled digits
    python train.py --config=configs/regnet.py:cifar10
    python train.py --config=configs/regnet.py:imagenet2012,model=regnet_x_8gf
    python train.py --config=configs/regnet.py:imagenet2012,recipe=v2

ImageNet, recipe v1: torchvision's, 100 epochs, a warm-up of 5 from a tenth of the rate, a cosine,
weight decay 5e-5; the rate is 0.2 for 256 images, and batches are smaller for larger nets.
Published: regnet_y_400mf 74.05 % (at a rate of 0.4 for 1024), 800mf 76.42 %, 1_6gf 77.95 %, 3_2gf
78.95 %, 8gf 80.03 %, 16gf 80.42 %, 32gf 80.88 %; regnet_x_400mf 72.83 %, 800mf 75.21 %, 1_6gf
77.04 %, 3_2gf 78.36 %, 8gf 79.34 %, 16gf 80.06 %, 32gf 80.62 %.

ImageNet, recipe v2: torchvision's new recipe. Published: regnet_y_400mf 75.80 %, 800mf 78.83 %,
1_6gf 80.88 %, 3_2gf 81.98 %, 8gf 82.83 %, 16gf 82.89 %, 32gf 83.37 %; the regnet_x up to 1_6gf were
trained on 176 pixels: 74.86 %, 77.52 %, 79.67 %; 3_2gf 81.20 %, 8gf 81.68 %, 16gf 82.72 %, 32gf
83.01 %.

Small images: a stem that keeps their size.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, NEW_RECIPE, SMALL, TORCHVISION, based_on, choose

RATE = {  # for 256 images
    "optimizer.learning_rate": 0.2,
    "optimizer.weight_decay": 5e-5,
    "duration": "100 epochs",
    "schedule.name": "cosine",
    "schedule.warmup": "5 epochs",
    "schedule.warmup_factor": 0.1,
}
SMALL_NETS = {"batch_size": 1024, "optimizer.learning_rate": 0.8}
MEDIUM_NETS = {"batch_size": 512, "optimizer.learning_rate": 0.4}
V1 = {
    "regnet_y_400mf": {"batch_size": 1024, "optimizer.learning_rate": 0.4},
    **dict.fromkeys(("regnet_y_800mf", "regnet_y_1_6gf"), SMALL_NETS),
    **dict.fromkeys(("regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf"), SMALL_NETS),
    **dict.fromkeys(("regnet_y_3_2gf", "regnet_y_8gf"), MEDIUM_NETS),
    **dict.fromkeys(("regnet_x_3_2gf", "regnet_x_8gf", "regnet_x_16gf"), MEDIUM_NETS),
}
ON_176 = ("regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf")
IMAGENET = {
    "v1": based_on(TORCHVISION, RATE) | {"model.name": "regnet_y_400mf"},
    "v2": NEW_RECIPE | {"model.name": "regnet_y_400mf"},
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_regnet", "model.stem": "cifar"},
        small=SMALL
        | {"model.name": "regnet_y_400mf", "model.stem": "cifar", "optimizer.weight_decay": 1e-4},
        imagenet=IMAGENET,
        variants={"v1": V1, "v2": {name: {"data.train_sizes": (176,)} for name in ON_176}},
    )
