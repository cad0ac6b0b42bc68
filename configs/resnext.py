r"""ResNeXt (Xie et al. 2016, https://arxiv.org/abs/1611.05431).

    python train.py --config=configs/resnext.py                      the bundled digits
    python train.py --config=configs/resnext.py:cifar10              ResNeXt-29, 8x64d
    python train.py --config=configs/resnext.py:imagenet2012         ResNeXt-50, 32x4d
    python train.py --config=configs/resnext.py:folder=PATH          images by class
    python train.py --config=configs/resnext.py:npz=PATH             arrays in Keras's form

The CIFAR recipe is section 5.3's: 300 epochs in batches of 128, rate 0.1, divided by 10 at 150 and
225, weight decay 5e-4, crops from 4 pixels of padding, mirroring. Published: 3.65 % test error on
CIFAR-10 (the paper's table 7), on all 50,000 training images; this one holds out `data.validation`.

The ImageNet recipe is section 4's: batches of 256, rate 0.1, divided by 10 at 30, 60 and 90 epochs,
weight decay 1e-4, crops of random scale and aspect ratio. Published: 22.2 % top-1 error, one
224-pixel centre crop (the paper's table 3).
"""

from flaxzoo.config import (
    AugmentConfig,
    Config,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    data_config,
)


def get_config(source: str = "digits") -> Config:
    """Returns the recipe for a data set: its name, folder=PATH, npz=PATH or tfds=NAME."""
    if source == "digits":
        return digits()
    if source == "imagenet2012":
        return imagenet(source)
    if source.startswith(("folder=", "tfds=")):
        return photographs(source)
    return cifar(source)


def digits() -> Config:
    """A small net on 8x8 pixels. No mirroring: a mirrored 2 is no digit."""
    return Config(
        batch_size=64,
        duration="30 epochs",
        data=data_config("digits"),
        augment=AugmentConfig(shift=1),
        model=ModelConfig(name="resnext_tiny"),
        optimizer=OptimizerConfig(learning_rate=0.1, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleConfig(name="cosine", warmup="2 epochs"),
    )


def cifar(source: str) -> Config:
    """Section 5.3, for CIFAR and for other small images.

    Others than CIFAR get the smaller of the paper's nets, and are not mirrored: they may be digits.
    """
    photographs = source in ("cifar10", "cifar100")
    return Config(
        batch_size=128,
        duration="300 epochs",
        data=data_config(source),
        augment=AugmentConfig(flip=photographs, shift=4),
        model=ModelConfig(name="resnext29_8x64d" if photographs else "resnext29_2x64d"),
        optimizer=OptimizerConfig(learning_rate=0.1, weight_decay=5e-4),
        schedule=ScheduleConfig(name="multistep", milestones=("150 epochs", "225 epochs")),
    )


def imagenet(source: str) -> Config:
    """Section 4."""
    return Config(
        batch_size=256,
        duration="100 epochs",
        data=data_config(source, image_size=224, crop="random_resized", validation=0.01, workers=8),
        augment=AugmentConfig(flip=True),
        model=ModelConfig(name="resnext50_32x4d"),
        optimizer=OptimizerConfig(learning_rate=0.1, weight_decay=1e-4),
        schedule=ScheduleConfig(
            name="multistep", milestones=("30 epochs", "60 epochs", "90 epochs")
        ),
    )


def photographs(source: str) -> Config:
    """Any folder of images, from scratch: ImageNet's recipe for some thousands of images.

    The rate is scaled with the batch (Goyal et al. 2017, https://arxiv.org/abs/1706.02677).
    """
    return Config(
        batch_size=64,
        duration="60 epochs",
        data=data_config(source, image_size=224, crop="random_resized"),
        augment=AugmentConfig(flip=True),
        model=ModelConfig(name="resnext50_32x4d"),
        optimizer=OptimizerConfig(learning_rate=0.025, nesterov=True, weight_decay=1e-4),
        schedule=ScheduleConfig(name="cosine", warmup="3 epochs"),
    )
