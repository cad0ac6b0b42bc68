"""Evaluation transforms against torchvision's on PIL images: equal in every pixel."""

import importlib

import numpy as np
import pytest
from PIL import Image

from flaxzoo import list_models, model_info
from flaxzoo.data.random_crop import random_box, random_resized_crop_of_file
from flaxzoo.data.transforms import INTERPOLATIONS, center_crop, decode, evaluation
from parity_tests.comparing import installed


@pytest.fixture(scope="module")
def v2():
    return importlib.import_module(f"{installed('torchvision').__name__}.transforms.v2")


def mode(v2, interpolation: str):
    return v2.InterpolationMode(interpolation)


def theirs(v2, size: int, resize: int, interpolation: str):
    resized = v2.Resize(resize, mode(v2, interpolation), antialias=True)
    return v2.Compose([resized, v2.CenterCrop(size)])


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return pixels


SIZES = [
    (500, 375), (375, 500), (333, 500), (64, 64), (63, 64), (1, 1), (3, 200), (200, 3), (57, 31),
    (28, 28), (32, 32), (37, 41),
]  # fmt: skip


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("resize", [32, 33, 37, 28, 17], ids="resize{}".format)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_synthetic_images_of_any_size(v2, height, width, resize, interpolation):
    """To 32 pixels: portrait, landscape, tiny, exactly the size; below it, both pad with black."""
    for channels in (1, 3):
        image = noise(height, width, channels)
        expected = theirs(v2, 32, resize, interpolation)(
            Image.fromarray(image.squeeze(2) if channels == 1 else image)
        )
        got = center_crop(image, 32, resize, interpolation)
        assert largest(got, np.asarray(expected).reshape(32, 32, channels)) == 0


def largest(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("size", "resize", "interpolation"),
    [(224, 256, "bilinear"), (224, 232, "bicubic"), (480, 480, "bicubic"), (299, 342, "bilinear")],
)
def test_photographs(v2, shared_data, size, resize, interpolation):
    transform, worst = theirs(v2, size, resize, interpolation), 0
    files = sorted((shared_data / "imagenet_sample").glob("*.JPEG"))[:: 1 if size == 224 else 10]
    for file in files:
        with Image.open(file) as image:
            expected = np.asarray(transform(image.convert("RGB")))
        worst = max(
            worst, largest(center_crop(decode(file), size, resize, interpolation), expected)
        )
    print(f"{len(files)} photographs to {size} pixels, {interpolation}: largest difference {worst}")
    assert len(files) >= 10
    assert worst == 0


def presets():
    """Yields (model, weights of flaxzoo's table) of each that torchvision has."""
    for name in list_models():
        info = model_info(name)
        yield from ((info, w) for w in info.weights if info.library == "torchvision")


def test_the_table_is_torchvisions(v2):
    models, found = installed("torchvision").models, 0
    for info, weights in presets():
        preset = models.get_model_weights(info.library_name)[weights.name].transforms()
        ours, found = evaluation(weights), found + 1
        assert preset.crop_size == [ours.image_size], info.name
        assert preset.resize_size == [ours.resize], info.name
        assert preset.interpolation == mode(v2, ours.interpolation), info.name
        assert (preset.mean, preset.std) == (list(ours.mean), list(ours.std)), info.name
    assert found > 100


@pytest.mark.parametrize(
    ("name", "version"), [("swin_t", 0), ("efficientnet_v2_l", 0), ("vgg16", 0)]
)
def test_what_the_model_gets_is_what_torchvision_prepares(v2, name, version):
    info = model_info(name)
    weights = info.weights[version]
    models, image = installed("torchvision").models, noise(300, 401)
    preset = models.get_model_weights(info.library_name)[weights.name].transforms()
    expected = preset(Image.fromarray(image)).numpy()
    prepare = evaluation(weights)
    got = prepare.normalize(prepare(image)).transpose(2, 0, 1)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.shared_data
def test_training_crops_are_torchvisions_nearly(v2, shared_data):
    """The same boxes: at full scale to one grey level, decoded in part to 3 or 4 on average."""
    differences = {1: [], 2: []}
    for i, file in enumerate(sorted((shared_data / "imagenet_sample").glob("*.JPEG"))[::5]):
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        box = random_box(
            image.height, image.width, np.random.default_rng(i), (0.08, 1.0), (3 / 4, 4 / 3)
        )
        for size in (224, 96):
            expected = v2.functional.resized_crop(image, *box, [size, size])
            crop = random_resized_crop_of_file(file.read_bytes(), size, np.random.default_rng(i))
            scale = 1 if min(box[2:]) < 2 * size else 2
            differences[scale].append(np.abs(crop.astype(int) - np.asarray(expected)))
    assert max(d.max() for d in differences[1]) <= 1
    mean = float(np.mean([d.mean() for d in differences[2]]))
    print(
        f"{len(differences[2])} crops decoded in part differ by {mean:.2f} grey levels on average"
    )
    assert len(differences[2]) >= 5
    assert mean < 5
