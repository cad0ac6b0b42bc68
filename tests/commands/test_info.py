"""flaxzoo info."""

import json

import pytest

from flaxzoo.commands import run
from flaxzoo.errors import UserError
from flaxzoo.models.info import count_parameters, create_model


def test_tells_people_all_about_a_model_in_100_columns(capsys):
    run(["info", "resnet18"])
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 100
    assert "Deep Residual Learning for Image Recognition" in output
    assert "1.814 at 224x224 pixels" in output
    assert "IMAGENET1K_V1: top-1 69.76 %" in output
    assert "layer4" in output
    assert "7x7x512" in output


def test_tells_programs_stages_and_layers(capsys):
    run(["info", "test_vit", "--depth", "2", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["image_size"] == 32
    assert sum(stage["parameters"] for stage in told["stages"]) == told["parameters"]
    assert told["parameters"] == count_parameters(create_model("test_vit", abstract=True))
    assert "encoder.layers" in [layer["name"] for layer in told["layers"]]
    assert told["options"]["dropout"] == 0.0


def test_takes_another_size(capsys):
    run(["info", "resnet_tiny", "--image-size", "16", "--csv"])
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert header.startswith("name,")
    assert "16x16x16" in first


def test_refuses_an_unknown_model_and_images_that_are_too_small():
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        run(["info", "resnet19"])
    with pytest.raises(UserError, match="75x75 pixels or more; got 32x32"):
        run(["info", "inception_v3", "--image-size", "32"])
