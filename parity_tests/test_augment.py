"""Augmentations against torchvision.transforms.v2 on uint8 tensors, in grey levels."""

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flaxzoo.augment import colour, geometry, policies
from flaxzoo.augment.autoaugment import AUTOAUGMENT
from flaxzoo.config import POLICIES
from parity_tests.comparing import installed

H, W = 19, 26


@pytest.fixture(scope="module")
def v2():
    # Importing torchvision does not import this part of it.
    return importlib.import_module(f"{installed('torchvision').__name__}.transforms.v2")


def pictures(channels: int) -> np.ndarray:
    """Noise, a smooth slope with few levels, a dark one, and one level alone: (4, h, w, c)."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (H, W, channels))
    slope = np.add.outer(np.arange(H) * 2, np.arange(W) * 3)[:, :, None] + 20 * np.arange(channels)
    return np.stack([noise, slope, slope // 4, np.full_like(noise, 77)]).astype(np.uint8)


def by_torch(function, images: np.ndarray) -> np.ndarray:
    tensors = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return np.stack([function(t).numpy().transpose(1, 2, 0) for t in tensors])


def difference(ours, theirs: np.ndarray) -> int:
    assert ours.dtype == theirs.dtype == np.uint8
    return int(np.abs(np.asarray(ours).astype(int) - theirs).max())


# Our function, torchvision's, values of its parameter, and how many grey levels they may differ.
# Those that take a difference of two products may be truncated to neighbouring levels.
COLOURS = {
    "brightness": ("adjust_brightness", (0.0, 0.3, 1.0, 1.9), 0),
    "contrast": ("adjust_contrast", (0.0, 0.37, 1.0, 1.99), 1),
    "saturation": ("adjust_saturation", (0.0, 0.37, 1.0, 1.99), 1),
    "hue": ("adjust_hue", (-0.5, -0.13, 0.0, 0.21, 0.5), 1),
    "sharpness": ("adjust_sharpness", (0.0, 0.37, 1.0, 1.99), 0),
    "posterize": ("posterize", (0, 1, 4, 8), 0),
    "solarize": ("solarize", (0.0, 100.5, 128.0, 255.0), 0),
}


# As the tests compile, and as a run does: with products and sums rounded once.
COMPILERS = {"quickly": {}, "well": {"xla_backend_optimization_level": 3}}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", COLOURS)
def test_colour_with_a_parameter(v2, name, channels, compiler):
    theirs, values, levels = COLOURS[name]
    images = pictures(channels)
    ours = jax.jit(getattr(colour, name), compiler_options=COMPILERS[compiler])
    for value in values:
        expected = by_torch(lambda t, v=value: getattr(v2.functional, theirs)(t, v), images)
        got = ours(images, jnp.full(len(images), value, jnp.float32))
        assert difference(got, expected) <= levels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "levels"),
    # XLA makes the division of autocontrast a product, and 254.99998 becomes 255.
    [("autocontrast", 1), ("equalize", 0), ("invert", 0)],
)
def test_colour_without_a_parameter(v2, name, levels, channels):
    images = pictures(channels)
    got = jax.jit(getattr(colour, name))(images)
    assert difference(got, by_torch(getattr(v2.functional, name), images)) <= levels


def torch_affine(v2, name: str, tensor: torch.Tensor, magnitude: float) -> torch.Tensor:
    """What torchvision's policies do, as users call it."""
    policy = v2.RandAugment(interpolation=v2.InterpolationMode.NEAREST)
    return policy._apply_image_or_video_transform(
        tensor, NAMES[name], magnitude, interpolation=v2.InterpolationMode.NEAREST, fill={}
    )


NAMES = {
    "identity": "Identity",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "saturation": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
}


def ties(matrix: np.ndarray) -> np.ndarray:
    """Where a pixel lies within 1e-4 of the middle between two: float32 decides which is nearer."""
    x, y = np.arange(W) - (W - 1) / 2, np.arange(H)[:, None] - (H - 1) / 2
    (xx, xy, x0), (yx, yy, y0) = matrix.astype(np.float64)
    tied = np.zeros((H, W), bool)
    for place in (xx * x + xy * y + x0 + (W - 1) / 2, yx * x + yy * y + y0 + (H - 1) / 2):
        tied |= np.abs(place - np.floor(place) - 0.5) < 1e-4
    return tied


@pytest.mark.parametrize(
    ("name", "magnitudes"),
    [
        ("shear_x", (0.09, -0.21, 0.99)),
        ("shear_y", (0.09, -0.21, 0.99)),
        ("translate_x", (3.0, -7.9, 40.0)),
        ("translate_y", (3.0, -7.9, 40.0)),
        ("rotate", (9.0, -30.0, 89.0, 135.0)),
    ],
)
def test_affine_maps_are_equal_except_at_ties(v2, name, magnitudes):
    images, make = pictures(3), getattr(geometry, name)
    sample = jax.jit(lambda images, m: geometry.affine(images, make(m, H, W)))
    for magnitude in magnitudes:
        expected = by_torch(lambda t, m=magnitude: torch_affine(v2, name, t, m), images)
        got = sample(images, jnp.full(len(images), magnitude, jnp.float32))
        tied = ties(np.asarray(make(jnp.full(1, magnitude, jnp.float32), H, W))[0])
        assert tied.mean() < 0.1
        assert difference(got[:, ~tied], expected[:, ~tied]) == 0


@pytest.mark.parametrize("box", [(0, 0, H, W), (3, 4, 11, 7), (18, 25, 1, 1), (0, 1, H, 20)])
def test_resized_crops(v2, box):
    """torchvision rounds to bytes between its two passes, hence the one level."""
    images = pictures(3)
    expected = by_torch(lambda t: v2.functional.resized_crop(t, *box, size=[H, W]), images)
    boxes = tuple(jnp.full(len(images), number, jnp.int32) for number in box)
    assert difference(jax.jit(geometry.resized_crop)(images, boxes), expected) <= 1


def test_every_operation_of_a_policy_is_torchvisions(v2):
    """One image an operation, all in one call."""
    image = pictures(3)[1]
    magnitude = {"posterize": 4, "solarize": 0.4}
    magnitudes = [float(np.float32(magnitude.get(name, 0.27))) for name in policies.OPERATIONS]
    images = np.stack([image] * len(magnitudes))
    numbers = jnp.arange(len(magnitudes), dtype=jnp.int32)
    got = jax.jit(policies.apply)(images, numbers, jnp.asarray(magnitudes, jnp.float32))
    for name, value, ours in zip(policies.OPERATIONS, magnitudes, got, strict=True):
        expected = by_torch(lambda t, n=name, v=value: torch_affine(v2, n, t, v), image[None])[0]
        assert difference(ours, expected) <= 1, name
        assert (name == "identity") == np.array_equal(ours, image) or value < 1, name


SPACES = {
    "RandAugment": (policies.RANDAUGMENT, 31),
    "TrivialAugmentWide": (policies.TRIVIALAUGMENT, 31),
    "AutoAugment": (policies.AUTOAUGMENT_SPACE, 10),
}


@pytest.mark.parametrize("name", SPACES)
def test_ranges_of_magnitudes(v2, name):
    space, bins = SPACES[name]
    theirs = getattr(v2, name)._AUGMENTATION_SPACE
    assert {"Identity", *(NAMES[operation] for operation in space)} == {"Identity", *theirs}
    for operation, ours in space.items():
        values, signed = theirs.get(NAMES[operation], (lambda *_: None, False))
        expected = values(bins, 224, 331)
        expected = np.zeros(bins) if expected is None else expected.numpy()
        got = ours.values(bins, 224, 331)
        assert ours.signed == signed
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
        if operation.startswith("translate"):
            np.testing.assert_array_equal(np.trunc(got), np.trunc(expected))


@pytest.mark.parametrize("name", AUTOAUGMENT)
def test_tables_of_autoaugment(v2, name):
    theirs = v2.AutoAugment(v2.AutoAugmentPolicy[name.upper()])._policies
    ours = [tuple((NAMES[step], p, bin) for step, p, bin in pair) for pair in AUTOAUGMENT[name]]
    assert ours == [tuple((step, p, bin or 0) for step, p, bin in pair) for pair in theirs]
    assert f"autoaugment_{name}" in POLICIES


def test_the_draws_of_torchvisions_crops_have_the_same_distribution(v2):
    """Means of area and of log(width / height) over 4000 boxes, to five standard errors."""
    scale, ratio, n = (0.08, 1.0), (3 / 4, 4 / 3), 4000
    crop, image = v2.RandomResizedCrop(8, scale, ratio), torch.zeros(3, 60, 80)
    torch.manual_seed(0)
    drawn = [crop.make_params([image]) for _ in range(n)]
    theirs = np.array([[d["height"], d["width"], d["top"], d["left"]] for d in drawn], float)
    keys = jax.random.split(jax.random.key(0), n)
    boxes = jax.jit(lambda keys: geometry.random_crop_boxes(keys, (60, 80), scale, ratio))(keys)
    top, left, height, width = (np.asarray(number, float) for number in boxes)
    ours = np.stack([height, width, top, left], axis=1)
    for of in (
        lambda b: b[:, 0] * b[:, 1] / 4800,
        lambda b: np.log(b[:, 1] / b[:, 0]),
        lambda b: b[:, 2] / 60,
        lambda b: b[:, 3] / 80,
    ):
        a, b = of(theirs), of(ours)
        error = math.sqrt((a.var() + b.var()) / n)
        assert abs(a.mean() - b.mean()) < 5 * error
        assert 0.9 < a.std() / b.std() < 1.1
