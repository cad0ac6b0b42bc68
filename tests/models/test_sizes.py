"""Sizes of images that no power of two divides: every family takes them, or says which it takes."""

import jax
import jax.numpy as jnp
import pytest

from flaxzoo import UserError, create_model
from flaxzoo.models import takes
from flaxzoo.training.state import split_model
from tests.models.zoo import SMALL, abstract, each, evaluated

PRIMES = (37, 53)  # height and width


@pytest.mark.parametrize("name", each([name for name in SMALL if not takes(name, "image_size")]))
def test_odd_sizes_are_taken_in_training(name):
    model = create_model(name, abstract=True)
    least = model.min_train_size
    sizes = [tuple(max(side, least | 1) for side in PRIMES)]
    if least > model.min_size:  # which test_the_smallest_size_is_true_and_told looks at
        sizes.append((least, least))
    for size in sizes:
        logits, aux = trained(model, (2, *size, 3))
        assert logits.shape == (2, model.num_classes)
        assert aux.keys() == model.aux_heads.keys()


def trained(model, shape):
    """Returns what `forward_train` returns, in shapes; a model that cannot take them raises."""
    model.train()
    model_def, params, stats = split_model(model)

    def run(params, stats, images, key):
        return model_def.bind(params, stats).forward_train(images, key=key)

    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(run, params, stats, images, jax.eval_shape(lambda: jax.random.key(0)))


MADE_FOR_ONE = [name for name in SMALL if takes(name, "image_size")]


@pytest.mark.parametrize("name", MADE_FOR_ONE)
def test_models_for_one_size_are_made_for_an_odd_one_or_say_which(name):
    if name in ("convnet_bn", "test_lenet", "test_maxvit"):  # the others have patches
        model = create_model(name, abstract=True, image_size=PRIMES)
    else:
        with pytest.raises(UserError, match=r"image_size must .* got 37x53\."):
            create_model(name, abstract=True, image_size=PRIMES)
        height, width = abstract(name).image_size
        model = create_model(name, abstract=True, image_size=(height, 3 * width))
    shape = (2, *model.image_size, 3)
    assert evaluated(model, shape)["logits"].shape == (2, model.num_classes)
