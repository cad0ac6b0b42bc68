"""Augmentation: what it may do to an image, how often, and that it depends on the key alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo.augment import augment, normalize, random_flip, random_shift
from flaxzoo.config import AugmentConfig

N = 4000


def keys(n: int = N, seed: int = 0):
    return jax.random.split(jax.random.key(seed), n)


def noise(n: int, size: int = 4, channels: int = 3):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.integers(1, 256, (n, size, size, channels), dtype=np.uint8))


def test_half_of_the_images_are_mirrored_and_the_others_untouched():
    images = noise(N)
    flipped = random_flip(images, keys())
    mirrored = np.all(flipped == images[:, :, ::-1], axis=(1, 2, 3))
    same = np.all(flipped == images, axis=(1, 2, 3))
    assert np.all(mirrored ^ same)
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / N**0.5  # four standard errors


def test_shifts_are_uniform_crops_of_the_zero_padded_image():
    image = noise(1, size=5)[0]
    shifted = np.asarray(random_shift(jnp.stack([image] * N), keys(), 2))
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    counts = [
        np.all(shifted == padded[i : i + 5, j : j + 5], axis=(1, 2, 3)).sum()
        for i in range(5)
        for j in range(5)
    ]
    assert sum(counts) == N  # each image is one of the 25 crops
    assert max(np.abs(np.array(counts) - N / 25)) < 5 * (N / 25) ** 0.5


def test_an_image_depends_on_its_key_and_not_on_its_batch():
    images, config = noise(8, size=6), AugmentConfig(flip=True, shift=2)
    together = augment(images, keys(8), config)
    alone = jnp.concatenate([augment(images[i : i + 1], keys(8)[i : i + 1], config)
                             for i in range(8)])  # fmt: skip
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("config", [AugmentConfig(flip=True), AugmentConfig(shift=2)])
def test_other_keys_give_other_images(config):
    images = noise(16, size=6)
    one, two = (augment(images, keys(16, seed), config) for seed in (0, 1))
    assert not np.array_equal(one, two)


def test_without_augmentation_images_stay_as_they_are():
    images = noise(3)
    np.testing.assert_array_equal(augment(images, keys(3), AugmentConfig()), images)


def test_normalize_is_by_channel_in_float32():
    images = jnp.asarray([[[[0, 51, 255]]]], jnp.uint8)
    got = normalize(images, (0.0, 0.1, 0.5), (1.0, 0.5, 0.25))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got[0, 0, 0], [0.0, 0.2, 2.0], rtol=1e-6)
