"""Mixup, CutMix and random erasing: the statistics of what they draw, and where it goes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo.augment import check_mixing, erase, mix
from flaxzoo.augment.erase import erased_boxes
from flaxzoo.augment.keys import uniforms
from flaxzoo.augment.mix import _outside_boxes, draw_weights, symmetric_beta
from flaxzoo.config import AugmentConfig
from flaxzoo.errors import UserError

N = 4000


def mixed(keys, n: int, **fields):
    """Mixes images that are all 0 (even rows) or all 1 (odd), whose targets say which."""
    images = jnp.broadcast_to((jnp.arange(n) % 2.0)[:, None, None, None], (n, 10, 12, 3))
    targets = jax.nn.one_hot(jnp.arange(n) % 2, 2)
    config = AugmentConfig(**fields)
    call = jax.jit(lambda k: mix(images, targets, k, jax.random.key(3), config))
    return (np.asarray(array) for array in call(keys(n)))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 3.0])
def test_shares_are_distributed_as_beta(keys, alpha):
    share = np.asarray(
        jax.jit(lambda k: symmetric_beta(*uniforms(k, 2), alpha))(keys(5 * N)), float
    )
    drawn = np.random.default_rng(0).beta(alpha, alpha, 5 * N)
    error = 1 / (2 * alpha + 1) ** 0.5 / 2 / (5 * N) ** 0.5  # of the mean
    assert abs(share.mean() - 0.5) < 5 * error
    assert abs(share.var() - 1 / (4 * (2 * alpha + 1))) < 0.004
    for quantile in (0.05, 0.25, 0.75, 0.95):
        assert abs(np.mean(share < np.quantile(drawn, quantile)) - quantile) < 0.015
    assert 0 <= share.min() < share.max() <= 1


@pytest.mark.parametrize("fields", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_a_target_is_mixed_by_the_share_of_the_pixels(keys, fields, mode):
    images, targets = mixed(keys, 64, mix_mode=mode, **fields)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(targets[:, 1], images.mean(axis=(1, 2, 3)), atol=1e-5)


def test_partners_are_neighbours(keys):
    images = jnp.arange(6.0)[:, None, None, None] * jnp.ones((1, 2, 2, 1))
    config = AugmentConfig(mixup=1.0)
    call = jax.jit(lambda keys: mix(images, jnp.eye(6), keys, jax.random.key(0), config))
    got, targets = call(keys(6))
    share = float(targets[0, 0])
    assert 0 < share < 1
    expected = share * np.arange(6) + (1 - share) * np.array([1, 0, 3, 2, 5, 4])
    np.testing.assert_allclose(got[:, 0, 0, 0], expected, rtol=1e-6)


def shares(targets) -> np.ndarray:
    """An image's own share: 1 where nothing was mixed."""
    return targets[np.arange(len(targets)), np.arange(len(targets)) % 2]


def test_a_batch_has_one_draw_a_pair_one_and_images_their_own(keys):
    of = {
        mode: np.round(shares(list(mixed(keys, 64, mixup=1.0, mix_mode=mode))[1]), 5)
        for mode in ("batch", "pair", "elem")
    }
    assert len(set(of["batch"])) == 1
    np.testing.assert_array_equal(of["pair"][::2], of["pair"][1::2])
    assert len(set(of["pair"])) == 32
    assert len(set(of["elem"])) == 64


def drawn_weights(keys, config: AugmentConfig):
    return map(np.asarray, jax.jit(lambda keys: draw_weights(keys, (10, 12), config))(keys))


def test_cutmix_replaces_one_box_around_a_uniform_place(keys):
    config = AugmentConfig(cutmix=1.0)
    weights, share = drawn_weights(keys(N), config)
    assert set(np.unique(weights)) == {0, 1}
    replaced = weights == 0
    rows, columns = replaced.any(axis=2), replaced.any(axis=1)
    np.testing.assert_array_equal(replaced, rows[:, :, None] & columns[:, None])  # a box or more
    for side in (rows, columns):  # and no more than one
        assert np.diff(side.astype(int), prepend=0, append=0).clip(0).sum(axis=1).max() == 1
    np.testing.assert_allclose(share, 1 - replaced.mean(axis=(1, 2)), atol=1e-6)
    # Uncut the box would have 1 - U of the image: what is cut off raises the mean share.
    assert 0.5 < share.mean() < 0.75
    centre = rows[:, 4:6].any(axis=1).mean()
    assert rows[:, 0].mean() > 0.2 < centre


def test_the_box_has_the_share_that_was_drawn():
    """The corners of the box, by the paper's formula, for each place and one lambda."""
    places = jnp.stack([jnp.arange(10) / 10 + 0.01, jnp.full(10, 0.5)])
    outside = jax.jit(_outside_boxes, static_argnums=2)(jnp.full(10, 0.75), places, (10, 10))
    for place in range(10):  # sqrt(1 - 0.75) of ten pixels are five: two before, three from
        expected = np.ones((10, 10))
        expected[max(0, place - 2) : place + 3, 3:8] = 0
        np.testing.assert_array_equal(outside[place], expected)


@pytest.mark.parametrize(("switch", "prob"), [(0.5, 1.0), (0.2, 0.6), (1.0, 1.0), (0.0, 1.0)])
def test_how_often_images_are_mixed_and_by_cutmix(keys, switch, prob):
    config = AugmentConfig(mixup=1.0, cutmix=1.0, mix_prob=prob, mix_switch_prob=switch)
    weights, _ = drawn_weights(keys(N), config)
    blended = np.any((weights > 0) & (weights < 1), axis=(1, 2)).mean()
    cut = np.any(weights == 0, axis=(1, 2)).mean()
    assert abs(blended - prob * (1 - switch)) < 5 * 0.5 / N**0.5
    # One box in a hundred or so has no pixel: (1 - U)^(1/2) of ten are less than one.
    assert abs(cut - prob * switch) < 5 * 0.5 / N**0.5 + 0.02 * prob * switch


def test_an_image_needs_a_neighbour_on_its_device():
    config = AugmentConfig(mixup=0.2)
    check_mixing(config, batch_size=16, devices=8)
    check_mixing(AugmentConfig(), batch_size=24, devices=8)
    with pytest.raises(UserError, match=r"must be a multiple of 16; got 24"):
        check_mixing(config, batch_size=24, devices=8)


def test_erased_boxes_have_the_asked_areas_and_ratios(keys):
    config = AugmentConfig(erase=1.0, erase_scale=(0.1, 0.3), erase_ratio=(0.5, 2.0))
    erased = np.asarray(jax.jit(lambda keys: erased_boxes(keys, (100, 80), config))(keys(N)))
    area = erased.mean(axis=(1, 2))
    height, width = erased.any(axis=2).sum(axis=1), erased.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(erased.sum(axis=(1, 2)), height * width)  # a box
    assert 0.09 < area.min() < area.max() < 0.31  # sides are rounded
    assert abs(area.mean() - 0.2) < 5 * 0.2 / 12**0.5 / N**0.5
    log_ratio = np.log(height / width)
    assert abs(log_ratio.mean()) < 5 * np.log(4) / 12**0.5 / N**0.5
    assert abs(log_ratio.std() - np.log(4) / 12**0.5) < 0.01


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_so_many_images_are_erased_and_the_rest_is_untouched(keys, probability):
    images = jnp.full((1000, 8, 8, 3), 7.0)
    config = AugmentConfig(erase=probability)
    got = np.asarray(jax.jit(lambda keys: erase(images, keys, config))(keys(1000)))
    assert set(np.unique(got)) == {0, 7}
    touched = np.any(got == 0, axis=(1, 2, 3)).mean()
    # Rounding makes a few boxes empty: 2 % of 8x8 pixels are one, less the ratio.
    assert probability * 0.95 - 0.07 < touched < probability + 0.07 or probability == touched


def test_erased_pixels_can_be_normal_noise(keys):
    config = AugmentConfig(erase=1.0, erase_value="random")
    images = jnp.full((1000, 8, 8, 3), 7.0)
    got = np.asarray(jax.jit(lambda keys: erase(images, keys, config))(keys(1000)))
    noise = got[got != 7]
    assert abs(noise.mean()) < 5 / len(noise) ** 0.5
    assert abs(noise.std() - 1) < 0.02


def test_what_is_too_large_for_the_image_is_not_erased(keys):
    config = AugmentConfig(erase=1.0, erase_scale=(1.0, 1.0), erase_ratio=(1.0, 1.0))
    assert not np.any(jax.jit(lambda keys: erased_boxes(keys, (8, 8), config))(keys(10)))
