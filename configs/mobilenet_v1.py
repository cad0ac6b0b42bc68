"""MobileNet (Howard et al. 2017, https://arxiv.org/abs/1704.04861).

    python train.py --config=configs/mobilenet_v1.py   the bundled digits
    python train.py --config=configs/mobilenet_v1.py:cifar10
    python train.py --config=configs/mobilenet_v1.py:imagenet2012

ImageNet: torchvision's recipe for MobileNetV2 (configs/mobilenet_v2.py), since the paper's RMSprop
has no published rates (section 3.2, which has next to no weight decay on depthwise filters, too).
The paper publishes 70.6 % top-1 for mobilenetv1_100, 68.4 % for 075, 63.7 % for 050 and 50.6 % for
025 (table 6). Not measured yet with this recipe.

Small images: a stem that keeps their size.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, MOBILENET, SMALL, choose


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_mobilenet_v1", "model.stem": "cifar"},
        small=SMALL | {"model.name": "mobilenetv1_100", "model.stem": "cifar"},
        imagenet={"v1": MOBILENET | {"model.name": "mobilenetv1_100"}},
    )
