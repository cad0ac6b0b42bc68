"""What each stage and layer costs adds up to what the model costs."""

import pytest

from flaxzoo import UserError, create_model
from flaxzoo.models.info import count_multiply_adds, count_parameters
from flaxzoo.models.summary import layer_parts, stage_parts


@pytest.mark.parametrize("name", ["resnet_tiny", "test_vit", "test_densenet", "test_swin"])
def test_stages_add_up_to_the_model(name):
    model = create_model(name, abstract=True)
    size = (model.image_size or (32,))[0]
    parts = stage_parts(model, size, size)
    assert [part.name for part in parts] == [*(i.name for i in model.feature_info()), "head"]
    assert sum(part.parameters for part in parts) == count_parameters(model)
    assert sum(part.multiply_adds for part in parts) == count_multiply_adds(name, size)
    assert parts[-1].shape == (model.num_classes,)


def test_what_only_training_uses_is_a_part_of_its_own():
    model = create_model("test_googlenet", abstract=True)
    *_, head, unused = stage_parts(model, 64, 64)
    assert (head.name, unused.name, unused.shape) == ("head", "not evaluated", None)
    assert unused.parameters == count_parameters(model) - count_parameters(
        create_model("test_googlenet", abstract=True, aux_logits=False)
    )


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet50", "11.1"), ("resnext50_32x4d", "14.4")]
)  # Radosavovic et al. 2020, table 3
def test_has_as_many_activations_as_published(name, millions):
    parts = stage_parts(create_model(name, abstract=True), 224, 224)
    assert f"{sum(part.activations for part in parts) / 1e6:.1f}" == millions


def test_layers_are_listed_in_order_with_all_that_is_in_them():
    model = create_model("resnet_tiny", abstract=True)
    parts = {part.name: part for part in layer_parts(model, 8, 8, depth=2)}
    assert list(parts) == [
        "conv1", "bn1", "layer1", "layer1.0", "layer2", "layer2.0", "fc",
    ]  # fmt: skip
    assert (parts["layer1.0"].kind, parts["layer1.0"].shape) == ("BasicBlock", (8, 8, 16))
    assert parts["layer1"].parameters == parts["layer1.0"].parameters > 0
    assert parts["conv1"].multiply_adds == 8 * 8 * 3 * 3 * 3 * 16
    assert parts["conv1"].activations == 8 * 8 * 16
    whole = sum(parts[name].parameters for name in ("conv1", "bn1", "layer1", "layer2", "fc"))
    assert whole == count_parameters(model)


def test_lists_of_layers_that_are_not_called_have_what_is_in_them():
    model = create_model("test_vit", abstract=True)
    parts = {part.name: part for part in layer_parts(model, 32, 32, depth=1)}
    assert list(parts) == ["conv_proj", "encoder", "heads"]
    assert parts["encoder"].shape == (17, 32)
    assert parts["encoder"].multiply_adds > parts["conv_proj"].multiply_adds > 0


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="made for images of 32x32 pixels"):
        stage_parts(create_model("test_vit", abstract=True), 64, 64)
