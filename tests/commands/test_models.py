"""flaxzoo models: filters, order, and what is known of parity."""

import json

import pytest

from flaxzoo.commands import run
from flaxzoo.errors import UserError
from flaxzoo.models import list_models
from flaxzoo.models.info import model_info


def listed(capsys, *flags: str) -> list[dict]:
    run(["models", *flags, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["*res*18", "--family=resnet"], ["resnet18", "resnext18"]),
        (["resnet[2_]*", "--source=own", "--max-params=0.3"], ["resnet20", "resnet_tiny"]),
        (["resnet[35]?", "--min-params=20", "--source=torchvision"], ["resnet34", "resnet50"]),
        (["resnet[12]?", "--max-gmacs=2"], ["resnet18"]),  # the CIFAR ones have none published
        (["vgg1?", "--sort=top1", "--descending"], ["vgg19", "vgg16", "vgg13", "vgg11"]),
        (["resnet[12]?", "--sort=gmacs"], ["resnet18", "resnet20"]),  # what is unknown comes last
    ],
)
def test_filters_and_order(capsys, flags, names):
    assert [row["model"] for row in listed(capsys, *flags)] == names


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--family=resnt"], "unknown family 'resnt'; did you mean 'resnet'"),
        (["resnet18", "--max-params=1"], "no model that matches 'resnet18' is as the flags ask"),
    ],
)
def test_filters_that_leave_nothing_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        run(["models", *flags])


def test_says_what_a_model_was_found_equal_to(capsys):
    (row,) = listed(capsys, "resnet18")
    assert row["parity"].startswith("torchvision")
    library = model_info("resnet18").parity[0]
    assert (library.against, library.dtypes) == ("torchvision", ("float64", "float32"))
    assert library.equal
    assert library.gradients


@pytest.mark.parametrize("name", list_models())
def test_every_variant_was_compared_and_found_equal(name):
    """By `make parity`, with our twin and the model of the library that has it."""
    info = model_info(name)
    compared = {parity.against: parity.dtypes for parity in info.parity}
    assert compared == dict.fromkeys(
        filter(None, (info.library, "torch_ref")), ("float64", "float32")
    )
    assert all(parity.equal for parity in info.parity)


def test_the_table_fits_100_columns(capsys):
    run(["models", "shufflenet_v1_g8*"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100
