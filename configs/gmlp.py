"""gMLP (Liu et al. 2021, https://arxiv.org/abs/2105.08050).

    python train.py --config=configs/gmlp.py           the bundled digits
    python train.py --config=configs/gmlp.py:cifar10   enlarged to 64 pixels
    python train.py --config=configs/gmlp.py:imagenet2012

ImageNet: DeiT's recipe with AutoAugment, gradients clipped to a norm of 1 and no random erasing, as
in the paper (its appendix A), whose batches have 4096 images and not 1024. It publishes
gmlp_ti16_224 72.3 %, gmlp_s16_224 79.6 % and gmlp_b16_224 81.6 % top-1 (its table 2); timm's
gmlp_s16_224 has 79.65 %. Stochastic depth is the paper's (its table 1): 0 for ti16, 0.05 for s16,
0.2 for b16. Not checked against the paper: its appendix A; and its tables only as others quote
them. Not measured yet with this recipe.

Small images are enlarged to 64 pixels, 16 patches.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DEIT, DIGITS_ADAMW, SMALL, SMALL_ADAMW, based_on, choose, upsampled


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS_ADAMW | upsampled(32) | {"model.name": "test_gmlp"},
        small=based_on(SMALL, SMALL_ADAMW) | {"model.name": "gmlp_ti16_224", "data.image_size": 64},
        imagenet={
            "v1": based_on(
                DEIT,
                {
                    "model.name": "gmlp_s16_224",
                    "model.options": ("stochastic_depth=0.05",),
                    "augment.policy": "autoaugment_imagenet",
                    "augment.erase": 0.0,
                    "optimizer.clip_norm": 1.0,
                },
            )
        },
        variants={
            "v1": {
                "gmlp_ti16_224": {"model.options": ()},
                "gmlp_b16_224": {"model.options": ("stochastic_depth=0.2",)},
            }
        },
    )
