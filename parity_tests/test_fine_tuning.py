"""Fine-tuning starts where torch would, and frozen statistics are torch's `bn.eval()`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref
from flaxzoo import create_model, load_torch, to_torch
from flaxzoo.class_weights import class_weights
from flaxzoo.config import Config, ModelConfig, data_config
from flaxzoo.layers import freeze_statistics
from flaxzoo.losses import cross_entropy_per_image
from flaxzoo.training.init_from import initial_model
from flaxzoo.training.state import split_model


def calibrated(**options) -> torch.nn.Module:
    """A twin in double precision whose running statistics have moved."""
    torch.manual_seed(0)
    twin = torch_ref.create_model("resnet_tiny", **options).double()
    twin(torch.randn(8, 3, 8, 8, dtype=torch.double))
    return twin


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: {"state_dict": d, "epoch": 3}])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_of_torch_gives_all_but_the_head_to_the_bit(tmp_path, wrap, legacy):
    state_dict = {k: v.float() if v.is_floating_point() else v
                  for k, v in calibrated().state_dict().items()}  # fmt: skip
    options = {"_use_new_zipfile_serialization": False} if legacy else {}
    torch.save(wrap(state_dict), tmp_path / "w.pth", **options)
    config = Config(
        init_from=str(tmp_path / "w.pth"),
        data=data_config("folder=x", image_size=8),
        model=ModelConfig(name="resnet_tiny", num_classes=3),
    )
    model, origin = initial_model(config, 3, "float32")
    fresh = to_torch(create_model("resnet_tiny", num_classes=3, seed=config.seed))
    for key, value in to_torch(model).items():
        if "num_batches_tracked" not in key:
            expected = fresh[key] if key.startswith("fc.") else state_dict[key].numpy()
            np.testing.assert_array_equal(value, expected, err_msg=key)
    assert origin is not None
    assert origin.loaded.endswith("fc.weight, fc.bias")


@pytest.mark.usefixtures("x64")
def test_frozen_statistics_are_those_of_batch_norms_in_evaluation_mode():
    twin = calibrated()
    twin.train()
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    before = {k: v.clone() for k, v in twin.state_dict().items()}
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3))
    theirs = twin(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    theirs.square().sum().backward()

    model = create_model("resnet_tiny", dtype="float64", param_dtype="float64", abstract=True)
    load_torch(model, before)
    model_def, params, stats = split_model(model)

    def loss(params):
        bound = model_def.bind(params, stats)
        bound.train()
        freeze_statistics(bound)
        logits, _ = bound.forward_train(jnp.asarray(images))
        return jnp.sum(logits**2), (logits, model_def.batch_stats_of(bound))

    gradients, (logits, moved) = jax.jit(jax.grad(loss, has_aux=True))(params)
    np.testing.assert_allclose(logits, theirs.detach(), rtol=1e-11, atol=1e-11)
    ours = to_torch(model_def.bind(gradients, moved))
    for name, parameter in twin.named_parameters():
        scale = parameter.grad.abs().max()
        np.testing.assert_allclose(ours[name], parameter.grad, atol=1e-11 * scale, err_msg=name)
    for name, value in before.items():
        if "running" in name:
            np.testing.assert_array_equal(ours[name], value, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_class_weights_weigh_as_torchs_cross_entropy():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(12, 3)), rng.integers(0, 3, 12)
    weights = class_weights(np.bincount(labels, minlength=3), "balanced").astype(np.float64)
    theirs = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), weight=torch.from_numpy(weights)
    )
    losses = cross_entropy_per_image(jnp.asarray(logits), jnp.asarray(labels))
    of_image = weights[labels]
    np.testing.assert_allclose((of_image * losses).sum() / of_image.sum(), theirs, rtol=1e-12)
