r"""Fine-tuning: weights trained on many images, a new head, and the images one has.

    python train.py --config=configs/finetune.py:folder=PATH         PATH/class/*.jpg
    python train.py --config=configs/finetune.py:folder=PATH --config.init_from=PATH/weights.pth
    python train.py --config=configs/finetune.py:folder=PATH --config.model.name=convnext_tiny
    python train.py --config=configs/finetune.py:folder=PATH \
        --config.model.name=resnet20 --config.init_from=runs/mine --config.data.image_size=64
    python train.py --config=configs/finetune.py                     the digits, from scratch

`init_from` takes a file of weights (.pth, .safetensors), the folder of a run, one of its
checkpoints/STEP, or a published name, which is looked for where torch keeps its files and else
downloaded: "imagenet" for the model's own, "resnet50.IMAGENET1K_V1" for certain ones. On a machine
without a network, such as a Kaggle notebook, give the path of the file.

SGD with momentum serves convolutional nets and transformers alike: Kornblith et al. 2019
(https://arxiv.org/abs/1805.08974, not checked against the paper); BiT, Kolesnikov et al. 2020
(https://arxiv.org/abs/1912.11370, section 3.3: a rate of 0.003 for 512 images, lowered in steps);
ViT, Dosovitskiy et al. 2021 (https://arxiv.org/abs/2010.11929, appendix B.1.1: rates from 0.001 to
0.06 for 512 images, a cosine). The last two decay no weights: --config.optimizer.weight_decay=0.

Images are prepared as for the weights: their size, what is cut of them, bilinearly or bicubically,
and how pixels are normalised are published with them, or those of the run that the weights are of.
What --config.data sets goes before.

Uneven classes weigh alike in the loss; --config.class_weights=none --config.data.sampling=balanced
draws them alike instead. --config.model.freeze_norm keeps the statistics of `init_from`, which
small batches would spoil.

Everything trains at one rate. A slower backbone, or one that stays as it is (the head of ResNet is
called fc; patterns are of torch's names):

    --config.optimizer.rates="('^(?!fc)=0.1',)"          --config.optimizer.freeze="('^(?!fc)',)"

Measured with seed 0 (n = 1) on 4,317 photographs of five flowers, of which 863 validate: the net of
configs/cifar10_fast.py at 40 pixels for 8 epochs reaches 71.2 % from its weights for CIFAR-10
(85.0 % there), in 13 minutes, and 64.8 % from scratch with a rate of 0.05, in 10, on two cores of a
machine that did other work besides. No weights of ImageNet could be had there.
"""

from flaxzoo.config import PHOTOGRAPHS, Config
from flaxzoo.recipes import DIGITS, Settings, choose_model, config_of, parse

FINETUNE: Settings = {
    "init_from": "imagenet",
    "batch_size": 32,
    "duration": "30 epochs",
    "class_weights": "balanced",
    "model.name": "resnet50",
    "optimizer.learning_rate": 0.01,
    "optimizer.nesterov": True,
    "optimizer.weight_decay": 1e-4,
    "schedule.name": "cosine",
    "schedule.warmup": "2 epochs",
}
# A small net on 8x8 pixels, to try the recipe: there are no weights to start from.
ON_DIGITS = DIGITS | {
    "batch_size": 32,
    "duration": "10 epochs",
    "class_weights": "balanced",
    "model.name": "resnet_tiny",
    "optimizer.learning_rate": 0.05,
    "optimizer.weight_decay": 1e-4,
    "schedule.warmup": "1 epochs",
}


def get_config(arg: str = "digits") -> Config:
    """Returns the recipe for a data set: its name, folder=PATH or another kind of flaxzoo.data."""
    source, options = parse(arg, ("model",))
    settings = ON_DIGITS if source == "digits" else FINETUNE | pixels(source)
    return config_of(source, choose_model(settings, options))


def pixels(source: str) -> Settings:
    """Images as the weights know them; arrays are enlarged to 224 pixels.

    A fifth of few images is held out, since a tenth tells little.
    """
    flip = source not in ("mnist", "fashion_mnist")
    as_weights = {"data.mean": (), "data.std": (), "augment.flip": flip}
    if source.partition("=")[0] in PHOTOGRAPHS:
        return as_weights | {"data.crop": "random_resized", "data.validation": 0.2}
    return as_weights | {"data.image_size": 224}
