"""Models that cannot be made and images that do not fit are refused in one sentence."""

import re

import numpy as np
import pytest

from flaxzoo import UserError, create_model, load_torch, to_torch
from flaxzoo.layers import Linear, global_avg_pool, initialise
from flaxzoo.models.base import Classifier


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet5"}, r"unknown model 'resnet5'; did you mean .*'resnet50'"),
        ({"name": "ResNet-18"}, r"unknown model 'ResNet-18'"),
        ({"stm": "cifar"}, r"unknown option of resnet18 'stm'; did you mean 'stem'"),
        ({"depths": (1, 1)}, r"unknown option of resnet18 'depths'"),
        ({"stem": "cifr"}, r"unknown stem 'cifr'; did you mean 'cifar'\? known: cifar, imagenet"),
        ({"num_classes": -1}, r"num_classes must be an integer of at least 0; got -1\.$"),
        ({"num_classes": 10.5}, r"num_classes .*; got 10\.5\.$"),
        ({"num_classes": True}, r"num_classes .*; got True\.$"),
        ({"num_classes": "10"}, r"num_classes .*; got '10'\.$"),
        ({"in_channels": 0}, r"in_channels must be an integer of at least 1; got 0\.$"),
        ({"in_channels": 3.0}, r"in_channels .*; got 3\.0\.$"),
        ({"seed": -1}, r"seed must be an integer of at least 0; got -1\.$"),
        ({"seed": 1.5}, r"seed .*; got 1\.5\.$"),
        ({"planes": 0}, r"planes must be an integer of at least 1; got 0\.$"),
        ({"planes": -4}, r"planes .*; got -4\.$"),
        ({"name": "resnext18", "planes": 8}, r"planes must make 32 groups .*; got 8\.$"),
        ({"name": "resnext18", "planes": 40}, r"planes must make 32 groups .*; got 40\.$"),
        ({"name": "resnext50_32x4d", "planes": 8}, r"planes must make 32 groups .*; got 8\.$"),
        ({"dtype": "int8"}, r"one of float16, bfloat16, float32, float64; got int8"),
        ({"dtype": "float8_e4m3fn"}, r"one of .*; got float8_e4m3fn"),
        ({"param_dtype": "flot32"}, r"one of .*; got 'flot32'"),
        ({"dtype": "float64"}, r"float64 needs .*jax_enable_x64"),
        ({"name": 18}, r"named by a string, one of list_models\(\); got 18"),
        ({"name": ["resnet18"]}, r"named by a string, .* got \['resnet18'\]"),
        ({"pretrained": 3}, r"takes True, the name of .*, or the path of .* a saved model; got 3"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        create_model(**{"name": "resnet18", "abstract": True} | arguments)


def test_a_model_that_memory_cannot_hold_is_refused_before_it_is_filled():
    with pytest.raises(
        UserError, match=r"values of this ResNet take 1.*,.* GiB; this machine has "
    ):
        create_model("resnet18", planes=10**6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 1)), "made for 3 channels; got images of shape (2, 8, 8, 1)"),
        (np.zeros((2, 3, 8, 8)), "shape (2, 3, 8, 8) (channels come last)"),
        (np.zeros((8, 8, 3)), "images of shape (n, h, w, c); got (8, 8, 3)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "floating-point images; got uint8: divide by 255"),
        (np.zeros((2, 0, 8, 3)), "1x1 pixels or more; got 0x8"),
    ],
    ids=["channels", "channels first", "rank", "integers", "empty"],
)
def test_images_that_do_not_fit_are_refused(images, message):
    with pytest.raises(UserError, match=re.escape(message)):
        create_model("resnet_tiny", abstract=True)(images)


def test_a_model_without_values_says_so():
    images = np.zeros((2, 8, 8, 3), np.float32)
    model = create_model("resnet_tiny", abstract=True)
    with pytest.raises(UserError, match=r"this ResNet has no values yet: fill it with load_torch"):
        model(images)
    load_torch(model, to_torch(create_model("resnet_tiny")))
    assert model(images).shape == (2, 10)


class AtLeastFour(Classifier):
    min_size = 4

    def __init__(self):
        super().__init__(in_channels=1, num_classes=2)
        self.fc = Linear(1, 2)

    def run_stages(self, x):
        yield "all", x

    def forward_head(self, x, pre_logits=False):
        return self.fc(global_avg_pool(x))


@pytest.mark.parametrize("shape", [(1, 3, 4, 1), (1, 4, 3, 1)])
def test_images_below_the_smallest_size_are_refused(shape):
    with pytest.raises(UserError, match=rf"AtLeastFour .* 4x4 .* got {shape[1]}x{shape[2]}"):
        AtLeastFour()(np.zeros(shape, np.float32))


def test_images_of_the_smallest_size_are_taken():
    model = AtLeastFour()
    initialise(model, seed=0)
    assert model(np.zeros((1, 4, 4, 1), np.float32)).shape == (1, 2)
