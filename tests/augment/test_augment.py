"""Augmentation: what it may do to an image, how often, and that it depends on the key alone."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo.augment import augment, erase, mix, normalize, random_flip, random_shift
from flaxzoo.augment.geometry import random_crop_boxes, random_vertical_flip, resized_crop
from flaxzoo.augment.jitter import JITTER, random_jitter
from flaxzoo.check_config import check
from flaxzoo.config import AugmentConfig, Config
from flaxzoo.errors import UserError

N = 4000
STRONG = AugmentConfig(
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    policy="randaugment",
    mixup=0.8,
    cutmix=1.0,
    mix_mode="elem",
    erase=0.5,
)


@pytest.mark.parametrize(("flip", "axis"), [(random_flip, 2), (random_vertical_flip, 1)])
def test_half_of_the_images_are_mirrored_and_the_others_untouched(keys, noise, flip, axis):
    images = noise(N)
    flipped = jax.jit(flip)(images, keys(N))
    mirrored = np.all(flipped == np.flip(images, axis), axis=(1, 2, 3))
    same = np.all(flipped == images, axis=(1, 2, 3))
    assert np.all(mirrored ^ same)
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / N**0.5  # four standard errors


def test_shifts_are_uniform_crops_of_the_zero_padded_image(keys, noise):
    image = noise(1, size=5)[0]
    shifted = np.asarray(
        jax.jit(random_shift, static_argnums=2)(
            jnp.broadcast_to(image, (N, *image.shape)), keys(N), 2
        )
    )
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    counts = [
        np.all(shifted == padded[i : i + 5, j : j + 5], axis=(1, 2, 3)).sum()
        for i in range(5)
        for j in range(5)
    ]
    assert sum(counts) == N  # each image is one of the 25 crops
    assert max(np.abs(np.array(counts) - N / 25)) < 5 * (N / 25) ** 0.5


jitted_boxes = jax.jit(random_crop_boxes, static_argnums=(1, 2, 3))


def test_crops_have_the_asked_areas_and_ratios(keys):
    scale, ratio = (0.2, 0.6), (3 / 4, 4 / 3)
    boxes = jitted_boxes(keys(N), (100, 100), scale, ratio)
    top, left, height, width = (np.asarray(number, float) for number in boxes)
    area, log_ratio = height * width / 1e4, np.log(width / height)
    assert 0.19 < area.min() < area.max() < 0.61  # sides are rounded to pixels
    assert abs(area.mean() - 0.4) < 5 * 0.4 / 12**0.5 / N**0.5
    assert abs(area.std() - 0.4 / 12**0.5) < 0.005
    assert abs(log_ratio.mean()) < 5 * np.log(16 / 9) / 12**0.5 / N**0.5
    assert abs(log_ratio.std() - np.log(16 / 9) / 12**0.5) < 0.005
    for start, length in ((top, height), (left, width)):
        assert start.min() == 0
        assert np.all(start + length <= 100)
        assert abs((start / (100 - length)).mean() - 0.5) < 5 * 0.3 / N**0.5


def test_where_no_box_fits_the_middle_is_taken(keys):
    boxes = jitted_boxes(keys(5), (10, 100), (1.0, 1.0), (3 / 4, 4 / 3))
    for got, expected in zip(boxes, (0, 43, 10, 13), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_crop_of_the_whole_image_changes_nothing(noise):
    images = noise(2, size=7)
    box = tuple(jnp.full(2, number, jnp.int32) for number in (0, 0, 7, 7))
    np.testing.assert_array_equal(jax.jit(resized_crop)(images, box), images)


def test_a_crop_sees_nothing_beyond_its_box():
    image = np.full((1, 8, 8, 1), 255, np.uint8)
    image[:, 2:5, 3:7] = 40
    box = tuple(jnp.full(1, number, jnp.int32) for number in (2, 3, 3, 4))
    np.testing.assert_array_equal(jax.jit(resized_crop)(image, box), 40)


def test_brightness_is_uniform(keys):
    images = jnp.full((N, 1, 1, 1), 100, jnp.uint8)
    jitter = jax.jit(lambda keys: random_jitter(images, keys, {"brightness": 0.5}))
    got = np.asarray(jitter(keys(N)), float)
    assert 50 <= got.min() < 52
    assert 147 < got.max() <= 150
    assert abs(got.mean() - 99.5) < 5 * 100 / 12**0.5 / N**0.5  # levels are truncated
    assert abs(got.std() - 100 / 12**0.5) < 0.7


def test_all_orders_of_jitter_are_equally_likely(keys, monkeypatch):
    """The functions are replaced by x -> 4 x + their number: the result tells the order."""
    n = 2400
    for i, name in enumerate(JITTER):
        append = lambda images, _, i=i: 4 * images + jnp.uint8(i)  # noqa: E731
        monkeypatch.setitem(JITTER, name, append)
    strength = dict.fromkeys(JITTER, 0.1)
    images = jnp.zeros((n, 1, 1, 1), jnp.uint8)
    got = jax.jit(lambda keys: random_jitter(images, keys, strength))(keys(n))
    orders = {64 * a + 16 * b + 4 * c + d: 0 for a, b, c, d in itertools.permutations(range(4))}
    for code in np.asarray(got).ravel():
        orders[int(code)] += 1
    assert len(orders) == 24
    assert max(abs(count - n / 24) for count in orders.values()) < 5 * (n / 24) ** 0.5


def chain(images, keys, batch_key, config, active=True):
    """All that a train step does to images, and to targets that tell the images apart."""
    pixels = normalize(augment(images, keys, config, active), (0.5,), (0.5,))
    targets = jax.nn.one_hot(jnp.arange(len(images)) % 2, 2)
    pixels, targets = mix(pixels, targets, keys, batch_key, config, active)
    return erase(pixels, keys, config, active), targets


WEAK = AugmentConfig(flip=True, vertical_flip=True, shift=2, crop_scale=(0.2, 1.0))


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_a_part_of_a_batch_becomes_what_it_becomes_within(keys, noise, mode):
    config = AugmentConfig(flip=True, shift=2, mixup=1.0, cutmix=1.0, mix_mode=mode, erase=0.5)
    images, key = noise(8, size=6), jax.random.key(1)
    whole = jax.jit(lambda *a: chain(*a, key, config))(images, keys(8))
    half = jax.jit(lambda *a: chain(*a, key, config))
    halves = [half(images[rows], keys(8)[rows]) for rows in (slice(0, 4), slice(4, 8))]
    for got, parts in zip(whole, zip(*halves, strict=True), strict=True):
        np.testing.assert_allclose(got, jnp.concatenate(parts), atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(flip=True),
        AugmentConfig(vertical_flip=True),
        AugmentConfig(shift=2),
        AugmentConfig(crop_scale=(0.2, 0.8)),
        AugmentConfig(hue=0.5),
        AugmentConfig(policy="trivialaugment"),
    ],
)
def test_other_keys_give_other_images_and_equal_keys_equal_ones(keys, noise, config):
    images = noise(16, size=6)
    call = jax.jit(lambda keys: augment(images, keys, config))
    one, again, two = call(keys(16)), call(keys(16)), call(keys(16, seed=1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, two)


def test_without_augmentation_images_stay_as_they_are(keys, noise):
    images = noise(4)
    pixels, targets = chain(images, keys(4), jax.random.key(0), AugmentConfig())
    np.testing.assert_array_equal(pixels, normalize(images, (0.5,), (0.5,)))
    np.testing.assert_array_equal(targets, [[1, 0], [0, 1]] * 2)


def test_what_is_off_changes_nothing_and_is_not_compiled_again(keys, noise):
    images, compiled = noise(4, size=6), []

    @jax.jit
    def call(active):
        compiled.append(1)
        return chain(images, keys(4), jax.random.key(0), STRONG, active)

    on, off = call(jnp.asarray(True)), call(jnp.asarray(False))
    assert len(compiled) == 1
    expected = normalize(images, (0.5,), (0.5,)), np.array([[1, 0], [0, 1]] * 2)
    for got, strong, plain in zip(off, on, expected, strict=True):
        np.testing.assert_allclose(got, plain, atol=1e-6)
        assert not np.allclose(strong, plain, atol=1e-3)


def test_flips_shifts_and_crops_go_on_after_the_off_epoch(keys, noise):
    images = noise(4, size=6)
    call = jax.jit(lambda active: augment(images, keys(4), WEAK, active))
    np.testing.assert_array_equal(call(jnp.asarray(True)), call(jnp.asarray(False)))
    assert not np.array_equal(call(jnp.asarray(False)), images)


PROGRAM = """
import json, re
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from flaxzoo.augment import augment, erase, mix, normalize
from flaxzoo.config import AugmentConfig

config = AugmentConfig(flip=True, shift=2, crop_scale=(0.2, 1.0), hue=0.1, contrast=0.5,
                       policy="randaugment", mixup=0.8, cutmix=1.0, mix_mode="pair", erase=0.5)

def step(images, targets, key):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(images)))
    pixels = normalize(augment(images, keys, config), (0.5,), (0.5,))
    pixels, targets = mix(pixels, targets, keys, key, config)
    return erase(pixels, keys, config), targets

images = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), dtype=np.uint8)
targets = np.eye(8, dtype=np.float32)
results = []
for devices in (jax.devices()[:1], jax.devices()):
    rows = NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec("batch"))
    arguments = jax.device_put(images, rows), jax.device_put(targets, rows), jax.random.key(0)
    compiled = jax.jit(step, out_shardings=rows).lower(*arguments).compile()
    results.append([np.asarray(x, float).tolist() for x in compiled(*arguments)])
collectives = re.findall(r"(all-\\w+|collective-\\w+)\\(", compiled.as_text())
print(json.dumps({"collectives": collectives, "results": results}))
"""


def test_devices_need_nothing_of_each_other():
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or "",
    }
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert output.returncode == 0, output.stderr
    answer = json.loads(output.stdout.splitlines()[-1])
    assert answer["collectives"] == []
    for one, four in zip(*answer["results"], strict=True):
        np.testing.assert_allclose(one, four, atol=1e-6)


def test_normalize_is_by_channel_in_float32():
    images = jnp.asarray([[[[0, 51, 255]]]], jnp.uint8)
    got = normalize(images, (0.0, 0.1, 0.5), (1.0, 0.5, 0.25))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got[0, 0, 0], [0.0, 0.2, 2.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"policy": "randomaugment"}, "config.augment.policy must be randaugment or trivialaug"),
        ({"policy_magnitude": 31}, "policy_magnitude must be from 0 to 30; got 31"),
        ({"crop_scale": (0.5, 0.2)}, r"crop_scale must be two numbers, .*, or empty; got \(0.5"),
        ({"crop_scale": (0.5,)}, "two numbers"),
        ({"erase_scale": ()}, "erase_scale must be two numbers, the smaller first"),
        ({"hue": 0.6}, "hue must be from 0 to 0.5"),
        ({"mixup": -1.0}, "mixup must be 0 or more"),
        ({"mix_mode": "all"}, "mix_mode must be batch or pair or elem"),
    ],
)
def test_a_value_that_no_augmentation_can_have_is_refused(fields, words):
    with pytest.raises(UserError, match=words):
        check(Config(augment=AugmentConfig(**fields)))


def test_images_are_cropped_on_the_host_or_on_the_device_but_not_twice():
    config = Config(augment=AugmentConfig(crop_scale=(0.08, 1.0)))
    check(config)
    config.data.crop = "random_resized"
    with pytest.raises(UserError, match=r"already cuts random boxes, on the host"):
        check(config)
