"""ResMLP (Touvron et al. 2021, https://arxiv.org/abs/2105.03404).

    python train.py --config=configs/resmlp.py           the bundled digits
    python train.py --config=configs/resmlp.py:cifar10   enlarged to 64 pixels
    python train.py --config=configs/resmlp.py:imagenet2012

ImageNet, section 3.1: DeiT's recipe, its stochastic depth of 0.1 included, with LAMB at a rate of
5e-3 and weight decay 0.2, for 400 epochs (table 3). Published: resmlp_12_224 76.6 %, resmlp_24_224
79.4 %, resmlp_36_224 79.7 %, resmlp_big_24_224 81.0 % top-1, the last with patches of 8 pixels
(tables 3 and D.3); timm's files have 76.66 %, 79.38 %, 79.77 % and 81.03 %. All are evaluated on
crops of nine tenths (https://github.com/facebookresearch/deit, README_resmlp.md); this one has
seven eighths, as timm's figures.

Small images are enlarged to 64 pixels, 16 patches.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DEIT, DIGITS_ADAMW, SMALL, SMALL_ADAMW, based_on, choose, upsampled

DEPTH = {"model.options": ("stochastic_depth=0.1",)}
NETS = ("resmlp_12_224", "resmlp_24_224", "resmlp_36_224", "resmlp_big_24_224")


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
        variants={"v1": dict.fromkeys(NETS, DEPTH)},
    )
