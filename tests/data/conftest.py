"""Folders of images, made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _save_image(path: Path, seed: int, size: tuple[int, int] = (12, 10)) -> Path:
    """Saves a noisy RGB image of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def save_image() -> Callable[..., Path]:
    return _save_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train/{cat,dog} of 6 PNG images each, of different sizes, and test/{cat,dog} of 2."""
    for split, count in (("train", 6), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                path = tmp_path / "pets" / split / name / f"{i}.png"
                _save_image(path, 100 * label + i, (12 + i, 10 + label))
    return tmp_path / "pets"
