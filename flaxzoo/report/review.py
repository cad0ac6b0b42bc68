"""How a model judged a split, image by image and class by class."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from flaxzoo.data import Split


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model made of the images of a split that could be read.

    Attributes:
        index: where each image is in the split, ascending.
        label, predicted: its class, and the one with the highest logit.
        confidence: the probability of the predicted class.
        loss: the cross-entropy, in nats.
    """

    index: Integer[np.ndarray, " n"]
    label: Integer[np.ndarray, " n"]
    predicted: Integer[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]
    loss: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class ClassResult:
    """One class in numbers.

    Attributes:
        images: how many of it were judged.
        correct: how many of these were found.
        predicted: how many images, of any class, were taken for it.
        confused_with: the class that its images were most often taken for instead; "" if none was.
        confused: how many were.
    """

    name: str
    images: int
    correct: int
    predicted: int
    confused_with: str
    confused: int

    @property
    def accuracy(self) -> float | None:
        """The share of its images that were found (recall); None where there are none."""
        return self.correct / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """The share of what was taken for it that is of it; None where nothing was."""
        return self.correct / self.predicted if self.predicted else None


@dataclass(frozen=True, eq=False)
class Review:
    """Predictions, with what they are about.

    Attributes:
        name: of the split, "test" or "validation".
        classes: their names; label i means classes[i].
    """

    name: str
    split: Split
    classes: tuple[str, ...]
    predictions: Predictions

    def confused_pairs(self) -> list[tuple[int, int, int]]:
        """Returns (class, class it was taken for, how often), the most frequent first."""
        p, n = self.predictions, len(self.classes)
        wrong = p.label != p.predicted
        cells = p.label[wrong].astype(np.int64) * n + p.predicted[wrong]
        pairs, counts = np.unique(cells, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return [(int(pairs[i] // n), int(pairs[i] % n), int(counts[i])) for i in order]

    def class_results(self) -> list[ClassResult]:
        """Returns one result a class, in the order of the labels."""
        p, n = self.predictions, len(self.classes)
        images = np.bincount(p.label, minlength=n)
        correct = np.bincount(p.label[p.label == p.predicted], minlength=n)
        predicted = np.bincount(p.predicted, minlength=n)
        worst: dict[int, tuple[int, int]] = {}
        for label, taken_for, count in self.confused_pairs():
            worst.setdefault(label, (taken_for, count))
        results = []
        for i, name in enumerate(self.classes):
            taken_for, count = worst.get(i, (None, 0))
            confused_with = "" if taken_for is None else self.classes[taken_for]
            results.append(ClassResult(
                name, int(images[i]), int(correct[i]), int(predicted[i]), confused_with, count
            ))  # fmt: skip
        return results

    def worst_mistakes(self, limit: int) -> Integer[np.ndarray, " m"]:
        """Returns which predictions (positions in their arrays) are wrong, the highest loss first.

        At most `limit` of them.
        """
        p = self.predictions
        wrong = np.flatnonzero(p.label != p.predicted)
        return wrong[np.argsort(-p.loss[wrong], kind="stable")][:limit]
