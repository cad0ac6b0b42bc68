"""Exported files are the model, or there are none. What needs torch is in parity_tests."""

import importlib.util
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from flaxzoo import create_model, export, export_formats, to_torch
from flaxzoo.data.transforms import Preparation
from flaxzoo.errors import UserError
from flaxzoo.export import Source

PREPARATION = Preparation(16, 20, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
CLASSES = tuple("abcdefghij")


@pytest.fixture
def source() -> Source:
    return Source("resnet_tiny", create_model("resnet_tiny", seed=3), {}, PREPARATION, CLASSES)


@pytest.fixture
def no_torch(monkeypatch):
    """As on a machine without it."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else find(name)
    )


def images(n: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(n, size, size, 3)).astype(np.float32)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path, source: Source, format: str = "safetensors", **options):
    return export.export(source, path, format, **options)


def test_stablehlo_runs_with_jax_alone_on_any_batch(tmp_path, source):
    pytest.importorskip("flatbuffers", reason="needs flatbuffers: pip install 'flaxzoo[stablehlo]'")
    done = write(tmp_path / "m.stablehlo", source, "stablehlo")
    program = jax.export.deserialize(bytearray(done.path.read_bytes()))
    got = program.call(images(5))
    (expected,) = export.logits_of(source.model, [images(5)])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}
    assert done.error < 1e-5
    assert names(tmp_path) == ["m.stablehlo", "m.stablehlo.json"]


def test_weights_are_proved_without_torch(tmp_path, source, no_torch):
    done = write(tmp_path / "m.safetensors", source)
    saved, arrays = load_file(done.path), to_torch(source.model)
    assert saved.keys() == arrays.keys()
    for key, value in arrays.items():
        np.testing.assert_array_equal(saved[key], value, err_msg=key)
    assert (done.error, done.checked_by.endswith("bit for bit")) == (0.0, True)


def test_the_description_says_how_to_use_the_file(tmp_path, source, no_torch):
    done = write(tmp_path / "m.safetensors", source)
    said = json.loads(done.description.read_text())
    expected = {
        "model": "resnet_tiny", "format": "safetensors", "classes": list(CLASSES),
        "image_size": 16, "resize": 20, "interpolation": "bicubic", "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.3], "batch_norm_eps": [1e-5],
    }  # fmt: skip
    assert {key: said[key] for key in expected} == expected
    assert said["input"]["shape"] == ["batch", 3, 16, 16]
    assert said["output"]["shape"] == ["batch", source.model.num_classes]


def test_an_altered_value_is_noticed(tmp_path, source, no_torch, monkeypatch):
    read = export_formats.read_state_dict

    def altered(path):
        arrays = read(path)
        arrays["fc.bias"] = np.nextafter(arrays["fc.bias"], np.float32(9))
        return arrays

    monkeypatch.setattr(export_formats, "read_state_dict", altered)
    with pytest.raises(UserError, match=r"m\.safetensors was not written: fc\.bias is another"):
        write(tmp_path / "m.safetensors", source)
    assert names(tmp_path) == []


def with_logits(monkeypatch, alter):
    """Makes every format run a file that has the logits of the model, altered."""

    def run(source, path, shape, batch, batches):
        path.write_text("new")
        return "a runtime", [alter(logits) for logits in export.logits_of(source.model, batches)]

    monkeypatch.setattr(export, "WRITERS", dict.fromkeys(export.WRITERS, run))


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda x: 1.01 * x, r"logits in a runtime differ from flaxzoo's by 1\.0e-02 of the large"),
        (lambda x: np.full_like(x, np.nan), "differ from flaxzoo's by nan"),
        (lambda x: x[:1], r"its logits have the shape \(1, 10\) in a runtime, and \(3, 10\) in fl"),
    ],
    ids=["scaled", "nan", "fewer"],
)
def test_a_file_that_fails_leaves_what_was_there(tmp_path, source, monkeypatch, alter, message):
    with_logits(monkeypatch, alter)
    path = tmp_path / "m.onnx"
    path.write_text("old")
    with pytest.raises(UserError, match=message):
        write(path, source, "onnx")
    assert (path.read_text(), names(tmp_path)) == ("old", ["m.onnx"])


def test_a_file_that_passes_replaces_what_was_there(tmp_path, source, monkeypatch):
    with_logits(monkeypatch, lambda x: x)
    path = tmp_path / "new folder" / "m.onnx"
    path.parent.mkdir()
    path.write_text("old")
    assert write(path, source, "onnx", batch=2).error == 0
    assert (path.read_text(), names(path.parent)) == ("new", ["m.onnx", "m.onnx.json"])
    assert json.loads((path.parent / "m.onnx.json").read_text())["input"]["shape"][0] == 2


def test_logits_that_prove_nothing_are_refused(tmp_path, monkeypatch):
    with_logits(monkeypatch, lambda x: x)
    untrained = Source("test_mlp_mixer", create_model("test_mlp_mixer"), {"image_size": 32})
    with pytest.raises(UserError, match="hardly depend on the image"):
        write(tmp_path / "m.onnx", untrained, "onnx")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "format", "options", "message"),
    [
        ("m.onnx", "onyx", {}, "unknown format 'onyx'; did you mean 'onnx'"),
        ("m.bin", "torch", {}, r"the name of a file of torch ends in \.pth or \.pt; got .*m\.bin"),
        ("m.onnx", "onnx", {"batch": 0}, "batch must be an integer of at least 1; got 0"),
        ("m.pt", "torch", {"batch": 2}, "leave batch out for torch"),
        ("m.pt", "torch", {"image_size": 0}, "image_size must be an integer of at least 1; got 0"),
        ("m.pt", "torch", {}, r"torch: pip install 'flaxzoo\[parity\]'"),
        ("m.onnx", "onnx", {}, r"pip install 'flaxzoo\[onnx\]'"),
        ("file/m.pt", "torch", {}, "cannot write .*m.pt: "),
    ],
)
def test_slips_are_told(tmp_path, source, no_torch, path, format, options, message):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message):
        write(tmp_path / path, source, format, **options)
    assert names(tmp_path) == ["file"]


def test_a_size_that_nobody_knows_is_asked_for(tmp_path, source):
    with pytest.raises(UserError, match="which size of image resnet_tiny is to take"):
        write(tmp_path / "m.pt", Source("resnet_tiny", source.model), "torch")
