"""EfficientNetV2 (Tan and Le 2021, https://arxiv.org/abs/2104.00298).

    python train.py --config=configs/efficientnet_v2.py   the bundled digits
    python train.py --config=configs/efficientnet_v2.py:cifar10
    python train.py --config=configs/efficientnet_v2.py:imagenet2012,model=efficientnet_v2_m

ImageNet: torchvision's new recipe. efficientnet_v2_s trains on 300 pixels and is evaluated on 384:
84.23 % top-1; efficientnet_v2_m on 384 and 480: 85.11 %. efficientnet_v2_l has the sizes of m,
pixels from -1 to 1, and no accuracy published with it: torchvision's file, 85.81 %, is the
authors'. The paper's images grow in four stages instead, those of s from 128 pixels to 300 (its
table 6): --config.data.train_sizes="(128,185,243,300)".

Small images: a stem that keeps their size.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, NEW_RECIPE, SMALL, choose

ON_384 = {"data.train_sizes": (384,)}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_efficientnet", "model.stem": "cifar"},
        small=SMALL
        | {
            "model.name": "efficientnet_v2_s",
            "model.stem": "cifar",
            "optimizer.weight_decay": 1e-4,
        },
        imagenet={
            "v1": NEW_RECIPE | {"model.name": "efficientnet_v2_s", "data.train_sizes": (300,)}
        },
        variants={"v1": dict.fromkeys(("efficientnet_v2_m", "efficientnet_v2_l"), ON_384)},
    )
