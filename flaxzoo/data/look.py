"""What is in a data set, and what looks wrong with it."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flaxzoo import picture
from flaxzoo.data import Dataset, EncodedSplit, Split, gallery
from flaxzoo.data.options import SPLITS
from flaxzoo.data.survey import Place, Survey, copies, file_digests, spread, survey

SAMPLE = 2_000  # images of each split that are decoded, unless all are asked for
COMPARED = 100_000  # images of a set of which all files are read to find copies
IMBALANCE = 10  # images of the largest class over those of the smallest, beyond which it is told
NAMED = 10  # unreadable images that are named; the others are counted
EXAMPLES = 3  # of copies

# Folders with these names are rather splits, or parts of an archive, than classes.
_NO_CLASSES = {"images", "labels", "annotations", "__macosx"}.union(*SPLITS.values())


def look(dataset: Dataset, output: Path, *, decode_all: bool = False) -> None:
    """Prints what is in `dataset` and what looks wrong with it, and draws it to `output`."""
    console = Console(highlight=False, soft_wrap=True)
    splits = splits_of(dataset)
    kind = "grey" if dataset.channels == 1 else "RGB"
    console.print(f"{dataset.name}: {dataset.num_classes:,} classes, {kind}\n", markup=False)
    console.print(_counts(dataset, splits))
    limit = {name: SAMPLE if isinstance(s, EncodedSplit) else len(s) for name, s in splits.items()}
    surveys = {
        name: survey(split, spread(len(split), len(split) if decode_all else limit[name]))
        for name, split in splits.items()
    }
    for line in _described(splits, surveys):
        console.print(line, markup=False)
    for line in (
        *_imbalance(dataset),
        *_classes(dataset, splits),
        *_copies(dataset, splits, surveys),
    ):
        console.print(f"warning: {line}", markup=False)
    picture.write(gallery.draw(dataset.train, dataset.classes), output)
    console.print(f"wrote {output}", markup=False)


def splits_of(dataset: Dataset) -> dict[str, Split]:
    """Returns the splits that `dataset` has, by name."""
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {name: split for name, split in splits.items() if split is not None}


def _counts(dataset: Dataset, splits: dict[str, Split]) -> Table:
    """Returns a table of images and classes of each split."""
    columns = ("split", "images", "classes", "smallest class", "median", "largest class")
    table = Table(*columns, box=None)
    for name, split in splits.items():
        counts = np.bincount(split.labels, minlength=dataset.num_classes)
        present = np.flatnonzero(counts)
        ends = (present[counts[present].argmin()], present[counts[present].argmax()])
        small, large = (
            f"{counts[i]:,} ({escape(picture.shorten(dataset.classes[i], 20))})" for i in ends
        )
        median = f"{np.median(counts[present]):,.0f}"
        table.add_row(name, f"{len(split):,}", f"{len(present):,}", small, median, large)
    return table


def _described(splits: dict[str, Split], surveys: dict[str, Survey]) -> Iterator[str]:
    """Yields what the images are like, over all splits; of training images, their pixels."""
    looked = ", ".join(
        f"{len(surveys[name].looked_at):,} of {len(split):,} {name}"
        for name, split in splits.items()
    )
    yield f"\nlooked at     {looked} images"
    shapes = np.concatenate([s.shapes for s in surveys.values()])
    for axis, side in enumerate(("height", "width")):
        if len(shapes):
            low, middle, high = np.quantile(shapes[:, axis], (0, 0.5, 1))
            yield f"{side:14}{low:.0f} to {high:.0f} pixels, median {middle:.0f}"
    train = surveys["train"]
    for name, values in (("mean", train.mean), ("std", train.std)):
        numbers = ", ".join(f"{value:.4f}" for value in values)
        yield f"{name:14}{numbers}  (training pixels in 0..1: --config.data.{name})"
    stored = sum((s.stored for s in surveys.values()), Counter[str]())
    special = sum((s.special for s in surveys.values()), Counter[str]())
    for title, counts in (("stored as", stored), ("of these", special)):
        if counts:
            yield f"{title:14}" + ", ".join(f"{n:,} {word}" for word, n in counts.most_common())
    unreadable = [error for s in surveys.values() for error in s.unreadable]
    yield f"unreadable    {len(unreadable):,}"
    yield from (f"              {error}" for error in unreadable[:NAMED])
    if len(unreadable) > NAMED:
        yield f"              ... and {len(unreadable) - NAMED:,} more"


def _imbalance(dataset: Dataset) -> Iterator[str]:
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    small, large = int(counts.argmin()), int(counts.argmax())
    if counts[large] > IMBALANCE * counts[small]:
        yield (
            f"{dataset.classes[large]!r} has {counts[large] / counts[small]:.0f} times as many "
            f"training images as {dataset.classes[small]!r} (told above {IMBALANCE}): see "
            "--config.class_weights=balanced or effective, and --config.data.sampling=balanced"
        )


def _classes(dataset: Dataset, splits: dict[str, Split]) -> Iterator[str]:
    """Yields what is suspicious about the classes themselves."""
    for name, split in splits.items():
        counts = np.bincount(split.labels, minlength=dataset.num_classes)
        absent = [dataset.classes[i] for i in np.flatnonzero(counts == 0)]
        if absent:
            yield f"no {name} image of {_some(absent)}"
    wrong = [name for name in dataset.classes if name.lower() in _NO_CLASSES]
    if wrong:
        yield f"rather parts of a data set than classes, to go by their names: {_some(wrong)}"


def _copies(
    dataset: Dataset, splits: dict[str, Split], surveys: dict[str, Survey]
) -> Iterator[str]:
    """Yields how many images there are more than once, each time with some of them."""

    def class_of(image: Place) -> str:
        split, i = image
        return dataset.classes[splits[split].labels[i]]

    def told(image: Place) -> str:
        split, i = image
        return f"{splits[split].name(i)} ({split}, {class_of(image)})"

    digests, compared = _digests(splits, surveys)
    groups = copies(digests)
    kinds = {
        "in more than one split, so that results are too good": _unlike(groups, lambda i: i[0]),
        "with more than one label": _unlike(groups, class_of),
        "more than once in a split": _alike(groups, lambda i: (i[0], class_of(i))),
    }
    for kind, pairs in kinds.items():
        if pairs:
            lines = [f"images {kind}: {len(pairs):,} ({compared})"]
            lines += [f"{told(one)} = {told(other)}" for one, other in pairs[:EXAMPLES]]
            lines += [f"... and {len(pairs) - EXAMPLES:,} more"] * (len(pairs) > EXAMPLES)
            yield "\n    ".join(lines)


def _unlike(groups: list[list[Place]], key: Callable[[Place], Any]) -> list[tuple[Place, Place]]:
    """Returns two images that `key` tells apart, of each group that has such."""
    pairs = (
        (group[0], next((i for i in group if key(i) != key(group[0])), None)) for group in groups
    )
    return [(first, other) for first, other in pairs if other is not None]


def _alike(groups: list[list[Place]], key: Callable[[Place], Any]) -> list[tuple[Place, Place]]:
    """Returns two images that `key` does not tell apart, of each group that has such."""
    pairs = (
        next((p for p in pairwise(sorted(group, key=key)) if key(p[0]) == key(p[1])), None)
        for group in groups
    )
    return [pair for pair in pairs if pair is not None]


def _digests(
    splits: dict[str, Split], surveys: dict[str, Survey]
) -> tuple[dict[str, dict[int, bytes]], str]:
    """Returns what tells equal images apart from others, and what that compares.

    Those are the pixels where all were decoded, or else the files, unless they are too many.
    """
    total = sum(len(split) for split in splits.values())
    pixels = {name: found.digests for name, found in surveys.items()}
    looked_at = sum(len(found.looked_at) for found in surveys.values())
    if looked_at == total:
        return pixels, "all pixels compared"
    files = {n: split for n, split in splits.items() if isinstance(split, EncodedSplit)}
    if total <= COMPARED and len(files) == len(splits):
        found = {n: file_digests(split, np.arange(len(split))) for n, split in files.items()}
        return found, "all files compared"
    return pixels, f"of the {looked_at:,} looked at; --all compares all"


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + more
