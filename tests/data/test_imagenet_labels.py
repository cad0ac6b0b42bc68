"""ImageNet's folders as people have them: validation images in one, and published labels."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from flaxzoo import data
from flaxzoo.data.imagenet_labels import DEVKIT, KAGGLE, TRUTH
from flaxzoo.errors import UserError

WNIDS = ("n01440764", "n02119789", "n04000001")  # as sorted, which is torchvision's order
IDS = {"n02119789": 1, "n04000001": 2, "n01440764": 3}  # the development kit's numbers
ANSWERS = (1, 0, 2, 0, 1)  # torchvision's class of each validation image


def images_of_imagenet(root: Path, save_image) -> Path:
    """Makes train/WNID/*.JPEG, val/*.JPEG and an unlabelled test/*.JPEG."""
    for label, wnid in enumerate(WNIDS):
        for i in range(4):
            save_image(root / "train" / wnid / f"{wnid}_{i}.JPEG", 10 * label + i)
    for i in range(1, 6):
        save_image(root / "val" / f"ILSVRC2012_val_{i:08}.JPEG", 100 + i, (10 + i, 9))
    save_image(root / "test" / "ILSVRC2012_test_00000001.JPEG", 0)
    return root


def devkit(folder: Path) -> None:
    """Writes the two files of the development kit, with the tree above the classes in meta.mat."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRUTH).write_text("".join(f"{IDS[WNIDS[answer]]}\n" for answer in ANSWERS))
    rows = [*sorted((number, wnid) for wnid, number in IDS.items()), (4, "n00001740")]
    synsets = np.array(
        [(number, wnid, "words, more", number == 4) for number, wnid in rows],
        dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")],
    )[:, None]
    scipy.io.savemat(folder / "meta.mat", {"synsets": synsets}, do_compression=True)


def kaggle(root: Path) -> None:
    rows = [
        f"ILSVRC2012_val_{i:08},{WNIDS[answer]} 1 2 3 4 {WNIDS[answer]} 5 6 7 8 "
        for i, answer in enumerate(ANSWERS, start=1)
    ]
    (root / KAGGLE).write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]) + "\n")


def check(spec: str) -> None:
    imagenet = data.load(spec)
    assert imagenet.classes == WNIDS
    assert imagenet.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert imagenet.validation.labels.tolist() == list(ANSWERS)
    assert [imagenet.validation[i].shape for i in range(5)] == [(9, 11 + i, 3) for i in range(5)]
    assert imagenet.test is None


@pytest.mark.parametrize("at", [".", f"{DEVKIT}/data", "data", "val", "..", f"../{DEVKIT}/data"])
def test_the_development_kit_labels_the_validation_images(tmp_path, save_image, at):
    root = images_of_imagenet(tmp_path / "imagenet", save_image)
    devkit(root / at)
    check(f"folder={root}")


def test_the_development_kit_may_stay_packed(tmp_path, save_image):
    root = images_of_imagenet(tmp_path / "imagenet", save_image)
    devkit(tmp_path / "kit" / DEVKIT / "data")
    shutil.make_archive(str(root / DEVKIT), "gztar", tmp_path / "kit")
    check(f"folder={root}")


@pytest.mark.parametrize("at", ["", "ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_kaggles_folder_is_found_from_any_level(tmp_path, save_image, at):
    root = tmp_path / "imagenet-object-localization-challenge"
    images_of_imagenet(root / "ILSVRC" / "Data" / "CLS-LOC", save_image)
    (root / "ILSVRC" / "Annotations" / "CLS-LOC" / "train").mkdir(parents=True)
    (root / "ILSVRC" / "ImageSets" / "CLS-LOC").mkdir(parents=True)
    kaggle(root)
    check(f"folder={os.path.join(root, at)}")


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_an_archive_has_its_labels_inside(tmp_path, save_image, form):
    root = tmp_path / "imagenet-object-localization-challenge"
    images_of_imagenet(root / "ILSVRC" / "Data" / "CLS-LOC", save_image)
    (root / "ILSVRC" / "Annotations").mkdir()
    kaggle(root)
    check(f"folder={shutil.make_archive(str(root), form, root)}")


def test_without_labels_the_message_says_what_has_them(tmp_path, save_image):
    root = images_of_imagenet(tmp_path, save_image)
    with pytest.raises(UserError, match=rf"val/ has no folders; .* {KAGGLE} or the development"):
        data.load(f"folder={root}")


def test_an_image_that_the_list_lacks_is_named(tmp_path, save_image):
    root = images_of_imagenet(tmp_path / "imagenet", save_image)
    devkit(root)
    save_image(root / "val" / "ILSVRC2012_val_00000006.JPEG", 0)
    with pytest.raises(UserError, match=r"no label of .*/val/ILSVRC2012_val_00000006\.JPEG"):
        data.load(f"folder={root}")


def test_a_class_without_training_images_is_named(tmp_path, save_image):
    root = images_of_imagenet(tmp_path / "imagenet", save_image)
    kaggle(root)
    shutil.rmtree(root / "train" / WNIDS[2])
    with pytest.raises(UserError, match=f"absent from train: '{WNIDS[2]}'"):
        data.load(f"folder={root}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (TRUTH, b"1\n2\nx\n", "ValueError"),
        (TRUTH, b"1\n9\n", "KeyError: 9"),
        ("meta.mat", b"no matrix", "development kit in .* expected"),
        ("meta.mat", None, "FileNotFoundError"),
    ],
)
def test_a_damaged_development_kit_is_named(tmp_path, save_image, name, content, message):
    root = images_of_imagenet(tmp_path / "imagenet", save_image)
    devkit(root)
    (root / name).unlink()
    if content is not None:
        (root / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        data.load(f"folder={root}")


def test_meta_without_its_fields_is_refused(tmp_path, save_image):
    root = images_of_imagenet(tmp_path / "imagenet", save_image)
    devkit(root)
    file = io.BytesIO()
    scipy.io.savemat(file, {"other": np.zeros(3)})
    (root / "meta.mat").write_bytes(file.getvalue())
    with pytest.raises(UserError, match="KeyError: 'synsets'"):
        data.load(f"folder={root}")


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "ImageId,PredictionString\nx\n", "\xff"])
def test_a_damaged_list_of_kaggles_is_named(tmp_path, save_image, content):
    root = images_of_imagenet(tmp_path / "imagenet", save_image)
    (root / KAGGLE).write_text(content, "latin-1")
    with pytest.raises(UserError, match=rf"cannot read {root}/{KAGGLE}; expected Kaggle's"):
        data.load(f"folder={root}")
