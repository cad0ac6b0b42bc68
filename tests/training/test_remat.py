"""Which parts of a network run twice."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from flaxzoo.config import Config, ModelConfig, data_config
from flaxzoo.models import create_model
from flaxzoo.training.objective import make_loss
from flaxzoo.training.remat import mark_blocks
from flaxzoo.training.state import split_model
from tests.training.residuals import bytes_kept, size_of


def kept(name: str, remat: bool) -> int:
    """Bytes that the forward pass keeps for the backward pass beside what the loss is given."""
    model = create_model(name, abstract=True)
    model_def, params, batch_stats = split_model(model)
    config = Config(
        remat=remat,
        model=ModelConfig(num_classes=model.num_classes),
        data=data_config("imagenet2012"),
    )
    loss_fn = make_loss(model_def, config)
    side = model.image_size[0] if model.image_size else 224
    batch = {
        "image": jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((2,), jnp.int32),
        "target": jax.ShapeDtypeStruct((2, model.num_classes), jnp.float32),
        "weight": jax.ShapeDtypeStruct((2,), jnp.float32),
    }
    given = params, batch_stats, batch
    return bytes_kept(loss_fn, *given) - size_of(given)


@pytest.mark.parametrize(
    ("name", "most"),
    [("resnet18", 0.16), ("vit_b_32", 0.05), ("googlenet", 0.33), ("vgg11_bn", 0.46)],
)
def test_little_is_kept(name, most):
    """A large part may be little: without it a network with normalisation keeps little already."""
    assert kept(name, remat=True) < most * kept(name, remat=False)


def test_blocks_are_what_a_stage_consists_of():
    model = create_model("resnet18", abstract=True)
    mark_blocks(model)
    marked = {
        ".".join(map(str, path))
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Module) and type(node).__name__ == "Wrapped"
    }
    assert marked == {f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)}


def test_without_blocks_products_are_kept():
    model = create_model("vgg11", abstract=True)
    mark_blocks(model)
    marked = [
        path
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Module) and type(node).__name__ == "Wrapped"
    ]
    assert len(marked) == 11  # convolutions and linear layers
