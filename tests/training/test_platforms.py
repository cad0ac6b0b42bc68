"""What GPUs and TPUs get to run, lowered here: nothing is compiled and neither is needed."""

import math
import re

import jax
import jax.numpy as jnp
import pytest

from flaxzoo import create_model
from flaxzoo.config import AugmentConfig, Config, ModelConfig, data_config
from flaxzoo.layers import moments
from flaxzoo.models import FAMILIES
from flaxzoo.training.abstract import abstract_step
from flaxzoo.training.objective import make_loss
from flaxzoo.training.parallel import all_devices
from flaxzoo.training.state import split_model
from tests.models.zoo import SMALL, abstract, each, smallest

ONE_OF_EACH_FAMILY = [
    next(name for name in SMALL if name in family.VARIANTS) for family in FAMILIES
]


@pytest.mark.parametrize("name", each(ONE_OF_EACH_FAMILY))
def test_a_step_for_accelerators_has_native_convolutions_and_nothing_of_cpus(name, monkeypatch):
    """Each has one forward and two for its gradients; of the first, none is for the images.

    On CPUs convolutions become products, loops (`while`) and calls of libraries (`custom_call`).
    Some become products on TPUs, too, which are tested with `conv_norm`, and below.
    """
    monkeypatch.setattr(moments, "WIDENING", math.inf)
    config = Config(
        batch_size=8,
        dtype="bfloat16",
        model=ModelConfig(name=name),
        augment=AugmentConfig(flip=True, shift=2),
        data=data_config("imagenette", image_size=smallest(abstract(name))[0]),
    )
    step, arguments = abstract_step(config, all_devices("jit"))
    convolutions = sum(kernel.ndim == 4 for kernel in arguments[0].params.values())
    lowered = step.trace(*arguments).lower(lowering_platforms=("cuda", "tpu"))
    found = re.findall(r"stablehlo\.(convolution|while|custom_call)\b", lowered.as_text())
    assert found == ["convolution"] * (3 * convolutions - 1) * 2  # a branch for each platform


@pytest.mark.parametrize(
    ("batch_norm", "devices", "expected"),
    [("global", 1, True), ("global", 2, False), ("per_device", 2, True)],
)
def test_tpus_normalise_by_moments_where_nothing_crosses(batch_norm, devices, expected):
    config = Config(batch_norm=batch_norm)
    model_def, params, stats = split_model(
        create_model("test_senet", abstract=True, dtype="bfloat16", num_classes=3)
    )
    vector, wide = (jax.ShapeDtypeStruct((4, *s), jnp.float32) for s in ((), (3,)))
    batch = {
        "image": jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((4,), jnp.int32),
        "target": wide,
        "weight": vector,
    }
    loss = make_loss(model_def, config, devices=devices)
    key = jax.eval_shape(lambda: jax.random.key(0))
    traced = jax.jit(lambda *arrays: loss(*arrays, None)).trace(params, stats, batch, key)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    parts = devices if batch_norm == "per_device" else 1
    covariances = re.findall(rf"stablehlo.dot_general.*-> tensor<{parts}x(\d+)x\1xf32>", text)
    assert bool(covariances) == expected
