"""Weights of classes that have uneven numbers of images, for a weighted mean of their losses.

They are those of torch.nn.CrossEntropyLoss(weight=...): the loss of a batch is
sum(w[label] * loss) / sum(w[label]). Only their ratios count.
"""

import numpy as np
from jaxtyping import Float32, Integer

from flaxzoo.errors import unknown

CLASS_WEIGHTS = ("none", "balanced", "effective")
_BETA = 0.999  # the paper tries 0.9 to 0.9999; with this a class counts for 1,000 images at most


def class_weights(counts: Integer[np.ndarray, " k"], how: str) -> Float32[np.ndarray, " k"]:
    """Returns the weight of each class from its number of training images.

    Args:
        counts: such as `np.bincount(split.labels, minlength=num_classes)`, all positive.
        how: "none": 1 for every class;
            "balanced": n / (k * count), n images in all, as scikit-learn's: every class has the
            same part in the loss of an epoch;
            "effective": 1 / effective number of images, (1 - 0.999**count) / (1 - 0.999), scaled to
            a mean of 1 (Cui et al. 2019, https://arxiv.org/abs/1901.05555, equation 2): as
            "balanced" among classes of few images, even among those of thousands.

    Raises:
        UserError: `how` is none of these.
        ValueError: a class has no image.
    """
    if how not in CLASS_WEIGHTS:
        raise unknown("class_weights", how, CLASS_WEIGHTS)
    if (counts < 1).any():
        raise ValueError(f"class {int(np.argmin(counts))} has no training image")
    if how == "balanced":
        weights = counts.sum() / (len(counts) * counts)
    elif how == "effective":
        inverse = 1 / -np.expm1(counts * np.log(_BETA))
        weights = inverse / inverse.mean()
    else:
        weights = np.ones(len(counts))
    return weights.astype(np.float32)
