"""Configs of optimisers: groups, slips, states that are saved and restored."""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxzoo import create_model
from flaxzoo.check_config import check
from flaxzoo.checkpoint import Checkpoints
from flaxzoo.cli import parse_train_flags
from flaxzoo.config import Config, OptimizerConfig
from flaxzoo.errors import UserError
from flaxzoo.training.groups import layers_of, rate_factors
from flaxzoo.training.optimizer import OPTIMIZERS, make_optimizer
from flaxzoo.training.state import split_model


@pytest.fixture(scope="module")
def model():
    return create_model("resnet_tiny")


@pytest.fixture(scope="module")
def params(model):
    return split_model(model)[1]


def moved(config: OptimizerConfig, model, params) -> dict[str, bool]:
    """Returns whether each parameter is moved by gradients of ones."""
    optimizer = make_optimizer(config, lambda step: 0.1, model)
    state, ones = jax.jit(optimizer.init)(params), jax.tree.map(jnp.ones_like, params)
    updates, _ = jax.jit(optimizer.update)(ones, state, params)
    return {name: bool(jnp.any(update != 0)) for name, update in updates.items()}


def test_every_option_is_some_algorithms_and_every_one_of_theirs_can_be_set():
    ours = {f.name for f in dataclasses.fields(OptimizerConfig) if f.default is None}
    theirs = {o for make in OPTIMIZERS.values() for o in inspect.signature(make).parameters}
    assert theirs - {"learning_rate", "decays", "matrices"} == ours


def test_frozen_parameters_do_not_move_and_have_no_state(model, params):
    config = OptimizerConfig(name="adamw", freeze=("^conv1", "^bn1", "^layer1"))
    assert {n for n, m in moved(config, model, params).items() if not m} == {
        n for n in params if n.startswith(("conv1", "bn1", "layer1"))
    }
    state = jax.eval_shape(make_optimizer(config, lambda step: 0.1, model).init, params)
    assert "layer2.0.conv1" in str(state)
    assert "layer1" not in str(state)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "adamm"}, "unknown optimizer 'adamm'; did you mean 'adam'"),
        ({"name": "muon", "adjust_lr_fn": "orignal"}, "did you mean 'original'"),
        ({"freeze": ("^layr1",)}, r"'\^layr1' is found in no parameter's name; .* like layer1"),
        ({"freeze": ("(",)}, r"config.optimizer.freeze: '\(' is not a regular expression"),
        ({"freeze": (".",)}, "leaves nothing to train"),
        ({"decay_exclude": ("gamma",)}, "config.optimizer.decay_exclude: 'gamma' is found in no"),
        ({"rates": ("backbone=0.1",)}, "config.optimizer.rates: 'backbone' is found in no"),
        ({"rates": ("fc",)}, "written PATTERN=FACTOR"),
        ({"rates": ("fc=fast",)}, "written PATTERN=FACTOR"),
        ({"rates": ("fc=0",)}, "written PATTERN=FACTOR"),
        ({"name": "adam", "nesterov": True}, "nesterov=True is nothing that adam knows; its own"),
        ({"name": "sgd", "betas": (0.9, 0.99)}, "options are weight_decay, momentum, nesterov"),
        ({"name": "lars", "momentum": 0.0, "nesterov": True}, "nesterov needs a momentum above 0"),
    ],
)
def test_a_slip_is_explained(fields, words, model):
    with pytest.raises(UserError, match=words):
        make_optimizer(OptimizerConfig(**fields), lambda step: 0.1, model)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"betas": (0.9, 1.0)}, r"config.optimizer.betas must be two numbers of \[0, 1\)"),
        ({"betas": (0.9,)}, r"config.optimizer.betas must be two numbers of \[0, 1\)"),
        ({"eps": 0.0}, "config.optimizer.eps must be positive"),
        ({"layer_decay": 0.0}, "config.optimizer.layer_decay must be above 0 and at most 1"),
        ({"decay_on": "kernels"}, "config.optimizer.decay_on must be all or weights"),
        ({"clip_norm": 1.0, "clip_agc": 0.01}, "one of clip_norm and clip_agc, not both"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs config.optimizer.momentum above 0"),
    ],
)
def test_a_value_out_of_range_is_explained(fields, words):
    with pytest.raises(UserError, match=words):
        check(Config(optimizer=OptimizerConfig(**fields)))


def test_a_number_in_quotes_is_no_number():
    config = Config()
    optimizer: Any = config.optimizer
    optimizer.momentum = "0.9"
    with pytest.raises(UserError, match=r"config.optimizer.momentum must be of type float; got"):
        check(config)


def test_what_is_off_may_be_said_to_any_algorithm(model):
    config = OptimizerConfig(name="adam", nesterov=False, momentum=0.0)
    assert make_optimizer(config, lambda step: 0.1, model)


def test_options_and_patterns_come_from_the_command_line():
    config, _ = parse_train_flags(
        [
            "--config=configs/resnext.py",
            "--config.optimizer.name=adamw",
            "--config.optimizer.nesterov=false",
            "--config.optimizer.betas=(0.9,0.95)",
            "--config.optimizer.eps=1e-6",
            "--config.optimizer.freeze=('^layer1','^bn1[.]')",
            "--config.optimizer.rates=^fc=10",
        ]
    )
    assert config.optimizer.betas == (0.9, 0.95)
    assert config.optimizer.eps == 1e-6
    assert config.optimizer.freeze == ("^layer1", "^bn1[.]")
    assert config.optimizer.rates == ("^fc=10",)
    assert config.optimizer.momentum is None


@pytest.mark.parametrize(
    ("fields", "still"),
    [
        ({"decay_on": "weights"}, ("scale", "bias")),
        ({"decay_exclude": ("bn", "^fc")}, ("bn1.scale", "bn2.bias", "fc.kernel", "fc.bias")),
    ],
)
def test_only_what_decays_moves_without_a_gradient(fields, still, model, params):
    optimizer = make_optimizer(OptimizerConfig(name="adamw", **fields), lambda step: 0.1, model)
    ones = jax.tree.map(jnp.ones_like, params)  # a bias of zeros would not decay anyway
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(zeros, jax.jit(optimizer.init)(params), ones)
    unmoved = {name for name, update in updates.items() if not jnp.any(update)}
    if "decay_exclude" in fields:
        assert unmoved == {n for n in params if "bn" in n or n.startswith("fc")}
    else:
        assert unmoved == {n for n in params if n.endswith(still)}


def test_weights_are_the_matrices_of_layers():
    """No tables of positions, no tokens, no scales."""
    vit = create_model("test_vit")
    ones = jax.tree.map(jnp.ones_like, split_model(vit)[1])
    zeros = jax.tree.map(jnp.zeros_like, ones)
    optimizer = make_optimizer(OptimizerConfig(decay_on="weights"), lambda step: 0.1, vit)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(ones), ones)
    decayed = {name.rpartition(".")[2] for name, update in updates.items() if jnp.any(update)}
    assert decayed == {"kernel", "in_proj_weight"}


def test_several_rates_multiply(model, params):
    factors = rate_factors(model, params, 1.0, rates=("^fc=10", "^fc[.]bias=2", "bn=0.5"))
    assert (factors["fc.kernel"], factors["fc.bias"]) == (10, 20)
    assert (factors["bn1.scale"], factors["conv1.kernel"]) == (0.5, 1)


@pytest.mark.parametrize(
    ("name", "stem", "last_block", "head"),
    [
        ("test_convnext", "features.0.", "features.3.0.", "classifier."),
        ("test_vit", ("conv_proj", "class_token", "encoder.pos"),
         ("encoder.layers.encoder_layer_1.", "encoder.ln."), "heads."),
        ("test_regnet", "stem.", "trunk_output.block3.block3-1.", "fc."),
        ("test_mnasnet", ("layers.0.", "layers.1."), ("layers.11.", "layers.12."), "classifier."),
        ("test_googlenet", "conv1.", "inception5a.", ("fc.", "aux1.", "aux2.")),
        ("test_vgg", ("features.0.", "features.1."), ("features.11.", "features.12."),
         "classifier."),
        ("test_resnet_v2", "stem.", ("stages.1.blocks.0.", "norm."), "head."),
    ],
)  # fmt: skip
def test_layers_go_from_the_stem_to_the_head(name, stem, last_block, head):
    model = create_model(name, abstract=True)
    layers = layers_of(model)
    names = [name for layer in layers for name in layer]
    assert sorted(names) == sorted(split_model(model)[1])
    for at, prefixes in {0: stem, -2: last_block, -1: head}.items():
        assert layers[at] == [n for n in names if n.startswith(prefixes)]


def test_muon_leaves_the_first_and_the_last_layer_to_adamw(model, params):
    optimizer = make_optimizer(OptimizerConfig(name="muon"), lambda step: 0.1, model)
    state: Any = jax.eval_shape(optimizer.init, params)
    assert set(state["matrices"][0].average) == {n for n in params if n.endswith("kernel")} - {
        "conv1.kernel",
        "fc.kernel",
    }


def test_agc_leaves_the_last_layer_alone(model, params):
    config = OptimizerConfig(clip_agc=1e-6, momentum=0.0, weight_decay=0.0)
    optimizer = make_optimizer(config, lambda step: 1.0, model)
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = jax.jit(optimizer.update)(grads, jax.jit(optimizer.init)(params), params)
    assert {n for n, u in updates.items() if jnp.all(u == -1)} == {"fc.kernel", "fc.bias"}


@pytest.mark.parametrize("name", ["adamw", "muon", "rmsprop_tf"])
def test_a_restored_state_goes_on_to_the_bit(name, model, params, tmp_path):
    config = OptimizerConfig(
        name=name, freeze=("^conv1",), decay_on="weights", rates=("^fc=10",), layer_decay=0.5,
        clip_norm=1.0,
    )  # fmt: skip
    optimizer = make_optimizer(config, lambda step: 0.1 / (1 + step), model)
    rng = np.random.default_rng(0)
    grads = {n: rng.normal(size=p.shape).astype(np.float32) for n, p in params.items()}

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(grads, state, params)
        return jax.tree.map(jnp.add, params, updates), state

    saved = step(params, jax.jit(optimizer.init)(params))
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(1, saved, None)
    checkpoints.wait()
    restored = checkpoints.restore(jax.tree.map(jnp.zeros_like, saved))
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, step(*saved), step(*restored))
