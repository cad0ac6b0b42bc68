"""Examples of the documentation that need torch; the others run in tests/test_docs.py."""

import importlib.util

import jax
import pytest

from docs import examples, stand_ins
from flaxzoo.config import Config, DataConfig, ModelConfig
from flaxzoo.parity.twins import import_library
from flaxzoo.training.loop import train

PAGES = examples.pages(torch=True)
NEEDS = {
    "convert": ("torchvision",),
    "README": ("torchvision", "onnx", "onnxscript", "onnxruntime"),
    "export": ("onnx", "onnxscript", "onnxruntime", "flatbuffers"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run that examples call runs/pets: a small net after a step on noise."""
    workdir = tmp_path_factory.mktemp("pets") / "pets"
    with examples.in_folder(workdir.parent / "folder"):
        config = Config(
            duration="1 steps",
            batch_size=8,
            model=ModelConfig(name="resnet_tiny"),
            data=DataConfig(source="folder=photos", image_size=32),
        )
        train(config, workdir, quiet=True)
    return workdir


@pytest.fixture
def folder(tmp_path, monkeypatch, run):
    # The cache of the tests, not that of commands.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir or "")
    with examples.in_folder(tmp_path):
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "pets").symlink_to(run)
        yield tmp_path
    jax.config.update("jax_enable_x64", False)  # which a page turns on for good


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_examples(path, folder, monkeypatch):
    missing = [name for name in NEEDS.get(path.stem, ()) if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    if path.stem == "convert":  # it makes torchvision's own net
        import_library("torchvision")  # also where it was built for another torch
    else:
        stand_ins.small_models(monkeypatch)
        stand_ins.small_twins(monkeypatch)
    if path.stem == "README":
        stand_ins.small_torchvision(monkeypatch)
    stand_ins.small_data(folder, monkeypatch)
    examples.run_page(path, torch=True)
