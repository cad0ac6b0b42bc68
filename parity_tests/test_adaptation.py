"""Weights of other classes, channels and names load, and what was not loaded is told."""

import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import torch_ref
from flaxzoo import UserError, create_model, load_torch, to_torch
from flaxzoo.adaptation import Loaded, fit
from flaxzoo.layers import BatchNorm
from flaxzoo.models import VARIANTS
from parity_tests.comparing import installed
from tests.models.zoo import SMALL


def weights_of(name: str, **options) -> dict:
    torch.manual_seed(0)
    return torch_ref.create_model(name, **options).state_dict()


def heads_of(model) -> set[str]:
    keys = {f"{head}.{leaf}" for head in model.head_names for leaf in ("weight", "bias")}
    return keys & to_torch(model).keys()


@pytest.mark.parametrize("name", SMALL)
def test_another_number_of_classes_keeps_the_head_and_loads_the_rest(name):
    weights, model = weights_of(name), create_model(name, num_classes=3, seed=1)
    before = to_torch(model)
    loaded = load_torch(model, weights, adapt=True)
    assert set(loaded.kept) == heads_of(model)
    for key, value in to_torch(model).items():
        expected = before[key] if key in loaded.kept else weights[key].numpy()
        np.testing.assert_array_equal(value, expected, err_msg=key)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_adapt_the_first_convolution_as_timm_does(name, channels):
    weights, model = weights_of(name), create_model(name, in_channels=channels)
    loaded = load_torch(model, weights, adapt=True)
    (key,) = loaded.adapted
    assert key == f"{model.first_conv}.weight"
    kernel = weights[key].numpy()
    ours = to_torch(model)[key]
    if channels == 1:
        np.testing.assert_allclose(ours, kernel.sum(1, keepdims=True), rtol=1e-5, atol=1e-6)
    else:
        expected = kernel[:, [0, 1, 2, 0]] * 0.75
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_timm_adapts_channels_in_the_same_way():
    adapt_input_conv = installed("timm").models._manipulate.adapt_input_conv

    weights = weights_of("resnet_tiny")
    for channels in (1, 2, 4, 6, 7):
        model = create_model("resnet_tiny", in_channels=channels)
        load_torch(model, weights, adapt=True)
        theirs = adapt_input_conv(channels, weights["conv1.weight"]).numpy()
        np.testing.assert_allclose(to_torch(model)["conv1.weight"], theirs, rtol=1e-6, atol=1e-7)


def test_without_adapt_other_classes_and_channels_are_refused():
    weights = weights_of("resnet_tiny")
    with pytest.raises(UserError, match=r"2 of another shape: fc\.bias is \(10,\), not \(3,\)"):
        load_torch(create_model("resnet_tiny", num_classes=3), weights)
    with pytest.raises(UserError, match=r"conv1\.weight is \(16, 3, 3, 3\), not \(16, 1, 3, 3\)"):
        load_torch(create_model("resnet_tiny", in_channels=1), weights)


def test_adapting_hides_no_other_misfit():
    weights = weights_of("resnet_tiny")
    del weights["layer1.0.conv1.weight"]
    with pytest.raises(UserError, match=r"1 missing: layer1\.0\.conv1\.weight$"):
        load_torch(create_model("resnet_tiny", num_classes=3), weights, adapt=True)
    wide = create_model("resnet_tiny", planes=32, num_classes=3)
    with pytest.raises(UserError, match=r"of another shape: .*conv1\.weight"):
        load_torch(wide, weights_of("resnet_tiny"), adapt=True)


def test_a_head_to_keep_needs_values():
    model = create_model("resnet_tiny", num_classes=3, abstract=True)
    with pytest.raises(UserError, match=r"no fc\.weight to keep: create it without abstract"):
        load_torch(model, weights_of("resnet_tiny"), adapt=True)


def test_create_model_adapts_and_tells(tmp_path, caplog):
    torch.save(weights_of("resnet_tiny"), tmp_path / "w.pth")
    with caplog.at_level(logging.WARNING, "flaxzoo"):
        create_model("resnet_tiny", pretrained=tmp_path / "w.pth")
    assert not caplog.messages
    with caplog.at_level(logging.WARNING, "flaxzoo"):
        create_model("resnet_tiny", pretrained=tmp_path / "w.pth", num_classes=3, in_channels=1)
    (message,) = caplog.messages
    assert "w.pth: 2 not loaded, of another number of classes: fc.weight, fc.bias" in message
    assert "1 adapted to the channels: conv1.weight" in message


def test_create_model_without_num_classes_refuses_a_file_of_others(tmp_path):
    torch.save(weights_of("resnet_tiny", num_classes=3), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth are not those .* fc\.bias is \(3,\), not \(10,\)"):
        create_model("resnet_tiny", pretrained=tmp_path / "w.pth")


# ------------------------------------------------------------------------------------ old files


def old_densenet(key: str) -> str:
    """torchvision's DenseNet files: denselayer1.norm.1.weight."""
    for part in ("norm", "conv"):
        for i in "12":
            key = key.replace(f".{part}{i}.", f".{part}.{i}.") if "denselayer" in key else key
    return key


OLD = {
    "test_densenet": old_densenet,
    "test_vit": lambda k: k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."),
}


@pytest.mark.parametrize("name", OLD)
def test_names_of_older_files(name):
    weights = weights_of(name)
    renamed = {OLD[name](key): value for key, value in weights.items()}
    assert renamed.keys() != weights.keys()
    model = create_model(name, abstract=True)
    assert load_torch(model, renamed) == Loaded()
    for key, value in to_torch(model).items():
        np.testing.assert_array_equal(value, weights[key], err_msg=key)


def test_counters_of_batches_may_be_missing():
    weights = {k: v for k, v in weights_of("resnet_tiny").items() if "num_batches" not in k}
    load_torch(create_model("resnet_tiny", abstract=True), weights)


@pytest.mark.parametrize("name", ["test_googlenet", "test_inception"])
def test_auxiliary_heads_in_a_file_decide_whether_the_model_has_them(tmp_path, name):
    weights = weights_of(name)
    plain = create_model(name, aux_logits=False, abstract=True)
    heads = set(create_model(name, abstract=True).aux_heads)
    loaded = load_torch(plain, weights)
    assert {key.partition(".")[0] for key in loaded.ignored} == heads
    without = {k: v for k, v in weights.items() if k.partition(".")[0] not in heads}
    for content, has in (weights, heads), (without, set()):
        torch.save(content, tmp_path / "w.pth")
        model = create_model(name, pretrained=tmp_path / "w.pth")
        assert set(model.aux_heads) == has
        assert model.transform_input  # as torchvision sets it where it loads weights
    chosen = create_model(name, pretrained=tmp_path / "w.pth", transform_input=False)
    assert not chosen.transform_input


@pytest.mark.parametrize("version", [1, 2])
def test_the_version_of_mnasnet_is_read_from_the_file(tmp_path, version):
    weights = weights_of("test_mnasnet", version=version)
    weights._metadata[""]["version"] = version
    torch.save(weights, tmp_path / "w.pth")
    model = create_model("test_mnasnet", pretrained=tmp_path / "w.pth")
    for key, value in to_torch(model).items():
        np.testing.assert_array_equal(value, weights[key], err_msg=key)


def test_a_vit_takes_a_table_of_positions_of_another_size():
    vision_transformer = installed("torchvision").models.vision_transformer

    weights = weights_of("test_vit")
    model = create_model("test_vit", image_size=48, abstract=True)
    load_torch(model, weights)
    key = "encoder.pos_embedding"
    theirs = vision_transformer.interpolate_embeddings(48, 8, weights)[key].numpy()
    np.testing.assert_allclose(to_torch(model)[key], theirs, rtol=0, atol=1e-6)


# ----------------------------------------------------------------------------------- timm's names


TIMM = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    **{f"efficientnet_b{i}": f"efficientnet_b{i}" for i in range(8)},
    **{f"efficientnet_v2_{size}": f"efficientnetv2_{size}" for size in "sml"},
    **{name: name for name in VARIANTS if name.startswith("vgg")},
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_h_14": "vit_huge_patch14_224",
}


@pytest.mark.parametrize("name", TIMM)
def test_every_key_and_shape_of_timms_is_understood(name):
    with torch.device("meta"):
        theirs = installed("timm").create_model(TIMM[name], num_classes=1000).state_dict()
    # Without memory: one number, seen as an array of each shape.
    weights = {k: np.broadcast_to(np.float32(0), v.shape) for k, v in theirs.items()}
    model = create_model(name, abstract=True)
    shapes = {k: v.shape for k, v in to_torch(model).items()}

    fitted, loaded = fit(model, weights, shapes, adapt=False, naming="auto")
    assert loaded.naming == "timm"
    assert {k: v.shape for k, v in fitted.items()} == shapes


def tiny_vit(num_classes: int) -> torch.nn.Module:
    return installed("timm").models.vision_transformer.VisionTransformer(
        img_size=64, patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2,
        num_classes=num_classes,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "efficientnet_v2_s", "test_vit"],
)
def test_a_model_with_timms_weights_is_timms_function(name):
    torch.manual_seed(0)
    if name == "test_vit":
        twin, options = tiny_vit(num_classes=7), {"image_size": 64}
    else:
        twin, options = installed("timm").create_model(TIMM[name], num_classes=7), {}
    twin = twin.double()
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3))
    torch_images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        twin(torch_images)  # running statistics
        theirs = twin.eval()(torch_images).numpy()
    doubles = {"dtype": "float64", "param_dtype": "float64"}
    model = create_model(name, num_classes=7, abstract=True, **doubles, **options)
    assert load_torch(model, twin.state_dict()).naming == "timm"
    model.eval()
    ours = jax.jit(lambda x: model(x))(jnp.asarray(images))
    assert np.abs(ours - theirs).max() < 1e-9 * np.abs(theirs).max()


def test_refused_weights_of_timm_leave_the_model_as_it_was():
    theirs = installed("timm").create_model("mobilenetv3_small_100").state_dict()
    del theirs["classifier.bias"]
    model = create_model("mobilenet_v3_small", abstract=True)
    with pytest.raises(UserError, match=r"1 missing: classifier\.3\.bias$"):
        load_torch(model, theirs)
    assert model.features[0][1].eps == 1e-3


def test_own_weights_after_timms_bring_their_own_eps_back():
    model = create_model("mobilenet_v3_small")
    own = to_torch(model)
    load_torch(model, installed("timm").create_model("mobilenetv3_small_100").state_dict())
    assert model.features[0][1].eps == 1e-5
    load_torch(model, own)
    assert {layer.eps for _, layer in nnx.iter_graph(model) if isinstance(layer, BatchNorm)} == {
        1e-3
    }


@pytest.mark.parametrize(
    "path",
    [
        "tf_mobilenetv3_small_100-37f49e2b.pth",
        "models--timm--tf_mobilenetv3_small_100.in1k/snapshots/0/model.pth",
        "downloads/model.pth",  # of a config.json that names the architecture
    ],
)
def test_timms_models_that_pad_as_tensorflow_does_are_refused(tmp_path, path):
    path = tmp_path / path
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(installed("timm").create_model("tf_mobilenetv3_small_100").state_dict(), path)
    if path.parent.name == "downloads":
        config = {"architecture": "tf_mobilenetv3_small_100", "num_classes": 1000}
        path.with_name("config.json").write_text(json.dumps(config))
    model = create_model("mobilenet_v3_small", abstract=True)
    with pytest.raises(UserError, match=r"one of timm's tf_\* models.*use those .* without tf_"):
        load_torch(model, path)
    with pytest.raises(UserError, match=r"one of timm's tf_\* models"):
        create_model("mobilenet_v3_small", pretrained=path)


@pytest.mark.parametrize("config", ["{", "[]", '{"architecture": "mobilenetv3_small_100"}'])
def test_timms_other_models_load(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    path = tmp_path / "model.pth"
    torch.save(installed("timm").create_model("mobilenetv3_small_100").state_dict(), path)
    model = create_model("mobilenet_v3_small", abstract=True)
    assert load_torch(model, path).naming == "timm"


def test_naming_can_be_forced():
    weights = weights_of("resnet_tiny")
    assert load_torch(create_model("resnet_tiny"), weights, naming="own").naming == "own"
    with pytest.raises(UserError, match="unknown naming 'tim'; did you mean 'timm'"):
        load_torch(create_model("resnet_tiny"), weights, naming="tim")
