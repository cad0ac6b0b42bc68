"""What a run is: typed dataclasses that a config file fills and the command line overrides.

Every field can be set as `--config.field=value` or `--config.group.field=value`. The classes have
slots, so a misspelt name is an error wherever it is written. What values a field may have is in
flaxzoo.check_config.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class DataConfig:
    """What is read, and what the host does to it before the device gets it as uint8."""

    source: str = "digits"  # digits, cifar10, ..., folder=PATH, csv=PATH, ...: see flaxzoo.data
    # Height and width that the model sees; 0 for the larger side of stored arrays, and of files for
    # the size that the weights of init_from were made for.
    image_size: int = 0
    train_sizes: tuple[int, ...] = ()  # of training images, in equal parts of the run
    crop: str = "resize"  # training crops of streamed images: resize, center or random_resized
    sampling: str = "shuffle"  # each image once an epoch; or "balanced": each class equally often
    # Evaluation: short side before the centre crop; 0 for that of init_from's weights, where they
    # have this image_size, and else for image_size / 0.875.
    resize: int = 0
    interpolation: str = ""  # bilinear or bicubic; "" for that of init_from's weights, or bilinear
    validation: float = 0.1  # fraction of the training split held out to validate on
    # Of pixels in 0..1, one number or one a channel; () for those of init_from's weights, or of the
    # source.
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    data_dir: str = ""  # of archives, prepared sets, images of a csv; "" for each kind's default
    workers: int = 0  # processes that decode streamed images; 0 decodes in threads
    on_error: str = "raise"  # an unreadable image stops the run, or "skip"


# Sources of photographs of any size, read from files: sets of `flaxzoo.data`, and kinds of them.
PHOTOGRAPHS = (
    "imagenet2012", "imagenette", "imagenette_320px", "imagenette_160px", "tf_flowers",
    "oxford_flowers102", "oxford_iiit_pet", "folder", "csv", "hf", "tfds",
)  # fmt: skip

# Mean and standard deviation of the training pixels in 0..1, by channel.
PIXEL_STATISTICS = {
    "digits": ((0.305,), (0.376,)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet2012": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def data_config(source: str, **fields: Any) -> DataConfig:
    """Returns the DataConfig of a source; pixels are normalised with its own statistics, if known.

    Photographs get ImageNet's, as they do everywhere; arrays get 0.5.
    """
    kind = source.partition("=")[0]
    kind = "imagenet2012" if kind in PHOTOGRAPHS else kind
    mean, std = PIXEL_STATISTICS.get(kind, ((0.5,), (0.5,)))
    return DataConfig(source=source, **{"mean": mean, "std": std} | fields)


@dataclass(slots=True, kw_only=True)
class AugmentConfig:
    """What the device does to training images, inside the step: see flaxzoo.augment.

    `python -m flaxzoo augmentations` draws what each does. Where torchvision or timm has an
    augmentation, it is theirs: RandomResizedCrop, ColorJitter, RandAugment, TrivialAugmentWide,
    AutoAugment and RandomErasing of torchvision, Mixup of timm.
    """

    flip: bool = False  # mirror half of the images, left to right
    vertical_flip: bool = False  # turn half of them upside down
    shift: int = 0  # pad by so many pixels and crop back at random (He et al. 2015, section 4.2)
    # A random box is enlarged to the size of the image: its share of the area, () for none, and its
    # width / height. Images from files have that on the host, before they lose pixels: data.crop.
    crop_scale: tuple[float, ...] = ()
    crop_ratio: tuple[float, ...] = (3 / 4, 4 / 3)
    brightness: float = 0.0  # factors from 1 - brightness to 1 + brightness
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # turns from -hue to hue of the circle, at most 0.5
    policy: str = ""  # one of POLICIES, or none
    policy_ops: int = 2  # RandAugment's operations on an image
    policy_magnitude: int = 9  # and how strong they are, 0 to 30
    mixup: float = 0.0  # alpha of Beta(alpha, alpha), from which shares are drawn; 0 for none
    cutmix: float = 0.0  # likewise; 1 is the paper's
    mix_prob: float = 1.0  # of mixing at all
    mix_switch_prob: float = 0.5  # of CutMix, where mixup is on as well
    mix_mode: str = "batch"  # one draw for the batch, a "pair" or each image: "elem"
    erase: float = 0.0  # probability that a random box is erased
    erase_value: str = "mean"  # what is there then, or "random": normal noise
    erase_scale: tuple[float, ...] = (0.02, 0.33)  # the box's share of the area
    erase_ratio: tuple[float, ...] = (0.3, 3.3)  # its height / width
    # When colours, policies, mixing and erasing stop: "90%", "280 epochs", or "" for never. Flips,
    # shifts and crops go on.
    off: str = ""


POLICIES = (
    "randaugment",
    "trivialaugment",
    "autoaugment_imagenet",
    "autoaugment_cifar10",
    "autoaugment_svhn",
)


@dataclass(slots=True, kw_only=True)
class ModelConfig:
    """The arguments of flaxzoo.create_model."""

    name: str = "resnet18"
    stem: str = ""  # "imagenet" or "cifar"; "" for the variant's own
    options: tuple[str, ...] = ()  # others that the variant takes, like "dropout=0.1"
    num_classes: int = 0  # 0 takes it from the data
    norm_momentum: float | None = (
        None  # of batch normalisation, as torch's; None: the variant's own
    )
    freeze_norm: bool = False  # batch normalisation keeps and uses the statistics of `init_from`


@dataclass(slots=True, kw_only=True)
class OptimizerConfig:
    """One of flaxzoo.training.optimizer.OPTIMIZERS, in torch's and timm's terms.

    Options that are None have the algorithm's own default; one that it lacks must not be set, or be
    0 or False. Patterns are regular expressions that are searched for in torch's names, such as
    "layer1.0.conv1.weight"; one that is found nowhere is an error.
    """

    name: str = "sgd"  # sgd, adam, adamw, rmsprop, rmsprop_tf, lamb, lars, lion or muon
    learning_rate: float = 0.1
    weight_decay: float | None = None  # of sgd: 1e-4; of others torch's and timm's
    momentum: float | None = None  # sgd, rmsprop, rmsprop_tf, lars, muon; of sgd and lars: 0.9
    nesterov: bool | None = None  # sgd, lars, muon
    betas: tuple[float, ...] | None = None  # adam, adamw, lamb, lion; muon: of its AdamW
    eps: float | None = None
    alpha: float | None = None  # rmsprop, rmsprop_tf
    centered: bool | None = None  # rmsprop, rmsprop_tf
    lr_in_momentum: bool | None = None  # rmsprop_tf
    max_grad_norm: float | None = None  # lamb; 0 for no clipping
    trust_clip: bool | None = None  # lamb
    trust_coeff: float | None = None  # lars
    always_adapt: bool | None = None  # lamb, lars: trust ratios of what does not decay, too
    adjust_lr_fn: str | None = None  # muon: original or match_rms_adamw
    decay_on: str = "all"  # parameters as torch does, or "weights": no bias, norm, token, table
    decay_exclude: tuple[str, ...] = ()  # patterns of further parameters without weight decay
    layer_decay: float = 1.0  # of the rate, once for each layer below the head (groups.layers_of)
    rates: tuple[str, ...] = ()  # "PATTERN=FACTOR" on the learning rate, like "^fc=10"
    freeze: tuple[str, ...] = ()  # patterns of parameters that are not trained
    clip_norm: float = 0.0  # of all gradients together; 0 for none, as for the next two
    clip_value: float = 0.0  # of each number
    clip_agc: float = 0.0  # of the gradient of each unit, as a fraction of its weights' norm


@dataclass(slots=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the run: see flaxzoo.training.schedule.make_schedule.

    None is the schedule's own default, and what a schedule does not take must be None; on the
    command line, `--config.schedule.gamma=None`.
    """

    name: str = "cosine"  # one of flaxzoo.training.schedule.SCHEDULES
    warmup: str = "0 steps"  # before it
    warmup_kind: str | None = None  # linear (the default) or constant
    warmup_factor: float | None = None  # of the rate: what a linear warm-up starts from, 0 if None
    min_rate: float | None = None  # the lowest; not for constant, step, multistep and one_cycle
    every: str | None = None  # step: times gamma after each; cosine_restarts: the first period
    milestones: tuple[str, ...] | None = None  # multistep: times gamma at each
    gamma: float | None = None  # step, multistep, cyclic
    growth: int | None = None  # cosine_restarts: a period over the one before
    power: float | None = None  # polynomial
    up: str | None = None  # one_cycle, cyclic: the time in which the rate rises
    down: str | None = None  # cyclic: and falls
    mode: str | None = None  # cyclic: triangular, triangular2 or exp_range
    div_factor: float | None = None  # one_cycle: the learning rate over the first rate
    final_div_factor: float | None = None  # one_cycle: the first rate over the last
    anneal: str | None = None  # one_cycle: cos or linear
    three_phase: bool | None = None  # one_cycle
    factor: float | None = None  # this and those below: plateau, see flaxzoo.training.plateau
    patience: int | None = None
    threshold: float | None = None
    threshold_mode: str | None = None  # rel or abs
    cooldown: int | None = None
    eps: float | None = None


@dataclass(slots=True, kw_only=True)
class CheckpointConfig:
    """How often checkpoints are written, and how many stay."""

    every: str = "1 epochs"
    minutes: float = 15.0  # also when so many have passed since the last one; 0: never
    keep: int = 2  # the latest so many, besides the best by validation accuracy


@dataclass(slots=True, kw_only=True)
class EmaConfig:
    """A moving average of weights and running statistics, evaluated and kept beside them."""

    decay: float = 0.0  # of the average in a step, like 0.9999; 0 keeps none
    warmup: bool = True  # a lower decay in the first steps


@dataclass(slots=True, kw_only=True)
class SamConfig:
    """Sharpness-aware minimisation around any optimizer: two gradients a step."""

    rho: float = 0.0  # how far uphill the second gradient is taken, like 0.05; 0 for none
    adaptive: bool = False  # relative to each parameter's size (ASAM), with a rho like 2


@dataclass(slots=True, kw_only=True)
class DistillConfig:
    """A teacher whose logits the model is to reach."""

    model: str = ""  # a variant; "" for no teacher
    stem: str = ""  # its stem; "" for its own
    init_from: str = ""  # its weights, as those of the model
    weight: float = 0.5  # of the distance from the teacher; the rest is the loss on the labels
    temperature: float = 1.0  # of both in the soft distance
    hard: bool = False  # the class that the teacher chooses, instead of its probabilities


@dataclass(slots=True, kw_only=True)
class LogConfig:
    """Where metrics go besides metrics.jsonl; each needs its library installed."""

    tensorboard: bool = False  # event files in WORKDIR/tensorboard
    wandb: str = ""  # a project of Weights & Biases


@dataclass(slots=True, kw_only=True)
class Config:
    """One run. Durations are written with their unit: "30 epochs", "500 steps", "5%"."""

    seed: int = 0
    init_from: str = ""  # weights to start from: a file, a run's folder, or a published name
    batch_size: int = 128  # over all devices
    duration: str = "30 epochs"
    accumulate: int = 1  # parts of a batch, computed one after the other to need less memory
    loss: str = "cross_entropy"  # or "binary_cross_entropy"
    label_smoothing: float = 0.0
    class_weights: str = "none"  # of the loss: see flaxzoo.class_weights
    dtype: str = "auto"  # float32, bfloat16, float16, or auto: bfloat16 on TPU and GPU
    remat: bool = False  # less memory for more computation: blocks run twice
    parallel: str = "jit"  # one program over a mesh of all devices, or "pmap"
    # Batches are normalised with the statistics of all devices, or "per_device": each part with its
    # own, as in torch's DistributedDataParallel, and the running ones are the mean over devices.
    batch_norm: str = "global"
    shard_params: bool = False  # split large parameters and their optimiser state over the devices
    eval_every: str = "1 epochs"
    log_every: str = "10 steps"
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    sam: SamConfig = field(default_factory=SamConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
