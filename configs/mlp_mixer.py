"""MLP-Mixer (Tolstikhin et al. 2021, https://arxiv.org/abs/2105.01601).

    python train.py --config=configs/mlp_mixer.py           the bundled digits
    python train.py --config=configs/mlp_mixer.py:cifar10   enlarged to 64 pixels
    python train.py --config=configs/mlp_mixer.py:imagenet2012

ImageNet: DeiT's recipe, which serves ResMLP and gMLP as well. The paper publishes 76.44 % top-1 for
mixer_b16_224 trained on ImageNet alone (section 3.2), with a recipe of its own: 4096 images, Adam
with a rate that falls in a line, weight decay 0.1, mixup 0.5, stochastic depth 0.1 (section 3, and
configs/mlp_mixer_i1k.py of https://github.com/google-research/big_vision, which says 76.3 %). Not
measured yet with this one.

Small images are enlarged to 64 pixels, 16 patches.
"""

from flaxzoo.config import Config
from flaxzoo.recipes import DEIT, DIGITS_ADAMW, SMALL, SMALL_ADAMW, based_on, choose, upsampled


def get_config(arg: str = "digits") -> Config:
    return choose(
        arg,
        digits=DIGITS_ADAMW | upsampled(32) | {"model.name": "test_mlp_mixer"},
        small=based_on(SMALL, SMALL_ADAMW) | {"model.name": "mixer_s16_224", "data.image_size": 64},
        imagenet={
            "v1": based_on(
                DEIT, {"model.name": "mixer_b16_224", "model.options": ("stochastic_depth=0.1",)}
            )
        },
    )
