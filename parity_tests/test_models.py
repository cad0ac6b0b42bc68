"""Every variant has its twin's names and shapes; the small ones are compared in numbers.

All of them are compared in numbers, with torchvision's and timm's own models as well, by
`make parity`, which takes hours and writes docs/parity.md.
"""

import sys

import numpy as np
import pytest
import torch
from flax import nnx

import torch_ref
from flaxzoo import UserError, create_model, parity, to_torch
from flaxzoo.layers import BatchNorm, Conv, named_variables
from flaxzoo.models import VARIANTS, takes
from flaxzoo.parity import training, twins
from parity_tests.comparing import installed
from tests.models.zoo import SMALL


def test_both_registries_have_the_same_variants():
    assert VARIANTS.keys() == torch_ref.VARIANTS.keys()


def described(state_dict) -> dict[str, tuple]:
    return {
        key: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in state_dict.items()
    }


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_names_shapes_and_dtypes_are_the_twins(name):
    with torch.device("meta"):
        theirs = torch_ref.create_model(name).state_dict()
    assert described(to_torch(create_model(name, abstract=True))) == described(theirs)


def assert_equal(report: parity.Report):
    assert {d.kind for d in report.differences} == {"forward", "gradient", "training"}
    assert report.equal, report.failures


@pytest.mark.parametrize("name", SMALL)
def test_is_the_same_function_as_its_twin(name):
    size = None if takes(name, "image_size") else least_uneven(name)
    assert_equal(parity.compare(name, image_size=size, num_classes=7))


def least_uneven(name: str) -> tuple[int, int]:
    """Height and width of small images that are not square, one side of them odd."""
    if name == "test_alexnet":  # at its least size one pixel is left, and the logits hardly differ
        return 95, 101
    least = max(32, create_model(name, abstract=True).min_train_size)
    return least, least + 5


def has_imagenet_stem(name: str) -> bool:
    return takes(name, "stem") and VARIANTS[name].keywords.get("stem") != "cifar"


@pytest.mark.parametrize("name", [name for name in SMALL if has_imagenet_stem(name)])
def test_is_the_same_function_with_the_stem_for_small_images(name):
    size = {"image_size": (16, 17), "batch_size": 4}
    report = parity.compare(name, stem="cifar", in_channels=1, train_steps=0, **size)
    assert report.equal, report.failures


# Another kernel and no pooling, other layers, another stride alone. All families would take five
# minutes to compile.
@pytest.mark.parametrize("name", ["resnet_tiny", "test_densenet", "test_mobilenet_v2"])
def test_trains_as_its_twin_with_the_stem_for_small_images(name):
    assert_equal(parity.compare(name, stem="cifar", image_size=32, train_steps=1))


@pytest.mark.parametrize("name", ["resnext_tiny", "test_mobilenet_v3", "test_vit"])
def test_is_the_same_function_in_float32(name):
    assert_equal(parity.compare(name, dtype="float32"))


@pytest.mark.parametrize(
    ("name", "image_size", "options"),
    [
        ("resnet18", (33, 41), {"num_classes": 7}),
        # At 32 pixels layer4 would normalise over two values: moving torch's own weights by 1e-15
        # then moves what three of its steps arrive at by 6e-6.
        ("resnext18", (33, 41), {"num_classes": 7}),
    ],
    ids=str,
)
def test_a_whole_network_is_the_same_function_as_its_twin(name, image_size, options):
    assert_equal(parity.compare(name, image_size=image_size, **options))


# The smallest variant of each family that torchvision or timm has, at the least size.
PUBLISHED = {
    "torchvision": [
        "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s",
        "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2",
        "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnext50_32x4d",
        "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32",
    ],
    "timm": [
        "darknet53", "gmlp_ti16_224", "legacy_seresnet50", "mixer_s32_224", "mobilenetv1_100",
        "resmlp_12_224", "resnetv2_50", "seresnet18", "xception", "xception41",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library in PUBLISHED for name in PUBLISHED[library]]
)
def test_evaluates_as_the_published_model(library, name):
    installed(library)
    size = None
    if not takes(name, "image_size"):
        size = max(32, create_model(name, abstract=True).min_size)
    # Calibration trains the torch model, and Inception's auxiliary head then needs 299 pixels.
    options = {"aux_logits": False} if name == "inception_v3" else {}
    report = parity.compare(name, against=library, image_size=size, train_steps=0, **options)
    assert {d.kind for d in report.differences} == {"forward"}
    assert len(report.differences) >= 3
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

        monkeypatch.setattr(twins, "create_model", create)

    return sabotage


def padded_as_same(monkeypatch):
    def create(*args, **kwargs):
        model = create_model(*args, **kwargs)
        for _, layer in nnx.iter_graph(model):
            if isinstance(layer, Conv) and layer.stride == (2, 2) and layer.padding == PADDING_1:
                layer.padding = ((0, 1), (0, 1))
        return model

    monkeypatch.setattr(twins, "create_model", create)


def of_weights(change):
    """A mistake in the weights that arrive in the flaxzoo model."""

    def sabotage(monkeypatch):
        load = twins.load_torch
        monkeypatch.setattr(twins, "load_torch", lambda model, sd: load(model, change(dict(sd))))

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
    sgd = training.sgd
    monkeypatch.setattr(training, "sgd", lambda lr, **hyper: sgd(lr, momentum=hyper["momentum"]))


def smoothed_labels(monkeypatch):
    loss = training.cross_entropy
    monkeypatch.setattr(training, "cross_entropy", lambda x, labels: loss(x, labels, 1e-4))


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
