"""A module in the place of Hugging Face's `datasets`, which has its interface, and small tables."""

import io
import types
from typing import Any

import numpy as np
from PIL import Image


class FakeImage:
    def __init__(self, mode: str | None = None, decode: bool = True):
        self.mode, self.decode = mode, decode


class FakeClassLabel:
    def __init__(self, names: list[str]):
        self.names = names


class FakeValue:
    pass


class FakeDataset:
    """Columns by name; an image is {"bytes", "path"}, and an error where it would be decoded."""

    def __init__(self, columns: dict[str, list], features: dict[str, Any]):
        self.columns, self.features = columns, features

    def select_columns(self, names: list[str]) -> "FakeDataset":
        return FakeDataset(
            {name: self.columns[name] for name in names},
            {name: self.features[name] for name in names},
        )

    def cast_column(self, name: str, feature: Any) -> "FakeDataset":
        return FakeDataset(self.columns, self.features | {name: feature})

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        assert isinstance(key, int)
        assert not any(getattr(feature, "decode", False) for feature in self.features.values())
        return {name: values[key] for name, values in self.columns.items()}


def library() -> Any:
    """Returns a module which keeps `kept` in its cache and what was on disk in `saved`."""
    module: Any = types.ModuleType("datasets")
    module.Dataset, module.Image, module.ClassLabel = FakeDataset, FakeImage, FakeClassLabel
    module.config = types.SimpleNamespace(HF_HUB_OFFLINE=False)
    module.kept, module.saved = {}, {}

    def load_dataset(name, config=None):
        assert module.config.HF_HUB_OFFLINE, "this would ask the hub"
        if (name, config) not in module.kept:
            raise ConnectionError(
                f"Couldn't reach '{name}' on the Hub (OfflineModeIsEnabled)\nmore"
            )
        return module.kept[name, config]

    def load_from_disk(path):
        if path not in module.saved:
            raise FileNotFoundError(f"Directory {path} is neither a Dataset directory nor one of")
        return module.saved[path]

    module.load_dataset, module.load_from_disk = load_dataset, load_from_disk
    return module


def pixels(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (6, 8 + i, 3), np.uint8)


def encoded(i: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(i)).save(file, "PNG")
    return file.getvalue()


def pets(n: int = 6, image: str = "image", label: str = "label", mode=None, **columns) -> Any:
    content = {
        image: [{"bytes": encoded(i), "path": None} for i in range(n)],
        label: [i % 2 for i in range(n)],
    }
    features = {image: FakeImage(mode), label: FakeClassLabel(["cat", "dog"])}
    for name, (values, feature) in columns.items():
        content[name], features[name] = values, feature
    return FakeDataset(content, features)
