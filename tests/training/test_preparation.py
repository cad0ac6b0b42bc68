"""Runs that start from weights: images are prepared as the weights know them."""

import json

import numpy as np
import pytest

from flaxzoo.config import Config, ModelConfig, data_config
from flaxzoo.data import ArraySplit, Dataset, FileSplit
from flaxzoo.errors import UserError
from flaxzoo.sources import preparation_of
from flaxzoo.training.feed import resolve


def photographs(channels: int = 3) -> Dataset:
    split = FileSplit(["a.jpg", "b.jpg"], np.arange(2, dtype=np.int32), channels=channels)
    return Dataset("photographs", ("a", "b"), channels, split)


def prepared(init_from: object, model: str, dataset: Dataset | None = None, **data) -> dict:
    """Returns how `resolve` has images prepared where the config says no more than `data`."""
    config = Config(init_from=str(init_from), model=ModelConfig(name=model))
    config.data = data_config("folder=x", **{"mean": (), "std": ()} | data)
    found = resolve(config, dataset or photographs()).data
    return {
        name: getattr(found, name) for name in ("image_size", "resize", "interpolation", "mean")
    }


SWIN = {
    "image_size": 256, "resize": 260, "interpolation": "bicubic", "mean": (0.485, 0.456, 0.406)
}  # fmt: skip


@pytest.mark.parametrize(
    "init_from",
    ["imagenet", "swin_v2_t", "swin_v2_t.IMAGENET1K_V1", "a/swin_v2_t-b137f0e2.pth", "a/mine.pth"],
)
def test_images_are_prepared_as_published(init_from):
    assert prepared(init_from, "swin_v2_t") == SWIN


def test_a_published_file_is_known_by_its_name():
    resizes = {
        name: prepared(name, "resnet50")["resize"]
        for name in ("resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth")
    }
    assert resizes == {"resnet50-0676ba61.pth": 256, "resnet50-11ad3fa6.pth": 232}


def test_what_the_config_says_about_images_goes_before():
    own = {"image_size": 128, "interpolation": "bilinear", "mean": (0.1,), "std": (0.2,)}
    found = prepared("imagenet", "swin_v2_t", **own)
    assert found == {"image_size": 128, "resize": 0, "interpolation": "bilinear", "mean": (0.1,)}


def test_images_are_prepared_as_for_the_run_that_the_weights_are_of(tmp_path):
    data = {"image_size": 64, "resize": 70, "interpolation": "", "mean": [0.3], "std": [0.1]}
    saved = {"init_from": "imagenet", "model": {"name": "swin_v2_t"}, "data": data}
    (tmp_path / "checkpoints" / "12").mkdir(parents=True)
    (tmp_path / "config.json").write_text(json.dumps(saved))
    expected = {"image_size": 64, "resize": 70, "interpolation": "bicubic", "mean": (0.3,)}
    for path in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints" / "12"):
        assert prepared(path, "swin_v2_t") == expected


def test_grey_images_get_the_mean_over_colours():
    found = prepared("imagenet", "resnet18", photographs(1))
    assert found["mean"] == pytest.approx([(0.485 + 0.456 + 0.406) / 3])


def test_arrays_keep_their_size():
    split = ArraySplit(np.zeros((2, 8, 9, 3), np.uint8), np.arange(2, dtype=np.int32))
    found = prepared("imagenet", "swin_v2_t", Dataset("arrays", ("a", "b"), 3, split))
    assert found == SWIN | {"image_size": 9, "resize": 0}


def test_without_published_weights_the_size_must_be_said():
    assert preparation_of("a/b.pth", "resnet20") == {}
    with pytest.raises(UserError, match=r"may have any size: set config\.data\.image_size"):
        prepared("a/b.pth", "resnet20")
