"""ResMLP (Touvron et al. 2021, https://arxiv.org/abs/2105.03404).

    python train.py --config=configs/resmlp.py           the bundled digits
    python train.py --config=configs/resmlp.py:cifar10   enlarged to 64 pixels
    python train.py --config=configs/resmlp.py:imagenet2012

ImageNet: DeiT's recipe with LAMB at a rate of 5e-3, weight decay 0.2 and 400 epochs, as in the
paper, whose batches are not known to be of 1024. Published: resmlp_12_224 76.6 %, resmlp_24_224
79.4 %, resmlp_36_224 79.7 % top-1 (its table 1); timm's files have 76.66 %, 79.38 % and 79.77 %.

Small images are enlarged to 64 pixels, 16 patches.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DEIT, DIGITS_ADAMW, SMALL, SMALL_ADAMW, based_on, choose, upsampled


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS_ADAMW | upsampled(32) | {"model.name": "test_resmlp"},
        small=based_on(SMALL, SMALL_ADAMW) | {"model.name": "resmlp_12_224", "data.image_size": 64},
        imagenet={
            "v1": based_on(
                DEIT,
                {
                    "model.name": "resmlp_12_224",
                    "optimizer.name": "lamb",
                    "optimizer.learning_rate": 5e-3,
                    "optimizer.weight_decay": 0.2,
                    "optimizer.decay_on": "weights",
                    "duration": "400 epochs",
                },
            )
        },
    )
