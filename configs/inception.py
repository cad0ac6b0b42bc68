"""Inception V3 (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567).

    python train.py --config=configs/inception.py   the bundled digits
    python train.py --config=configs/inception.py:cifar10
    python train.py --config=configs/inception.py:imagenet2012

ImageNet, sections 7 and 8 of the paper: RMSprop with decay 0.9 and eps 1.0, rate 0.045, times 0.94
every two epochs, gradients clipped to a norm of 2, label smoothing 0.1, 100 epochs on 299 pixels.
The paper's 50 replicas have 32 images each; here a batch has 256. Weight decay, of which it does
not say anything, is 4e-5 by the paper of Xception (section 4.3). It evaluates an average of the
weights and does not say how long a one, so none is kept here. Published: 78.8 % top-1, one crop, on
the 48,238 images of the validation set that are not blacklisted (sections 10 and 11); torchvision's
weights are ported: 77.29 %. Not measured yet with this recipe.

Small images: a stem that keeps their size, and no auxiliary head, which is made for 299 pixels.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DIGITS, SMALL, TORCHVISION, based_on, choose, upsampled

IMAGENET = {
    "model.name": "inception_v3",
    "data.image_size": 299,
    "duration": "100 epochs",
    "label_smoothing": 0.1,
    "optimizer.name": "rmsprop_tf",
    "optimizer.learning_rate": 0.045,
    "optimizer.alpha": 0.9,
    "optimizer.eps": 1.0,
    "optimizer.weight_decay": 4e-5,
    "optimizer.decay_on": "weights",
    "optimizer.clip_norm": 2.0,
    "schedule.name": "step",
    "schedule.every": "2 epochs",
    "schedule.gamma": 0.94,
}


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS
        | upsampled(32)
        | {"model.name": "test_inception", "model.options": ("aux_logits=False",)},
        small=SMALL
        | {
            "model.name": "inception_v3",
            "model.stem": "cifar",
            "model.options": ("aux_logits=False",),
        },
        imagenet={"v1": based_on(TORCHVISION, IMAGENET)},
    )
