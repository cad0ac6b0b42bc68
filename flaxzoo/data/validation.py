"""Checks that hold for every data set, and the validation split held out of train."""

import dataclasses

import numpy as np
from jaxtyping import Int64

from flaxzoo.arguments import is_utf8
from flaxzoo.data.dataset import ArraySplit, Dataset, Split
from flaxzoo.data.order import philox
from flaxzoo.errors import UserError


def check(dataset: Dataset) -> None:
    """Checks classes, channels, labels and array shapes of all splits.

    Raises:
        UserError: the first thing found wrong.
    """
    if dataset.num_classes < 2:
        raise UserError(
            f"{dataset.name} has {dataset.num_classes} class ({', '.join(dataset.classes)}); "
            "a classifier needs at least 2"
        )
    if odd := [name for name in dataset.classes if not is_utf8(name)]:
        raise UserError(
            f"the name of {_class(len(odd))} {_listed(odd)} of {dataset.name} is not UTF-8, as "
            "all that is written about a run has to be"
        )
    if dataset.channels not in (1, 3):
        raise UserError(f"{dataset.name} has {dataset.channels} channels; expected 1 or 3")
    for name in ("train", "validation", "test"):
        split = getattr(dataset, name)
        if split is not None:
            _check_split(split, dataset, name)
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if not counts.all():
        empty = [dataset.classes[i] for i in np.flatnonzero(counts == 0)]
        first, last = np.flatnonzero(counts)[[0, -1]]
        hint = f"; its labels are {first} to {last}, and count from 0" if first else ""
        raise UserError(
            f"{dataset.name} has no training image of {_class(len(empty))} {_listed(empty)}{hint}"
        )


def _check_split(split: Split, dataset: Dataset, name: str) -> None:
    if not len(split):
        raise UserError(f"the {name} split of {dataset.name} is empty")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= dataset.num_classes:
        wrong = low if low < 0 else high
        at = int(np.flatnonzero(split.labels == wrong)[0])
        raise UserError(
            f"label {wrong} of {name} image {at} in {dataset.name} is out of range; "
            f"expected 0 to {dataset.num_classes - 1} for {dataset.num_classes} classes"
        )
    if split.channels != dataset.channels:
        raise UserError(
            f"the {name} images of {dataset.name} have {split.channels} channels; "
            f"expected {dataset.channels}, as in train"
        )
    if isinstance(split, ArraySplit) and isinstance(dataset.train, ArraySplit):
        size, expected = split.images.shape[1:3], dataset.train.images.shape[1:3]
        if size != expected:
            raise UserError(
                f"the {name} images of {dataset.name} are {size[0]}x{size[1]} (height x width); "
                f"expected {expected[0]}x{expected[1]}, as in train"
            )


def hold_out(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """Moves `fraction` of the training images into `validation`, of every class alike.

    The choice depends on the labels, `fraction` and `seed` only. The total is the nearest whole
    number of images, at least 1; each class gives its share, rounded so that the total is met, and
    keeps at least one image.

    Raises:
        UserError: every class has a single image, so that none can be spared.
    """
    labels = dataset.train.labels
    held = _stratified(labels, fraction, seed)
    if not len(held):
        raise UserError(
            f"no image of {dataset.name} can be held out for validation: every class has one "
            "training image; set validation=0"
        )
    kept = np.setdiff1d(np.arange(len(labels)), held)
    train, validation = dataset.train.subset(kept), dataset.train.subset(held)
    return dataclasses.replace(dataset, train=train, validation=validation)


def _stratified(labels: np.ndarray, fraction: float, seed: int) -> Int64[np.ndarray, " m"]:
    """Returns the chosen indices, ascending."""
    counts = np.bincount(labels)
    shuffled = np.argsort(philox(seed, "validation").random_raw(len(labels)), kind="stable")
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - np.repeat(starts, counts)  # of each image within its class
    quotas = np.repeat(_quotas(counts, fraction), counts)
    return np.sort(by_class[rank < quotas])


def _quotas(counts: np.ndarray, fraction: float) -> np.ndarray:
    """Returns how many images each class gives: largest remainders first, ties by class."""
    shares = counts * fraction
    quotas = np.floor(shares).astype(np.int64)  # less than counts, since fraction < 1
    missing = max(1, round(counts.sum() * fraction)) - int(quotas.sum())
    remainder = np.where(quotas < counts - 1, shares - quotas, -1.0)
    first = np.argsort(-remainder, kind="stable")[: max(missing, 0)]
    quotas[first[remainder[first] >= 0]] += 1
    return quotas


def _class(count: int) -> str:
    return "class" if count == 1 else f"{count} classes:"


def _listed(names: list[str], limit: int = 5) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + more
