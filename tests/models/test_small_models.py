"""Every family in numbers, by its smallest variant."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxzoo import create_model
from flaxzoo.layers import Dropout, StochasticDepth
from flaxzoo.training.state import split_model
from tests.models.zoo import SMALL, call_parts, each, noise, smallest, without_noise


@functools.cache
def small(name: str, dtype: str = "float32"):
    """A small model, its parameters (none of them constant) and running statistics, and images."""
    model = without_noise(create_model(name, dtype=dtype))
    model_def, params, stats = split_model(model)
    height, width = smallest(model)
    if model.image_size is None:
        width += 5
    # Zero heads and gains let no gradient through.
    params = {k: v + 0.05 * noise(v.shape, i) for i, (k, v) in enumerate(params.items())}
    return model_def, params, stats, noise((4, height, width, 3))


@functools.cache
def evaluation(name: str, dtype: str):
    """Returns a jitted evaluation, and a list that grows by one with each compilation."""
    model_def, traces = small(name, dtype)[0], []

    @jax.jit
    def run(params, stats, images):
        traces.append(1)
        model = model_def.bind(params, stats)
        model.eval()
        return model(images), model_def.batch_stats_of(model)

    return run, traces


def evaluate(name: str, images=None, dtype: str = "float32"):
    _, params, stats, default = small(name, dtype)
    run, _ = evaluation(name, dtype)
    return run(params, stats, default if images is None else images)


@pytest.mark.parametrize("name", each(["resnet_tiny", "test_vgg", "test_googlenet", "test_vit"]))
def test_a_call_is_the_head_of_the_last_features(name):
    model_def, params, stats, images = small(name)

    @jax.jit
    def run(params, stats, images):
        model = model_def.bind(params, stats)
        model.eval()
        return call_parts(model, images) | {"last": model.forward_features(images)}

    out, called = run(params, stats, images), evaluate(name)[0]
    for ours, same in (out["logits"], called), (out["last"], out["maps"][-1]):
        np.testing.assert_allclose(ours, same, rtol=0, atol=1e-6 * np.abs(same).max())


@pytest.mark.parametrize("name", each(SMALL))
def test_logits_are_finite_and_differ_between_images(name):
    logits = np.asarray(evaluate(name)[0])
    assert np.isfinite(logits).all()
    assert np.abs(logits[0] - logits[1]).max() > 1e-6 * np.abs(logits).max()


@pytest.mark.parametrize("name", each(SMALL))
def test_a_second_call_does_not_compile_again(name):
    _, _, _, images = small(name)
    first, second = (evaluate(name, x)[0] for x in (images, 2 * images))
    assert (np.asarray(first) != np.asarray(second)).any()
    assert len(evaluation(name, "float32")[1]) == 1


@pytest.mark.parametrize("name", each(SMALL))
def test_in_evaluation_an_image_does_not_see_its_neighbours(name):
    _, _, _, images = small(name)
    alone = images * np.array([1, 0, 5, -1], np.float32)[:, None, None, None]
    a, b = (evaluate(name, x)[0][0] for x in (images, alone))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(a).max())


@pytest.mark.parametrize("name", each(SMALL))
def test_evaluation_leaves_the_running_statistics(name):
    _, _, before, _ = small(name)
    _, after = evaluate(name)
    assert [k for k in before if not np.array_equal(before[k], after[k])] == []


@pytest.mark.parametrize("name", each(SMALL))
def test_bfloat16_is_close_to_float32(name):
    a, b = (
        np.asarray(evaluate(name, dtype=dtype)[0], np.float32) for dtype in ("float32", "bfloat16")
    )
    # bfloat16 rounds by 2e-3; some twenty layers add up to less than twenty times that.
    assert np.linalg.norm(a - b) < 4e-2 * np.linalg.norm(a)


@functools.cache
def trained(name: str):
    """Returns the gradients of one training pass and the running statistics after it."""
    model_def, params, stats, images = small(name)

    @jax.jit
    def run(params, stats, images):
        def loss(params):
            model = model_def.bind(params, stats)
            model.train()
            weights = jnp.arange(1.0, 1 + model.num_classes)
            logits, aux = model.forward_train(images)
            total = sum((head @ weights for head in aux.values()), logits @ weights)
            return jnp.mean(total), model_def.batch_stats_of(model)

        return jax.grad(loss, has_aux=True)(params)

    return run(params, stats, images)


@pytest.mark.parametrize("name", each(SMALL))
def test_the_gradient_reaches_every_parameter(name):
    gradients, _ = trained(name)
    assert [k for k, g in gradients.items() if not (np.isfinite(g).all() and np.any(g))] == []


@pytest.mark.parametrize("name", each(SMALL))
def test_training_moves_every_running_statistic(name):
    _, after = trained(name)
    before = small(name)[2]
    assert [k for k in before if np.array_equal(before[k], after[k])] == []


def draws(name: str) -> bool:
    nodes = nnx.iter_graph(create_model(name, abstract=True))
    return any(isinstance(n, Dropout | StochasticDepth) and n.rate for _, n in nodes)


@pytest.mark.parametrize("name", each([name for name in SMALL if draws(name)]))
def test_training_draws_from_its_key(name):
    model = create_model(name)
    model_def, params, stats = split_model(model)
    images = noise((4, *smallest(model), 3))

    @jax.jit
    def run(params, key):
        model = model_def.bind(params, stats)
        model.train()
        return model(images, key=key)

    params = small(name)[1]
    first, again, other = (run(params, jax.random.key(i)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).any()
    with pytest.raises(ValueError, match=r"draws random numbers in training: call model\(images"):
        jax.eval_shape(lambda p: model_def.bind(p, stats)(images), params)
