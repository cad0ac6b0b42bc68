"""How good a trained model is on a data set, and how far its confidence can be trusted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from flaxzoo import data
from flaxzoo.augment import normalize
from flaxzoo.config import Config
from flaxzoo.data import Dataset, Split
from flaxzoo.errors import UserError, unknown
from flaxzoo.evaluate import judge
from flaxzoo.models.info import count_parameters
from flaxzoo.report import Predictions, Review
from flaxzoo.trained import Trained
from flaxzoo.training.feed import Feed
from flaxzoo.training.parallel import all_devices
from flaxzoo.training.run import check_classes
from flaxzoo.training.state import ModelDef, split_model
from flaxzoo.training.step import fetch

BINS = 15  # of confidence, as in Guo et al. 2017
SPLITS = ("test", "validation", "train")
TTA = ("none", "flip")


@dataclass(frozen=True)
class Bin:
    """The images that a model was about equally sure of.

    Attributes:
        low, high: the interval of their confidence, without `low`.
        images: how many there are.
        confidence, accuracy: their means; None in an empty bin.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model made of the images of a split, each counted once.

    Attributes:
        trained: the model.
        review: the split and the predictions, with confusions and results by class.
        loss: mean cross-entropy in nats.
        top1, top5: the fraction of images whose class had the highest probability, or one of the
            five highest.
        ece: the expected calibration error, a fraction: see `calibration_error`.
        bins: of confidence, that it is made of.
    """

    trained: Trained
    review: Review
    loss: float
    top1: float
    top5: float
    ece: float
    bins: tuple[Bin, ...]

    @property
    def images(self) -> int:
        return len(self.review.predictions.label)

    def timm_row(self) -> dict[str, Any]:
        """Returns a line of timm's results files, with accuracies in percent."""
        source, top1, top5 = self.trained.config.data, 100 * self.top1, 100 * self.top5
        return {
            "model": self.trained.name,
            "top1": round(top1, 4),
            "top1_err": round(100 - top1, 4),
            "top5": round(top5, 4),
            "top5_err": round(100 - top5, 4),
            "param_count": round(count_parameters(self.trained.model) / 1e6, 2),
            "img_size": source.image_size,
            "crop_pct": round(source.image_size / source.resize, 3),
            "interpolation": source.interpolation,
        }


def evaluate_trained(
    trained: Trained, dataset: Dataset, *, split: str = "", tta: str = "none", batch_size: int = 64
) -> Evaluation:
    """Judges every image of a split.

    Args:
        trained: see `flaxzoo.trained.load_trained`.
        dataset: with the classes that the model knows, in their order: see `load_data`.
        split: one of SPLITS, or "" for the first of these that there is.
        tta: test-time augmentation: "none", or "flip" for the mean of the probabilities of the
            image and of its mirror image.
        batch_size: images at once, at least; of several devices, a multiple.

    Raises:
        UserError: there is no such split, its images or classes are others than the model's, an
            image cannot be read, or a logit is no number.
    """
    if tta not in TTA:
        raise unknown("test-time augmentation", tta, TTA)
    check_fits(trained, dataset)
    name, images = _split(dataset, split)
    devices = all_devices("jit")
    size = -(-batch_size // devices.count) * devices.count
    feed = Feed(images, replace(trained.config, batch_size=size), devices)
    model_def, params, batch_stats = split_model(trained.model)
    step = devices.compile_eval(_make_step(model_def, trained.config, tta))
    weights = {"params": params, "batch_stats": batch_stats}
    batches = judge(
        step, weights, feed, devices, ("seen", "predicted", "confidence", "loss", "rank")
    )
    found = {k: np.concatenate([b[k] for b in batches])[: len(feed)] for k in batches[0]}
    seen = np.flatnonzero(found.pop("seen"))
    if not len(seen):
        raise UserError(f"no image of this split of {len(feed)} could be read.")
    found = {key: values[seen] for key, values in found.items()}
    if broken := int(np.sum(~np.isfinite(found["confidence"]))):
        raise UserError(
            f"{trained.path} gives {broken:,} of {len(seen):,} images logits that are no numbers."
        )
    predictions = Predictions(
        index=seen,
        label=images.labels[seen],
        predicted=found["predicted"],
        confidence=found["confidence"],
        loss=found["loss"],
    )
    ece, bins = calibration_error(found["confidence"], found["rank"] == 0)
    return Evaluation(
        trained=trained,
        review=Review(name, images, dataset.classes, predictions),
        loss=float(np.mean(found["loss"], dtype=np.float64)),
        top1=float(np.mean(found["rank"] < 1)),
        top5=float(np.mean(found["rank"] < 5)),
        ece=ece,
        bins=bins,
    )


def load_data(trained: Trained, source: str = "", data_dir: str = "") -> Dataset:
    """Returns the data set to judge a model by.

    Args:
        source: as in configs; "" for that of the run, with the images that it held out.
        data_dir: see `flaxzoo.data.load`; "" for that of the run where the source is the run's.

    Raises:
        UserError: it cannot be loaded, or the model is of no run and there is no source.
    """
    of_run = trained.config
    if trained.workdir is None:
        if not source:
            raise UserError(f"{trained.name} is of no run: say with --data what to evaluate it on.")
        return data.load(source, data_dir=data_dir or None, validation=0)
    if source in ("", of_run.data.source):
        data_dir = data_dir or of_run.data.data_dir
    return data.load(
        source or of_run.data.source,
        data_dir=data_dir or None,
        validation=of_run.data.validation,
        seed=of_run.seed,
        on_error=of_run.data.on_error,
    )


def check_fits(trained: Trained, dataset: Dataset) -> None:
    """Refuses a data set of other classes, or of another number of channels, than the model's.

    Raises:
        UserError: one sentence that names the first difference.
    """
    if trained.workdir is not None:
        check_classes(trained.workdir, dataset.classes, dataset.name)
    model = trained.model
    if model.num_classes != dataset.num_classes:
        raise UserError(
            f"{trained.path} has weights for {model.num_classes} classes, but {dataset.name} has "
            f"{dataset.num_classes}."
        )
    if model.in_channels != dataset.channels:
        raise UserError(
            f"{trained.path} has weights for images of {model.in_channels} channels, but those of "
            f"{dataset.name} have {dataset.channels}."
        )


def calibration_error(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"], bins: int = BINS
) -> tuple[float, tuple[Bin, ...]]:
    """Returns the expected calibration error and the bins of its reliability diagram.

    The mean over all images of |accuracy - confidence| of the bin that an image is in. Bins are
    equally wide and hold their upper bound (Guo et al. 2017, https://arxiv.org/abs/1706.04599,
    equation 3).

    Args:
        confidence: the probability of the predicted class, of at least one image.
        correct: whether that is the true one.
    """
    of = np.asarray(confidence, np.float64)
    # Rounding in float32 may take a probability just above 1, which belongs to the last bin.
    at = np.clip(np.ceil(of * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(at, minlength=bins)
    sure, right = (np.bincount(at, values, minlength=bins) for values in (of, correct))
    table = tuple(
        Bin(
            i / bins,
            (i + 1) / bins,
            int(n),
            float(s / n) if n else None,
            float(r / n) if n else None,
        )
        for i, (n, s, r) in enumerate(zip(counts, sure, right, strict=True))
    )
    return float(np.abs(right - sure).sum() / len(of)), table


def _split(dataset: Dataset, name: str) -> tuple[str, Split]:
    splits = {"test": dataset.test, "validation": dataset.validation, "train": dataset.train}
    there = {key: split for key, split in splits.items() if split is not None}
    if name and name not in there:
        raise UserError(f"{dataset.name} has no {name} split; it has {', '.join(there)}.")
    chosen = name or next(iter(there))
    return chosen, there[chosen]


def _make_step(model_def: ModelDef, config: Config, tta: str) -> Callable[..., Mapping[str, Array]]:
    """Returns step(params, batch_stats, inputs, resident) -> what it made of each image [b].

    That is "seen", False for padding, "predicted", "confidence", "loss", and "rank": how many
    classes were thought likelier than the true one; of equally likely ones those before it, as
    argmax has it.
    """

    def step(params: Any, batch_stats: Any, inputs: Any, resident: Any) -> Mapping[str, Array]:
        images, labels = fetch(inputs, resident)
        model = model_def.bind(params, batch_stats)
        model.eval()
        images = normalize(images, config.data.mean, config.data.std)
        log_p = log_probabilities(model, images, tta)
        of_label = jnp.take_along_axis(log_p, labels[:, None], -1)
        classes = jnp.arange(log_p.shape[-1])
        before = (log_p > of_label) | ((log_p == of_label) & (classes < labels[:, None]))
        predicted = jnp.argmax(log_p, -1)
        return {
            "seen": inputs["mask"],
            "predicted": predicted,
            "confidence": jnp.exp(jnp.max(log_p, -1)),
            "loss": -of_label[:, 0],
            "rank": jnp.sum(before, -1),
        }

    return step


def log_probabilities(
    model: Callable[[Array], Array], images: Float[Array, "n h w c"], tta: str = "none"
) -> Float[Array, "n classes"]:
    """Returns the logarithms of a model's probabilities in float32, for normalised images."""
    if tta == "none":
        return jax.nn.log_softmax(model(images).astype(jnp.float32))
    both = jnp.concatenate([images, images[:, :, ::-1]])
    seen, mirrored = jnp.split(jax.nn.log_softmax(model(both).astype(jnp.float32)), 2)
    return jnp.logaddexp(seen, mirrored) - jnp.log(2.0)
