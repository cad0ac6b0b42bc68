"""Every variant has its twin's names and shapes; a chosen few are compared in numbers.

All of them are compared in numbers by `python -m flaxzoo parity '*'`, which takes hours.
"""

import sys

import numpy as np
import pytest
import torch
from flax import nnx

import torch_ref
from flaxzoo import UserError, create_model, list_models, parity, to_torch
from flaxzoo.layers import BatchNorm, Conv, named_variables


def test_both_registries_have_the_same_variants():
    assert set(list_models()) == set(torch_ref.VARIANTS)


def described(state_dict) -> dict[str, tuple]:
    return {
        key: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in state_dict.items()
    }


@pytest.mark.parametrize("name", list_models())
def test_names_shapes_and_dtypes_are_the_twins(name):
    with torch.device("meta"):
        theirs = torch_ref.create_model(name).state_dict()
    assert described(to_torch(create_model(name, abstract=True))) == described(theirs)


@pytest.mark.parametrize(
    ("name", "dtype", "image_size", "options"),
    [
        ("resnet_tiny", "float64", (15, 18), {}),
        ("resnet_tiny", "float32", (15, 18), {}),
        ("resnext_tiny", "float64", (16, 16), {"num_classes": 3}),
        ("resnext_tiny", "float32", (16, 16), {"num_classes": 3}),
        ("resnet20", "float64", (17, 12), {}),
        ("resnet18", "float64", (33, 41), {"num_classes": 7}),
        ("resnet18", "float64", (9, 13), {"stem": "cifar", "in_channels": 1}),
        # At 32 pixels layer4 would normalise over two values: moving torch's own weights by 1e-15
        # then moves what three of its steps arrive at by 6e-6.
        ("resnext18", "float64", (33, 41), {"num_classes": 7}),
    ],
    ids=str,
)
def test_is_the_same_function_as_its_twin(name, dtype, image_size, options):
    report = parity.compare(name, dtype=dtype, image_size=image_size, **options)
    assert {d.kind for d in report.differences} == set(parity.KINDS)
    assert report.equal, report.failures


@pytest.mark.parametrize("name", ["resnext50_32x4d", "wide_resnet50_2", "resnext29_2x64d"])
def test_evaluates_as_its_twin(name):
    report = parity.compare(name, image_size=32, train_steps=0)
    assert {d.kind for d in report.differences} == {"forward"}
    assert report.equal, report.failures


# ------------------------------------------------- a comparison is worth the mistakes that it finds


PADDING_1 = ((1, 1), (1, 1))


def of_every(kind: type, **attributes):
    """A mistake that sets attributes of every layer of a kind."""

    def sabotage(monkeypatch):
        def create(*args, **kwargs):
            model = create_model(*args, **kwargs)
            model.set_attributes(kind, **attributes)
            return model

        monkeypatch.setattr(parity, "create_model", create)

    return sabotage


def padded_as_same(monkeypatch):
    def create(*args, **kwargs):
        model = create_model(*args, **kwargs)
        for _, layer in nnx.iter_graph(model):
            if isinstance(layer, Conv) and layer.stride == (2, 2) and layer.padding == PADDING_1:
                layer.padding = ((0, 1), (0, 1))
        return model

    monkeypatch.setattr(parity, "create_model", create)


def of_weights(change):
    """A mistake in the weights that arrive in the flaxzoo model."""

    def sabotage(monkeypatch):
        load = parity.load_torch
        monkeypatch.setattr(parity, "load_torch", lambda model, sd: load(model, change(dict(sd))))

    return sabotage


def swap(state_dict, a="layer1.0.bn1.bias", b="layer1.0.bn2.bias"):
    return state_dict | {a: state_dict[b], b: state_dict[a]}


def turn(state_dict, key="layer2.0.conv2.weight"):
    return state_dict | {key: state_dict[key].transpose(2, 3)}


def biased_running_variance(monkeypatch):
    move = BatchNorm._move

    def biased(self, running, new):
        count = 2 * 8 * 10  # values of a channel, where the map still has the size of the image
        move(self, running, new * (1 - 1 / count) if running is self.var else new)

    monkeypatch.setattr(BatchNorm, "_move", biased)


def no_weight_decay(monkeypatch):
    sgd = parity.sgd
    monkeypatch.setattr(parity, "sgd", lambda lr, **hyper: sgd(lr, momentum=hyper["momentum"]))


def smoothed_labels(monkeypatch):
    loss = parity.cross_entropy
    monkeypatch.setattr(parity, "cross_entropy", lambda x, labels: loss(x, labels, 1e-4))


MISTAKES = [  # and the first kind of comparison that must notice
    pytest.param(of_every(BatchNorm, eps=1e-3), "forward", id="eps"),
    pytest.param(padded_as_same, "forward", id="SAME"),
    pytest.param(of_weights(swap), "forward", id="two equal shapes swapped"),
    pytest.param(of_weights(turn), "forward", id="kernel turned"),
    pytest.param(smoothed_labels, "gradient", id="loss"),
    pytest.param(of_every(BatchNorm, momentum=0.9), "training", id="momentum"),
    pytest.param(biased_running_variance, "training", id="biased running variance"),
    pytest.param(no_weight_decay, "training", id="no weight decay"),
]


@pytest.mark.parametrize(("sabotage", "kind"), MISTAKES)
def test_a_mistake_is_found(monkeypatch, sabotage, kind):
    sabotage(monkeypatch)
    steps = 0 if kind == "forward" else 1
    report = parity.compare("resnet_tiny", image_size=(8, 10), train_steps=steps)
    assert not report.equal
    assert report.failures[0].kind == kind


def test_calibration_leaves_nothing_constant():
    twins = parity.make_twins("resnet_tiny", dtype="float64", image_size=8, batch_size=2, seed=0)
    for name, variable in named_variables(twins.flax_model).items():
        assert np.ptp(variable[...]) > 0, name


def test_nan_is_a_difference():
    nan = np.full(3, np.nan)
    assert not parity.difference("forward", "logits", nan, np.ones(3), "float64").equal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "bfloat16"}, "unknown dtype 'bfloat16'.*known: float32, float64"),
        ({"batch_size": 1}, "batch_size must be an integer of at least 2; got 1"),
        ({"image_size": 0}, "image_size must be an integer of at least 1; got 0"),
        ({"image_size": (8, -1)}, "image_size must be an integer of at least 1; got -1"),
        ({"train_steps": -1}, "train_steps must be an integer of at least 0; got -1"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        parity.compare("resnet_tiny", **options)


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not there
    with pytest.raises(UserError, match=r"parity needs torch: pip install 'flaxzoo\[parity\]'"):
        parity.compare("resnet_tiny")


def test_a_twin_with_an_unknown_stem_is_refused():
    with pytest.raises(KeyError, match="no stem named 'cifr'; known: cifar, imagenet"):
        torch_ref.create_model("resnet_tiny", stem="cifr")
