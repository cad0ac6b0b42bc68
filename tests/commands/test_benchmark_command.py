"""flaxzoo benchmark."""

import csv

import pytest

from flaxzoo import commands
from flaxzoo.errors import UserError
from flaxzoo.speed import Runner, default_size, take_turns


def test_both_modes_for_programs(capsys):
    commands.run([
        "benchmark", "resnet_tiny", "--batch-size=8", "--image-size=8", "--rounds=2", "--csv",
    ])  # fmt: skip
    forward, train = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (forward["mode"], train["mode"]) == ("forward", "train")
    for row in (forward, train):
        assert row["model"] == "resnet_tiny"
        assert row["batches"] == "2"
        assert float(row["fastest"]) <= float(row["step_time"]) <= float(row["slowest"])
        expected = 8e3 / float(row["step_time"])
        assert float(row["images_per_second"]) == pytest.approx(expected)
        assert row["relative"] == ""
    assert float(train["peak_mib"]) > float(forward["peak_mib"]) > 0


def test_runners_take_turns():
    order = []
    runners = [Runner(name, lambda name=name: order.append(name), 0.0) for name in "ab"]
    take_turns(runners, rounds=2, batches=2)
    assert order == ["a", "a", "b", "b"] * 2
    assert [len(runner.seconds) for runner in runners] == [4, 4]


def test_images_are_of_the_models_own_size():
    assert default_size("resnet18") == 224
    assert default_size("swin_v2_t") == 224
    assert default_size("mixer_s16_224") == 224


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["vgg11", "--image-size=8"], "takes images of 32x32 pixels or more; got 8x8"),
        (["resnet19"], "did you mean 'resnet18'"),
    ],
)
def test_slips(flags, message):
    with pytest.raises(UserError, match=message):
        commands.run(["benchmark", *flags])


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(UserError, match="must be positive; got 0"):
        commands.run(["benchmark", "resnet_tiny", "--batch-size=0"])
