"""Builders of tiny TFDS sets: whoever imports them makes them known to TFDS by name.

Images are given encoded: TFDS needs TensorFlow to encode an array.
"""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def pixels(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (8, 8 + i, 3), np.uint8)


class TinyPets(tfds.core.GeneratorBasedBuilder):
    """30 training images, 6 for validation, 4 test images without labels."""

    VERSION = tfds.core.Version("1.10.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(range(30)),
            "validation": self._generate_examples(range(30, 36)),
            "test": self._generate_examples(range(36, 40), labelled=False),
        }

    def _generate_examples(self, numbers: range, labelled: bool = True):
        for i in numbers:
            file = io.BytesIO()
            Image.fromarray(pixels(i)).save(file, "PNG")
            file.seek(0)
            yield i, {"image": file, "label": i % 2 if labelled else -1}


class Cars196(TinyPets):
    """The same under the name of a set that the documentation trains on."""


class TinyText(tfds.core.GeneratorBasedBuilder):
    """No image classification."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"text": "no image"}
