"""Optimisers take the steps of torch's and timm's, in float64, whatever the layout of an array."""

import importlib
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from flaxzoo import create_model
from flaxzoo.config import OptimizerConfig
from flaxzoo.convert import from_torch_layout, to_torch_layout, torch_name
from flaxzoo.training import optimizers
from flaxzoo.training.clipping import clip_agc, clip_norm, clip_value
from flaxzoo.training.groups import by_name, rate_factors, scale_each
from flaxzoo.training.muon import muon
from flaxzoo.training.optimizer import make_optimizer
from flaxzoo.training.state import split_model
from parity_tests.comparing import installed

STEPS = 20
SHAPES = {  # in torch's layout
    "conv.kernel": (4, 3, 3, 2),
    "fc.kernel": (5, 4),
    "wide.kernel": (3, 7),
    "attention.in_proj_weight": (6, 2),
    "norm.scale": (4,),
    "scale.bias": (1,),
    "idle.bias": (3,),  # its gradients are zeros
    "zeros.kernel": (3, 4),  # begins as zeros
}
DECAYS = {name: name.endswith(("kernel", "in_proj_weight")) for name in SHAPES}


def learning_rate(step):
    return 0.3 / (1 + step)


def arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.normal(size=shape)) for name, shape in SHAPES.items()}


def start() -> dict[str, np.ndarray]:
    return arrays(0) | {"zeros.kernel": np.zeros(SHAPES["zeros.kernel"])}


def gradients() -> list[dict[str, np.ndarray]]:
    """Returns the gradients of each step, of lengths from 0.1 to 10."""
    lengths = np.logspace(-1, 1, STEPS)
    return [
        {n: length * g * (n != "idle.bias") for n, g in arrays(1 + step).items()}
        for step, length in enumerate(np.random.default_rng(0).permutation(lengths))
    ]


def our_steps(tx, rate=lambda step: 1.0) -> dict[str, np.ndarray]:
    """Returns the parameters after all steps, each update times `rate(step)`, as torch has them."""

    def here(tree):
        return {name: from_torch_layout(name, value) for name, value in tree.items()}

    def update(carry, inputs):
        params, state = carry
        grads, factor = inputs
        updates, state = tx.update(grads, state, params)
        return (jax.tree.map(lambda p, u: p + factor * u, params, updates), state), None

    @jax.jit
    def run(params, grads, factors):
        (params, _), _ = jax.lax.scan(update, (params, tx.init(params)), (grads, factors))
        return params

    grads = jax.tree.map(lambda *g: np.stack(g), *map(here, gradients()))
    params = run(here(start()), grads, np.asarray([rate(step) for step in range(STEPS)]))
    return {name: to_torch_layout(name, np.asarray(value)) for name, value in params.items()}


def torch_steps(make, clip=lambda parameters: None, names=tuple(SHAPES), **groups):
    """Returns the parameters after all steps of `make(groups)`.

    Args:
        make: takes torch's groups and returns one or several optimisers.
        clip: is called with the parameters before each step.
        groups: the names in each group, and what it sets: {"bare": (names, {"weight_decay": 0})}.
    """
    params = {n: torch.nn.Parameter(torch.from_numpy(p.copy())) for n, p in start().items()}
    groups = groups or {"all": (names, {})}
    groups = [{"params": [params[n] for n in of], **options} for of, options in groups.values()]
    made = make(groups)
    made = made if isinstance(made, list) else [made]
    for step, grads in enumerate(gradients()):
        for name in names:
            params[name].grad = torch.from_numpy(np.array(grads[name]))
        clip([params[name] for name in names])
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step) * group.get("factor", 1.0)
            optimizer.step()
    return {name: p.detach().numpy() for name, p in params.items()}


def assert_equal_steps(ours, theirs):
    for name, reference in theirs.items():
        np.testing.assert_allclose(
            ours[name], reference, rtol=0, atol=1e-12 * max(1, np.abs(reference).max()),
            err_msg=name,
        )  # fmt: skip


def timm_module(name: str):
    return importlib.import_module(f"{installed('timm').__name__}.{name}")


def torch_or_timm(optimizer):
    """Returns the class that is meant by itself or by its name in timm.optim."""
    if isinstance(optimizer, str):
        return getattr(timm_module("optim"), optimizer)
    return optimizer


DECAY: dict[str, Any] = {"weight_decay": 0.1}
CASES = [
    ("sgd", torch.optim.SGD, {"weight_decay": 0.0}),
    ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ("adam", torch.optim.Adam, {"weight_decay": 0.0}),
    ("adam", torch.optim.Adam, {"betas": (0.5, 0.9), "eps": 1e-3}),
    ("adamw", torch.optim.AdamW, {}),
    ("adamw", torch.optim.AdamW, {"betas": (0.5, 0.9), "eps": 1e-3}),
    ("rmsprop", torch.optim.RMSprop, {}),
    ("rmsprop", torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-2, "momentum": 0.9}),
    ("rmsprop", torch.optim.RMSprop, {"centered": True, "momentum": 0.9}),
    ("rmsprop_tf", "RMSpropTF", {}),
    ("rmsprop_tf", "RMSpropTF", {"alpha": 0.8, "eps": 1e-2, "momentum": 0.9}),
    ("rmsprop_tf", "RMSpropTF", {"momentum": 0.9, "lr_in_momentum": False}),
    ("rmsprop_tf", "RMSpropTF", {"momentum": 0.9, "centered": True}),
    ("lamb", "Lamb", {"weight_decay": 0.0}),
    ("lamb", "Lamb", {"max_grad_norm": 0.0, "betas": (0.8, 0.9), "eps": 1e-3}),
    ("lamb", "Lamb", {"trust_clip": True, "always_adapt": True}),
    ("lars", "Lars", {"weight_decay": 0.0}),
    ("lars", "Lars", {"momentum": 0.9, "nesterov": True, "trust_coeff": 0.02, "eps": 1e-2}),
    ("lars", "Lars", {"momentum": 0.9, "always_adapt": True}),
    ("lion", "Lion", {}),
    ("lion", "Lion", {"betas": (0.8, 0.9)}),
]


@pytest.mark.parametrize(
    ("name", "theirs", "options"), CASES, ids=[f"{n}-{'-'.join(o)}" for n, _, o in CASES]
)
def test_each_step_is_theirs(name, theirs, options):
    theirs = torch_or_timm(theirs)
    hyper = DECAY | options
    torch_hyper = hyper | ({"max_grad_norm": None} if hyper.get("max_grad_norm") == 0 else {})
    expected = torch_steps(lambda groups: theirs(groups, lr=1.0, **torch_hyper))
    assert_equal_steps(our_steps(getattr(optimizers, name)(learning_rate, **hyper)), expected)


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.9}),
        ("adamw", torch.optim.AdamW, {}),
        ("lamb", "Lamb", {}),
        ("lamb", "Lamb", {"always_adapt": True}),
        ("lars", "Lars", {}),
        ("lars", "Lars", {"always_adapt": True}),
    ],
)
def test_what_does_not_decay_is_in_a_group_of_no_decay(name, theirs, options):
    theirs = torch_or_timm(theirs)
    hyper = options | DECAY
    expected = torch_steps(
        lambda groups: theirs(groups, lr=1.0, **hyper),
        decay=([n for n in SHAPES if DECAYS[n]], {}),
        bare=([n for n in SHAPES if not DECAYS[n]], {"weight_decay": 0.0}),
    )
    tx = getattr(optimizers, name)(learning_rate, decays=DECAYS, **hyper)
    assert_equal_steps(our_steps(tx), expected)


MATRICES = {name: len(shape) == 2 for name, shape in SHAPES.items()}


def torch_muon(monkeypatch, groups, **hyper):
    """torch.optim.Muon and AdamW on two groups; without torch's rounding to bfloat16."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    matrices, others = groups
    return [
        torch.optim.Muon([matrices], lr=1.0, **DECAY, **hyper),
        torch.optim.AdamW([others], lr=1.0, **DECAY),
    ]


@pytest.mark.parametrize(
    "hyper",
    [
        {"adjust_lr_fn": "original"},
        {"adjust_lr_fn": "match_rms_adamw"},
        {"adjust_lr_fn": "original", "nesterov": False, "momentum": 0.8},
    ],
)
def test_muon_is_torchs_on_matrices_and_adamw_on_the_rest(hyper, monkeypatch):
    expected = torch_steps(
        lambda groups: torch_muon(monkeypatch, groups, **hyper),
        matrices=([n for n in SHAPES if MATRICES[n]], {}),
        others=([n for n in SHAPES if not MATRICES[n]], {}),
    )
    tx = muon(learning_rate, matrices=MATRICES, **DECAY, **hyper)
    assert_equal_steps(our_steps(tx), expected)


def test_muon_flattens_kernels_as_timm_does(monkeypatch):
    module, rounding = timm_module("optim.muon"), "zeropower_via_newtonschulz"  # to bfloat16
    exact = partial(getattr(module, rounding), dtype=torch.float64)
    monkeypatch.setattr(module, rounding, exact)
    kernels = ["conv.kernel", "fc.kernel"]
    expected = torch_steps(
        lambda groups: module.Muon(groups, lr=1.0, ns_coefficients="original", **DECAY),
        names=kernels,
    )
    part = muon(learning_rate, matrices=dict.fromkeys(kernels, True), nesterov=False, **DECAY)
    assert_equal_steps(our_steps(by_name({"kernels": (kernels, part)})), expected)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (clip_norm(2.0), lambda p: torch.nn.utils.clip_grad_norm_(p, 2.0)),
        (clip_value(0.5), lambda p: torch.nn.utils.clip_grad_value_(p, 0.5)),
        (clip_agc(0.05), lambda p: timm_adaptive_clip(p, 0.05)),
        (
            clip_agc(0.05, but={"fc.kernel"}),
            lambda p: timm_adaptive_clip([q for q in p if q.shape != SHAPES["fc.kernel"]], 0.05),
        ),
    ],
    ids=["norm", "value", "agc", "agc without the head"],
)
def test_clipping_is_theirs(ours, theirs):
    expected = torch_steps(lambda groups: torch.optim.SGD(groups, lr=1.0), clip=theirs)
    assert_equal_steps(our_steps(optax.chain(ours, optimizers.sgd(learning_rate))), expected)


def timm_adaptive_clip(parameters, factor):
    timm_module("utils.agc").adaptive_clip_grad(parameters, factor)


def test_factors_on_rates_are_groups_with_their_own_rates():
    """Decoupled decay follows the rate of its group."""
    factors = {name: 0.5 if DECAYS[name] else 3.0 for name in SHAPES}
    expected = torch_steps(
        lambda groups: torch.optim.AdamW(groups, lr=1.0, **DECAY),
        slow=([n for n in SHAPES if DECAYS[n]], {"factor": 0.5}),
        fast=([n for n in SHAPES if not DECAYS[n]], {"factor": 3.0}),
    )
    tx = optax.chain(optimizers.adamw(learning_rate, **DECAY), scale_each(factors))
    assert_equal_steps(our_steps(tx), expected)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "lamb", "lars", "lion"])
def test_a_factor_on_the_update_is_a_factor_on_the_rate(name):
    """What a schedule that looks at the loss relies on: the factor changes during the run."""
    algorithm = partial(getattr(optimizers, name), **DECAY)

    def factor(step):
        return 0.1 ** (step // 7)

    within = our_steps(algorithm(lambda step: learning_rate(step) * factor(step)))
    assert_equal_steps(our_steps(algorithm(learning_rate), rate=factor), within)


@pytest.mark.parametrize(
    ("name", "timms", "options"),
    [
        ("resnet18", "resnet18", {}),
        ("test_vit", "vit_tiny_patch16_224", {"depth": 2, "embed_dim": 32, "num_heads": 2}),
    ],
)
def test_rates_that_fall_by_layer_are_timms(name, timms, options):
    model, theirs = create_model(name, abstract=True), installed("timm").create_model
    theirs = theirs(timms, **options)
    groups = timm_module("optim").param_groups_layer_decay(theirs, layer_decay=0.75)
    scale_of = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    expected = {our_name(model, name): scale_of[id(p)] for name, p in theirs.named_parameters()}
    factors = rate_factors(model, split_model(model)[1], layer_decay=0.75, rates=())
    assert {torch_name(name): f for name, f in factors.items()} == pytest.approx(expected)


def our_name(model, timm_name: str) -> str:
    for pattern, replacement in model.timm_names:
        timm_name = re.sub(pattern, replacement, timm_name)
    return timm_name


def test_a_config_makes_torchs_groups():
    """Frozen parameters count for no norm, neither of the clipping nor of LAMB."""
    model = create_model("resnet_tiny", param_dtype="float64")
    _, params, _ = split_model(model)
    config = OptimizerConfig(
        name="lamb", weight_decay=0.1, decay_on="weights", decay_exclude=("downsample",),
        rates=("^fc=10", r"bias$=0.5"), freeze=("^conv1", "^layer1[.]0[.]bn"), clip_norm=0.7,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    grads = [{n: rng.normal(size=p.shape) for n, p in params.items()} for _ in range(3)]

    theirs, groups = {}, []
    for name, value in params.items():
        if name.startswith(("conv1", "layer1.0.bn")):
            continue
        theirs[name] = torch.nn.Parameter(torch.from_numpy(np.array(value)))
        decays = name.endswith("kernel") and "downsample" not in name
        factor = (10 if name.startswith("fc") else 1) * (0.5 if name.endswith("bias") else 1)
        groups.append(
            {"params": theirs[name], "weight_decay": 0.1 * decays, "lr": 0.01 * factor}
        )  # fmt: skip
    optimizer = timm_module("optim").Lamb(groups)

    tx = make_optimizer(config, lambda step: 0.01, model)
    state, update = tx.init(params), jax.jit(tx.update)
    start = params
    for gradient in grads:
        for name, parameter in theirs.items():
            parameter.grad = torch.from_numpy(gradient[name].copy())
        torch.nn.utils.clip_grad_norm_(list(theirs.values()), 0.7)
        optimizer.step()
        updates, state = update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    for name, value in params.items():
        reference = theirs[name].detach() if name in theirs else start[name]
        np.testing.assert_allclose(value, reference, rtol=1e-12, atol=1e-12, err_msg=name)
