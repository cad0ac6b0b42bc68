"""EfficientNet (Tan and Le 2019, https://arxiv.org/abs/1905.11946).

    python train.py --config=configs/efficientnet.py   the bundled digits
    python train.py --config=configs/efficientnet.py:cifar10
    python train.py --config=configs/efficientnet.py:imagenet2012,model=efficientnet_b3

ImageNet, section 5.2: RMSprop with decay and momentum 0.9, weight decay 1e-5, rate 0.256 for 4096
images (here 0.064 for 1024), times 0.97 every 2.4 epochs, AutoAugment, dropout from 0.2 to 0.5 and
stochastic depth, which the variants have. The authors' code has the rest: 350 epochs, a warm-up of
5, label smoothing 0.1, an average of the weights (0.9999 in every step), the sizes of images. The
paper stops early, by 25,000 images held out. Published: b0 77.1 %, b1 79.1 %, b2 80.1 %, b3 81.6 %,
b4 82.9 %, b5 83.6 %, b6 84.0 %, b7 84.3 % top-1 (table 2), each at its size of image; torchvision's
b0, which timm trained, 77.69 %. Images are evaluated as torchvision does, which has
the paper's sizes, but 288 pixels for b2, which trains on the paper's 260.

Small images: a stem that keeps their size.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, MNASNET, SMALL, choose

IMAGENET = {
    "model.name": "efficientnet_b0",
    "augment.policy": "autoaugment_imagenet",
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_efficientnet", "model.stem": "cifar"},
        small=SMALL
        | {"model.name": "efficientnet_b0", "model.stem": "cifar", "optimizer.weight_decay": 1e-4},
        imagenet={"v1": MNASNET | IMAGENET},
        variants={"v1": {"efficientnet_b2": {"data.train_sizes": (260,)}}},
    )
