"""Fresh models have torch's initial distributions."""

from functools import partial

import numpy as np
import pytest
import torch

import torch_ref
from flaxzoo import create_model, list_models, to_torch
from flaxzoo.layers import Conv, Linear, initialise
from flaxzoo.layers import init as ours_init


def ks_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest gap between the two samples' distribution functions (Kolmogorov, Smirnov)."""
    a, b = np.sort(a), np.sort(b)
    values = np.concatenate([a, b])
    return float(np.abs(
        np.searchsorted(a, values, side="right") / len(a)
        - np.searchsorted(b, values, side="right") / len(b)
    ).max())  # fmt: skip


@pytest.mark.parametrize("name", ["resnet18", "resnet20", "resnext_tiny", *list_models("test_*")])
def test_initial_values_are_distributed_as_in_torch(name):
    torch.manual_seed(0)
    theirs = torch_ref.create_model(name).state_dict()
    for key, value in to_torch(create_model(name)).items():
        a, b = value.ravel()[:20_000], theirs[key].numpy().ravel()[:20_000]
        if (b == b[0]).all():
            np.testing.assert_array_equal(a, b, err_msg=key)
        else:  # two samples of one distribution are farther apart once in 3000 times
            assert ks_distance(a, b) < 2 * np.sqrt(2 / len(a)), key


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Conv(64, 128, 3), torch.nn.Conv2d(64, 128, 3)),
        (Conv(64, 128, 3, groups=4), torch.nn.Conv2d(64, 128, 3, groups=4)),
        (Linear(300, 200), torch.nn.Linear(300, 200)),
    ],
    ids=["conv", "grouped", "linear"],
)
def test_default_kernels_and_biases_have_torchs_bounds(ours, theirs):
    initialise(ours, seed=0)
    for key, value in to_torch(ours).items():
        # The largest of n uniform values is within 10 / n of the bound but for once in 20000 times.
        reach = float(theirs.state_dict()[key].abs().max())
        assert abs(float(np.abs(value).max()) / reach - 1) < 10 / value.size, key


def test_a_seed_decides_the_initial_values():
    first, again, other = (to_torch(create_model("resnet_tiny", seed=s)) for s in (0, 0, 1))
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key], err_msg=key)
        if key.endswith(("conv1.weight", "fc.weight", "fc.bias")):
            assert not np.isin(value, other[key]).all(), key


def test_equal_shapes_have_different_initial_values():
    model = create_model("resnet20")
    blocks = [np.asarray(block.conv1.kernel[...]) for block in model.layer1]
    assert not any((blocks[0] == block).all() for block in blocks[1:])


SHAPE = (3, 3, 24, 40)  # ours; torch's is (40, 24, 3, 3)
DISTRIBUTIONS = {
    "truncated": (ours_init.TruncatedNormal(0.02), partial(torch.nn.init.trunc_normal_, std=0.02)),
    "truncated at 0.5 std": (
        ours_init.TruncatedNormal(1.0, bound=0.5),
        partial(torch.nn.init.trunc_normal_, a=-0.5, b=0.5),
    ),
    "kaiming normal": (ours_init.KaimingNormal(), torch.nn.init.kaiming_normal_),
    "kaiming normal, out": (
        ours_init.KaimingNormal("fan_out"),
        partial(torch.nn.init.kaiming_normal_, mode="fan_out"),
    ),
    "kaiming normal, linear": (
        ours_init.KaimingNormal(gain=1.0),
        partial(torch.nn.init.kaiming_normal_, nonlinearity="linear"),
    ),
    "kaiming uniform": (ours_init.KaimingUniform(), torch.nn.init.kaiming_uniform_),
    "kaiming uniform, out": (
        ours_init.KaimingUniform("fan_out", gain=1.0),
        partial(torch.nn.init.kaiming_uniform_, mode="fan_out", nonlinearity="linear"),
    ),
    "xavier uniform": (ours_init.XavierUniform(), torch.nn.init.xavier_uniform_),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution(name):
    ours, fill = DISTRIBUTIONS[name]
    torch.manual_seed(0)
    theirs = fill(torch.empty(40, 24, 3, 3)).numpy().ravel()
    values = ours(np.random.default_rng(0), SHAPE).ravel()
    assert ks_distance(values, theirs) < 2 * np.sqrt(2 / len(values))
    assert abs(values.std() / theirs.std() - 1) < 0.05
    assert abs(np.abs(values).max() / np.abs(theirs).max() - 1) < 0.3
