"""Losses and whole steps are those that PyTorch takes."""

import copy

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flaxzoo.config import Config, ModelConfig, SamConfig, data_config
from flaxzoo.convert import to_torch_layout, torch_name
from flaxzoo.losses import (
    binary_cross_entropy_per_image,
    cross_entropy_per_image,
    distillation_per_image,
    weight_of,
)
from flaxzoo.parity.twins import make_twins
from flaxzoo.training.optimizer import sgd
from flaxzoo.training.state import first_state, split_model
from flaxzoo.training.step import Plan, make_train_step

CLASSES = 7


@pytest.fixture
def outputs(x64):
    rng = np.random.default_rng(0)
    logits, teacher = 3 * rng.normal(size=(2, 12, CLASSES))
    soft = rng.dirichlet(np.ones(CLASSES), size=12)
    labels = rng.integers(CLASSES, size=12)
    return [torch.from_numpy(a) for a in (logits, teacher, soft, labels)]


def ours(*tensors: torch.Tensor) -> list[jax.Array]:
    return [jnp.asarray(tensor.numpy()) for tensor in tensors]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_cross_entropy_is_torchs(outputs, smoothing, mixed):
    logits, _, soft, labels = outputs
    targets = soft if mixed else labels
    expected = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    got = cross_entropy_per_image(*ours(logits, targets), smoothing)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_weighted_mean_is_torchs(outputs, smoothing):
    logits, _, _, labels = outputs
    weights = torch.linspace(0.2, 3.0, CLASSES, dtype=torch.float64)
    expected = F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
    x, y, w = ours(logits, labels, weights)
    losses = cross_entropy_per_image(x, y, smoothing, w)
    np.testing.assert_allclose(jnp.sum(losses) / jnp.sum(weight_of(y, w)), expected, rtol=1e-12)


def test_binary_cross_entropy_is_torchs(outputs):
    logits, _, soft, _ = outputs
    expected = F.binary_cross_entropy_with_logits(logits, soft, reduction="none").mean(1)
    got = binary_cross_entropy_per_image(*ours(logits, soft))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_soft_distillation_is_torchs_divergence(outputs):
    logits, teacher, _, _ = outputs
    log_p, log_q = (F.log_softmax(x / 4, dim=1) for x in (logits, teacher))
    expected = 16 * F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(1)
    got = distillation_per_image(*ours(logits, teacher), temperature=4.0)
    np.testing.assert_allclose(got, expected, rtol=1e-11)


def test_hard_distillation_is_cross_entropy_with_the_teachers_choice(outputs):
    logits, teacher, _, _ = outputs
    expected = F.cross_entropy(logits, teacher.argmax(1), reduction="none")
    got = distillation_per_image(*ours(logits, teacher), temperature=1.0, hard=True)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def sam_step(model: torch.nn.Module, images, labels, rho: float, adaptive: bool) -> None:
    """One step of SAM around SGD, as its authors describe it, with statistics of the first pass."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)
    F.cross_entropy(model(images), labels).backward()
    statistics = {k: v.clone() for k, v in model.named_buffers()}
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    with torch.no_grad():
        sizes = {k: p.abs() if adaptive else torch.ones_like(p) for k, p in before.items()}
        grads = {k: p.grad for k, p in model.named_parameters()}
        length = torch.cat([(sizes[k] * grads[k]).flatten() for k in before]).norm()
        for key, parameter in model.named_parameters():
            parameter += rho * sizes[key] ** 2 * grads[key] / length
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(before[key])
        for key, buffer in model.named_buffers():
            buffer.copy_(statistics[key])
    optimizer.step()


@pytest.mark.parametrize(("rho", "adaptive"), [(0.05, False), (0.5, True)])
def test_a_step_of_sam_is_its_torch_twins(x64, rho, adaptive):
    twins = make_twins(
        "resnet_tiny", dtype="float64", image_size=8, batch_size=8, seed=0, in_channels=1
    )
    # Black and white, from 0 to 1: normalised in float32 they are exact, however that is compiled.
    pixels = 255 * np.random.default_rng(0).integers(0, 2, (8, 8, 8, 1), dtype=np.uint8)
    theirs = copy.deepcopy(twins.torch_model).train()
    images = torch.from_numpy(pixels / 255).permute(0, 3, 1, 2)
    sam_step(theirs, images, torch.from_numpy(twins.labels), rho, adaptive)

    config = Config(
        sam=SamConfig(rho=rho, adaptive=adaptive),
        data=data_config("digits", mean=(0.0,), std=(1.0,)),
        model=ModelConfig(num_classes=twins.flax_model.num_classes),
    )
    model_def, params, batch_stats = split_model(twins.flax_model)
    optimizer = sgd(lambda _: 0.05, momentum=0.9, weight_decay=1e-2)
    step = jax.jit(make_train_step(model_def, optimizer, config, Plan()))
    state = first_state(params, batch_stats, optimizer, config)
    labels = twins.labels.astype(np.int32)
    state, _ = step(state, {"image": jnp.asarray(pixels), "label": jnp.asarray(labels)}, {})
    got = {
        torch_name(k): to_torch_layout(k, np.asarray(v))
        for k, v in (state.params | state.batch_stats).items()
    }
    expected = {k: v.numpy() for k, v in theirs.state_dict().items() if "num_batches" not in k}
    chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-11)
