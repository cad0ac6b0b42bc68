"""VGG (Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556).

    python train.py --config=configs/vgg.py           the bundled digits
    python train.py --config=configs/vgg.py:cifar10   VGG-16 with batch normalisation
    python train.py --config=configs/vgg.py:imagenet2012,model=vgg16

ImageNet: torchvision's defaults, at a rate of 0.01 where there is no batch normalisation. Published
with them: vgg11_bn 70.37 %, vgg13_bn 71.59 %, vgg16_bn 73.36 %, vgg19_bn 74.22 % top-1; vgg11
69.02 %, vgg13 69.93 %, vgg16 71.59 %, vgg19 72.38 %.

Small images: VGG-16 with batch normalisation, on 32 pixels.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, choose, upsampled


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | upsampled(16) | {"model.name": "test_vgg", "optimizer.learning_rate": 0.05},
        small=SMALL
        | {"model.name": "vgg16_bn", "data.image_size": 32, "optimizer.learning_rate": 0.05},
        imagenet={"v1": TORCHVISION | {"model.name": "vgg16_bn"}},
        variants={
            "v1": {
                name: {"optimizer.learning_rate": 0.01}
                for name in ("vgg11", "vgg13", "vgg16", "vgg19")
            }
        },
    )
