"""flaxzoo parity: what it prints and writes, and that it names the block with a mistake."""

import json

import numpy as np
import pytest
import torch

import torch_ref
from flaxzoo import UserError, commands, parity
from flaxzoo.layers.module import assign, named_variables, value_of
from flaxzoo.parity import twins
from flaxzoo.parity.blocks import blocks, explain

SMALL = ["resnet_tiny", "--image-size=8"]


@pytest.fixture(autouse=True)
def _same_settings(monkeypatch, tmp_path):
    """What the command sets in JAX is set here already, and would stay behind."""
    monkeypatch.setattr("flaxzoo.commands.parity._prepare", lambda flags: None)
    monkeypatch.chdir(tmp_path)


def planted(monkeypatch, mistake):
    """Has every flaxzoo model that is compared changed by `mistake`, weights included."""
    load = twins.load_torch

    def load_wrongly(model, state_dict):
        load(model, state_dict)
        mistake(model)

    monkeypatch.setattr(twins, "load_torch", load_wrongly)


def wrong_eps(model):
    model.layer2[0].bn1.eps = 1e-3


def one_wrong_weight(model):
    kernel = named_variables(model)["layer1.0.conv2.kernel"]
    value = np.array(value_of(kernel))
    value[0, 0, 0, 0] += 0.1
    assign(kernel, value)


@pytest.mark.parametrize(
    ("mistake", "block", "before"),
    [(wrong_eps, "layer2.0", "layer1"), (one_wrong_weight, "layer1.0", "relu")],
)
def test_the_first_block_that_differs_is_named(monkeypatch, capsys, mistake, block, before):
    planted(monkeypatch, mistake)
    with pytest.raises(SystemExit) as stop:
        commands.run(["parity", *SMALL, "--float64", "--train-steps=0"])
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert f"{block} is the first block that differs: features" in out
    assert f"{before}, before it, is equal" in out
    table = out[out.index("block") : out.index("allowed:")]
    results = {line.split()[0]: line.split()[-1] for line in table.splitlines()}
    assert results[before] == "equal"
    assert results[block] == results["logits"] == "differ"


def test_a_mistake_in_the_backward_pass_is_named_where_it_begins():
    """A gradient that is wrong in one block is wrong in all before it."""
    report = parity.Report("some", "float64", (8, 8))
    for name in ("conv1", "layer1.0", "layer1.1", "layer1", "fc", "logits"):
        report.differences.append(parity.Difference("forward", name, 0.0, 1e-9))
    for name, error in {
        "conv1": 1.0,
        "layer1.0.conv2": 1.0,
        "layer1.1.conv1": 0.0,
        "fc": 0.0,
    }.items():
        report.differences.append(parity.Difference("gradient", f"{name}.weight", error, 1e-9))
    assert explain(report).startswith(
        "features are equal; on the way back layer1.0 is the first block whose gradients differ: "
        "layer1.0.conv2.weight"
    )
    assert [b.name for b in blocks(report) if not b.equal] == ["conv1", "layer1.0", "layer1"]


def test_a_mistake_in_training_alone_is_named(monkeypatch):
    def wrong_momentum(model):
        model.layer2[0].bn2.momentum = 0.5

    planted(monkeypatch, wrong_momentum)
    report = parity.compare("resnet_tiny", image_size=8, train_steps=1)
    assert "after training layer2.0 is the first block that differs" in explain(report)
    assert [b.name for b in blocks(report) if not b.equal] == ["layer2.0", "layer2"]


def test_blocks_are_in_the_order_of_execution_with_their_parameters():
    compared = parity.compare("resnet_tiny", image_size=8, train_steps=1)
    found = blocks(compared)
    assert [block.name for block in found] == [
        "conv1", "bn1", "relu", "layer1.0", "layer1", "layer2.0", "layer2", "fc", "logits",
    ]  # fmt: skip
    assert found[3].shape == (2, 8, 8, 16)
    assert found[3].worst.keys() == {"forward", "gradient", "training"}
    assert found[2].worst.keys() == {"forward"}
    assert explain(compared).startswith("equal: each of")


def test_json_is_a_row_for_each_block(capsys):
    commands.run(["parity", *SMALL, "--float64", "--train-steps=0", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {row["model"] for row in rows} == {"resnet_tiny"}
    assert [row["block"] for row in rows][:2] == ["conv1", "bn1"]
    assert all(row["equal"] and row["forward"] < row["forward_allowed"] for row in rows)
    assert rows[0]["gradient"] is None


def test_gradients_are_those_of_one_step(monkeypatch, capsys):
    asked = {}

    def compare(name, **options):
        asked.update(options)
        raise UserError("asked")

    monkeypatch.setattr("flaxzoo.commands.parity.compare", compare)
    for flags, steps in (["--gradients"], 1), (["--gradients", "--train-steps=2"], 2), ([], 3):
        with pytest.raises(UserError, match="asked"):
            commands.run(["parity", *SMALL, *flags])
        assert asked["train_steps"] == steps


def test_a_page_has_the_table_and_a_picture(tmp_path, capsys):
    commands.run(["parity", *SMALL, "--float64", "--train-steps=0", "--html=page.html"])
    assert "wrote page.html" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<td>layer2.0</td>" in page
    assert page.count("data:image/png;base64,") == 1
    assert "http" not in page


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(torch_ref.create_model("resnet_tiny", num_classes=7).state_dict(), path)
    return str(path)


def test_weights_of_a_file_are_compared(weights):
    report = parity.compare("resnet_tiny", weights=weights, image_size=8, train_steps=0)
    assert report.equal
    assert report.weights == weights
    assert report.differences[-1].shape == (2, 7)


def test_weights_are_not_what_long_trainings_start_from(weights):
    with pytest.raises(UserError, match="more than 10 training steps start from initial values"):
        parity.compare("resnet_tiny", weights=weights, train_steps=11)


def test_both_twins_get_the_same_from_another_library_as_well():
    made = twins.make_twins("resnet_tiny", dtype="float64", image_size=8, batch_size=2)
    other = made.of_another("torch_ref")
    before, after = made.torch_model.state_dict(), other.torch_model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[k], v) for k, v in before.items() if v.is_floating_point())
