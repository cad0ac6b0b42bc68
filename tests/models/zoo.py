"""The variants, and what the tests of them share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flaxzoo import create_model, list_models
from flaxzoo.layers import Dropout, StochasticDepth
from flaxzoo.models.base import Classifier
from flaxzoo.training.state import split_model

# One of each family, small enough to run.
SMALL = ["resnet_tiny", "resnext_tiny", "resnet20", "convnet_bn", *list_models("test_*")]
EVERY = sorted({*list_models(), *SMALL})


def each(names: list[str]) -> list:
    """Parameters for a test; all tests of a name run in one worker, which compiles once for all."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]


@functools.cache
def abstract(name: str) -> Classifier:
    """A model in shapes, which computes in bfloat16; one for all tests, which leave it as it is."""
    return create_model(name, abstract=True, dtype="bfloat16")


@functools.cache
def shapes(name: str) -> tuple[Classifier, dict]:
    """What `name` returns for two of the smallest images, computing in bfloat16; and the model."""
    model = abstract(name)
    height, width = model.image_size or (max(model.min_size, 32),) * 2
    return model, evaluated(model, (2, height, width, 3))


def evaluated(model: Classifier, shape: tuple[int, ...]) -> dict:
    """What `model` returns in evaluation, in shapes: see `call_parts`."""
    model.eval()
    model_def, params, stats = split_model(model)
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(
        lambda p, s, x: call_parts(model_def.bind(p, s), x), params, stats, images
    )


def smallest(model: Classifier) -> tuple[int, int]:
    """Height and width of the smallest images that a model trains on, at least 32x32."""
    return model.image_size or (max(32, model.min_train_size),) * 2


def without_noise(model: nnx.Module) -> nnx.Module:
    """Returns `model`, which from now on drops nothing in training."""
    model.set_attributes(Dropout, StochasticDepth, rate=0.0, raise_if_not_found=False)
    return model


def call_parts(model: Classifier, images: jax.Array) -> dict:
    """Everything that a classifier returns, but for the logits of a direct call."""
    features = model.feature_maps(images)
    maps = list(features.values())  # in order: what jit returns as a dict comes back sorted
    return {
        "features": features,
        "maps": maps,
        "logits": model.forward_head(maps[-1]),
        "pre_logits": model.forward_head(maps[-1], pre_logits=True),
    }


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
