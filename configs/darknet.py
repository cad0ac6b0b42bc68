"""Darknet-19 and -53 (Redmon and Farhadi 2016 and 2018, https://arxiv.org/abs/1612.08242).

    python train.py --config=configs/darknet.py   the bundled digits
    python train.py --config=configs/darknet.py:cifar10
    python train.py --config=configs/darknet.py:imagenet2012,model=darknet53

ImageNet, section 3 of the paper: 160 epochs of SGD at a rate of 0.1, which falls as the fourth
power of what is left, weight decay 5e-4, random crops, and shifts of hue, saturation and exposure;
it turns images a little as well, which is not done here. Sizes of these and of batches, 128, are
near those of cfg/darknet19.cfg and darknet53.cfg (https://github.com/pjreddie/darknet), which warm
up for 1,000 steps, too. Published: darknet19 72.9 % top-1 on 224 pixels; darknet53 77.2 % on 256,
one crop (https://arxiv.org/abs/1804.02767, table 2).
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, based_on, choose

IMAGENET = {
    "model.name": "darknet19",
    "batch_size": 128,
    "duration": "160 epochs",
    "augment.hue": 0.1,
    "augment.saturation": 0.25,
    "augment.brightness": 0.25,
    "optimizer.weight_decay": 5e-4,
    "schedule.name": "polynomial",
    "schedule.power": 4.0,
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS | {"model.name": "test_darknet"},
        small=SMALL
        | {"model.name": "darknet19", "data.image_size": 32, "optimizer.learning_rate": 0.05},
        imagenet={"v1": based_on(TORCHVISION, IMAGENET)},
        variants={"v1": {"darknet53": {"data.image_size": 256}}},
    )
