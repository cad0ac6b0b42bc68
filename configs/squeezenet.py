"""SqueezeNet (Iandola et al. 2016, https://arxiv.org/abs/1602.07360).

    python train.py --config=configs/squeezenet.py   the bundled digits
    python train.py --config=configs/squeezenet.py:cifar10
    python train.py --config=configs/squeezenet.py:imagenet2012

ImageNet: the solver that its authors published for 1.0, on 227 pixels
(https://github.com/forresti/SqueezeNet): 170,000 steps of 512 images, a rate that falls from 0.04
to 0 in a line, weight decay 2e-4. Published: squeezenet1_0 57.5 % in the paper, 58.09 % for
torchvision's file; squeezenet1_1 58.18 %. Not checked against the paper: 57.5 %, which that of
ShuffleNet quotes (table 6).

Small images: a stem that keeps their size. No batch normalisation, hence the low rate, and AdamW on
the digits.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS_ADAMW, SMALL, TORCHVISION, based_on, choose, upsampled

IMAGENET = {
    "model.name": "squeezenet1_1",
    "batch_size": 512,
    "duration": "170000 steps",
    "optimizer.learning_rate": 0.04,
    "optimizer.weight_decay": 2e-4,
    "schedule.name": "linear",
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS_ADAMW
        | upsampled(16)
        | {"model.name": "test_squeezenet", "model.stem": "cifar", "duration": "30 epochs"},
        small=SMALL
        | {"model.name": "squeezenet1_1", "model.stem": "cifar", "optimizer.learning_rate": 0.02},
        imagenet={"v1": based_on(TORCHVISION, IMAGENET)},
    )
