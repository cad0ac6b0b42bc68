"""The notebooks run on a CPU with small settings, and are stored without outputs."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flaxzoo import data

ROOT = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.ipynb"))
SMALL = (
    "--config.model.name=lenet5_bn --config.data.image_size=16 --config.duration='4 steps' "
    "--config.batch_size=32 --config.schedule.warmup='1 steps' --config.eval_every='2 steps' "
    "--config.checkpoint.every='2 steps'"
)
# As Kaggle's client takes them: kernels_push of its version 2.2.
FIELDS = {
    "id": str, "title": str, "code_file": str, "language": str, "kernel_type": str,
    "is_private": bool, "enable_gpu": bool, "enable_tpu": bool, "enable_internet": bool,
    "machine_shape": str, "dataset_sources": list, "competition_sources": list,
    "kernel_sources": list, "model_sources": list,
}  # fmt: skip


def stored(name: str) -> dict:
    return json.loads((ROOT / name).read_text())


def cell(name: str, id: str) -> str:
    return next(cell["source"] for cell in stored(name)["cells"] if cell["id"] == id)


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Sixty digits as files, PATH/class/image.png, where Kaggle would have attached them."""
    folder = tmp_path / "input" / "datasets" / "someone" / "digits" / "by class"
    for i in range(60):
        image, label = data.load("digits").train[i], data.load("digits").train.labels[i]
        path = folder / str(label % 2) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(path)
    return folder


def test_training_goes_on_from_an_attached_output(open_notebook, tmp_path):
    kept, inputs = tmp_path / "working", tmp_path / "input"
    cells = open_notebook(
        "train/train.ipynb",
        CONFIG="configs/resnext.py", SETTINGS=SMALL, RUN="small",
        KEEP=str(kept), INPUT=str(inputs),
    )  # fmt: skip
    whole = cells()
    assert "going on" not in whole
    result = next(line for line in whole.splitlines() if line.startswith("test accuracy"))

    # A session that ended after step 2, and the next one with its output attached.
    shutil.rmtree(kept / "small" / "checkpoints" / "4")
    output = inputs / "notebooks" / "someone" / "flaxzoo-train" / "small"
    shutil.move(kept / "small", output)
    again = cells("keep", "train", "results")
    assert f"step 2 of {output} is now in {kept / 'small'}" in again
    assert f"going on from step 2 in {kept / 'small'}" in again
    assert result in again


def test_fine_tuning_reads_kaggle_inputs(open_notebook, photographs, tmp_path):
    cells = open_notebook(
        "finetune/finetune.ipynb",
        FOLDER="digits/by class", WEIGHTS="", SETTINGS=SMALL, RUN="small",
        KEEP=str(tmp_path), INPUT=str(tmp_path / "input"),
    )  # fmt: skip
    said = cells()
    assert "validation loss" in said
    table = (tmp_path / "predictions.csv").read_text().splitlines()
    assert table[0] == "image,rank,index,class,probability"
    assert len(table) == 1 + len(list(photographs.rglob("*0.png")))
    assert table[1] in said


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_without_outputs(name):
    pytest.importorskip("nbformat").validate(stored(name))
    cells = [cell for cell in stored(name)["cells"] if cell["cell_type"] == "code"]
    assert [(c["outputs"], c["execution_count"]) for c in cells] == [([], None)] * len(cells)
    assert cells[0]["metadata"]["tags"] == ["parameters"]


def test_cells_that_notebooks_share_are_equal():
    for one, other in pairwise(NAMES):
        for id in ("install-text", "install"):
            assert cell(one, id) == cell(other, id), f"{id} of {one} and {other}"
    for id in ("keep", "results"):
        assert cell("train/train.ipynb", id) == cell("finetune/finetune.ipynb", id), id


@pytest.mark.parametrize("name", NAMES)
def test_kaggle_gets_the_notebook_with_its_machine(name):
    folder = (ROOT / name).parent
    kernel = json.loads((folder / "kernel-metadata.json").read_text())
    assert {key: type(value) for key, value in kernel.items()} == {
        key: kind for key, kind in FIELDS.items() if key in kernel
    }
    assert kernel["code_file"] == Path(name).name
    assert (kernel["language"], kernel["kernel_type"]) == ("python", "notebook")
    # Kaggle makes the second part of the id from the title.
    assert kernel["id"].split("/")[1] == kernel["title"].lower().replace(" ", "-")
    accelerators = {"train": "TpuV5E8", "finetune": "NvidiaTeslaT4", "parity": None}
    assert kernel.get("machine_shape") == accelerators[folder.name]
    assert kernel["enable_tpu"] is (folder.name == "train")
    assert kernel["enable_gpu"] is (folder.name == "finetune")


def test_all_notebooks_are_found():
    assert NAMES == ["finetune/finetune.ipynb", "parity/parity.ipynb", "train/train.ipynb"]
