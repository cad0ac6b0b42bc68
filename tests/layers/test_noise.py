"""Dropout and stochastic depth: how often, how much, and from which key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo.layers import Dropout, StochasticDepth, next_key, random_key

KEY = jax.random.key(0)
ONES = jnp.ones((2000, 3, 2, 4))
LAYERS = [Dropout, StochasticDepth]


def run(layer, x=ONES, key=KEY):
    with random_key(key):
        return np.asarray(layer(x))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", LAYERS)
def test_keeps_one_minus_rate_and_scales_it(kind, rate):
    y = run(kind(rate))
    draws = y.size if kind is Dropout else len(y)
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)], rtol=1e-6)
    # Within 4 standard deviations of a binomial: once in 16000 keys it would not be.
    assert abs(np.mean(y > 0) - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / draws)


def test_stochastic_depth_drops_whole_images():
    y = run(StochasticDepth(0.5)).reshape(len(ONES), -1)
    assert (y == y[:, :1]).all()


def test_dropout_drops_elements_by_themselves():
    kept = run(Dropout(0.5)).reshape(len(ONES), -1) > 0
    correlation = np.corrcoef(kept.T) - np.eye(kept.shape[1])
    assert np.abs(correlation).max() < 5 / np.sqrt(len(kept))


@pytest.mark.parametrize("kind", LAYERS)
def test_evaluation_changes_nothing_and_needs_no_key(kind):
    layer = kind(0.5)
    layer.eval()
    np.testing.assert_array_equal(layer(ONES), ONES)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("rate", "expected"), [(0.0, 1.0), (1.0, 0.0)])
def test_at_the_ends_nothing_is_random(kind, rate, expected):
    np.testing.assert_array_equal(kind(rate)(ONES), expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_key_decides(kind):
    layer = kind(0.5)
    np.testing.assert_array_equal(run(layer), run(layer))
    assert (run(layer) != run(layer, key=jax.random.key(1))).any()


def test_layers_of_one_call_draw_different_numbers():
    layer = Dropout(0.5)
    with random_key(KEY):
        first, second = np.asarray(layer(ONES)), np.asarray(layer(ONES))
    assert (first != second).any()


@pytest.mark.parametrize("kind", LAYERS)
def test_the_gradient_passes_where_the_value_does(kind):
    gradient = jax.grad(lambda x: jnp.sum(_with_key(kind(0.5), x)))(ONES)
    np.testing.assert_array_equal(gradient, run(kind(0.5)))


def _with_key(layer, x):
    with random_key(KEY):
        return layer(x)


@pytest.mark.parametrize("kind", LAYERS)
def test_bfloat16_stays(kind):
    with random_key(KEY):
        assert kind(0.5)(ONES.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("kind", LAYERS)
def test_training_without_a_key_is_refused(kind):
    with pytest.raises(ValueError, match=r"call model\(images, key=jax\.random\.key\(0\)\)"):
        kind(0.5)(ONES)


def test_a_key_is_forgotten_after_the_call():
    with pytest.raises(RuntimeError), random_key(KEY):
        raise RuntimeError
    with pytest.raises(ValueError, match="random numbers in training"):
        next_key()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_is_a_probability(kind, rate):
    with pytest.raises(ValueError, match=f"between 0 and 1; got {rate}"):
        kind(rate)
