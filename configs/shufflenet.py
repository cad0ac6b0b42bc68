"""ShuffleNet (Zhang et al. 2017, https://arxiv.org/abs/1707.01083).

    python train.py --config=configs/shufflenet.py   the bundled digits
    python train.py --config=configs/shufflenet.py:cifar10
    python train.py --config=configs/shufflenet.py:imagenet2012

ImageNet, section 4: 300,000 steps of 1024 images, a rate that falls from 0.5 to 0 in a line, weight
decay 4e-5. Its milder crops are not repeated here, since it does not say how mild. Published:
shufflenet_v1_g3_x1_0 67.4 %, g3_x1_5 71.5 %, g3_x2_0 73.7 % top-1 (tables 3 and 5).

Small images: a stem that keeps their size.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SHUFFLENET, SMALL, choose


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_shufflenet_v1", "model.stem": "cifar"},
        small=SMALL | {"model.name": "shufflenet_v1_g3_x1_0", "model.stem": "cifar"},
        imagenet={"v1": SHUFFLENET | {"model.name": "shufflenet_v1_g3_x1_0"}},
    )
