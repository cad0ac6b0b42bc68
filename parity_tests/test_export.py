"""What other libraries read of a model is the model: ONNX Runtime and torch."""

import importlib.util

import numpy as np
import pytest
import torch

import torch_ref
from flaxzoo import create_model, export, export_formats
from flaxzoo.adaptation import set_eps
from flaxzoo.export import Source
from flaxzoo.parity import deployed
from flaxzoo.parity.twins import make_twins

needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="needs onnx, onnxscript and onnxruntime: pip install 'flaxzoo[onnx]'",
)


def calibrated(name: str, size: int, **options) -> Source:
    twins = make_twins(name, dtype="float32", batch_size=4, image_size=size, **options)
    fixed = {} if twins.flax_model.image_size is None else {"image_size": size}
    return Source(name, twins.flax_model, fixed | options)


def expected(source: Source, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images (n, c, h, w), and the model's logits of them."""
    images = np.random.default_rng(n).normal(size=(n, size, size, 3)).astype(np.float32)
    (logits,) = export.logits_of(source.model, [images])
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), logits


def assert_close(got, logits):
    np.testing.assert_allclose(got, logits, rtol=0, atol=1e-5 * np.abs(logits).max())


@needs_onnx
def test_onnx_takes_any_batch(tmp_path):
    """Of a ViT: its class token is repeated for each image."""
    import onnxruntime

    source = calibrated("test_vit", 32)
    done = export.export(source, tmp_path / "m.onnx", "onnx")
    session = onnxruntime.InferenceSession(done.path)
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("images", ["batch", 3, 32, 32])]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("logits", ["batch", 10])]
    for n in (1, 5):
        images, logits = expected(source, n, 32)
        assert_close(session.run(None, {"images": images})[0], logits)
    assert done.error < 1e-5
    assert str(tmp_path.cwd()).encode() not in done.path.read_bytes()


@needs_onnx
def test_onnx_takes_one_batch_where_it_is_told_to(tmp_path):
    import onnxruntime

    source = calibrated("resnet_tiny", 16)
    done = export.export(source, tmp_path / "m.onnx", "onnx", batch=1, image_size=16)
    session = onnxruntime.InferenceSession(done.path)
    assert session.get_inputs()[0].shape == [1, 3, 16, 16]
    images, logits = expected(source, 1, 16)
    assert_close(session.run(None, {"images": images})[0], logits)


@pytest.mark.parametrize(("format", "suffix"), [("torch", ".pth"), ("safetensors", ".safetensors")])
def test_torch_takes_the_weights(tmp_path, format, suffix):
    source = calibrated("resnet_tiny", 16, num_classes=7)
    source = Source(source.name, source.model)  # the number of classes is the model's
    path = tmp_path / f"m{suffix}"
    done = export.export(source, path, format, image_size=16)
    twin = torch_ref.create_model("resnet_tiny", num_classes=7).eval()
    if format == "torch":
        twin.load_state_dict(torch.load(path, weights_only=True), strict=True)
    else:
        import safetensors.torch

        twin.load_state_dict(safetensors.torch.load_file(path), strict=True)
    images, logits = expected(source, 3, 16)
    assert_close(deployed.run_twin(twin, images), logits)
    assert done.checked_by == f"torch {torch.__version__}"


def test_weights_that_torch_reads_otherwise_are_refused(tmp_path, monkeypatch):
    source = calibrated("resnet_tiny", 16)
    save = export_formats.write_state_dict

    def damaged(path, *weights):
        save(path, *weights)
        state_dict = torch.load(path, weights_only=True)
        state_dict["layer1.0.bn1.running_var"] *= 1.5
        torch.save(state_dict, path)

    monkeypatch.setattr(export_formats, "write_state_dict", damaged)
    with pytest.raises(export.UserError, match=r"logits in torch .* differ from flaxzoo's by \d"):
        export.export(source, tmp_path / "m.pth", "torch", image_size=16)
    assert list(tmp_path.iterdir()) == []


def test_the_twin_has_the_eps_that_the_weights_were_trained_with():
    model = create_model("test_efficientnet")
    own = export.norm_eps(model)
    set_eps(model, "timm")
    twin = deployed.make_twin("test_efficientnet", model, {})
    found = {m.eps for m in twin.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert found == export.norm_eps(model) == {type(model).timm_eps} != own
