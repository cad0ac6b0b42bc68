"""`folder=PATH`: what is an image, what is a class, what is a split."""

import os
import shutil
import time

import pytest

from flaxzoo import data
from flaxzoo.errors import UserError


def test_folders_are_classes_and_splits(folder):
    pets = data.load(f"folder={folder}", validation=0.25)
    assert (pets.name, pets.classes, pets.channels) == ("pets", ("cat", "dog"), 3)
    assert [len(s) for s in (pets.train, pets.validation, pets.test)] == [9, 3, 4]
    assert pets.test.name(2).endswith("pets/test/dog/0.png")
    assert pets.test.labels.tolist() == [0, 0, 1, 1]


def test_without_split_folders_everything_is_train(folder):
    pets = data.load(f"folder={folder / 'train'}", validation=0)
    assert len(pets.train) == 12
    assert pets.test is None


def test_training_and_testing_are_splits_too(folder):
    for name in ("train", "test"):
        (folder / name).rename(folder / f"{name}ing")
    pets = data.load(f"folder={folder}", validation=0)
    assert (len(pets.train), len(pets.test)) == (12, 4)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_a_validation_folder_is_used_as_it_is(folder, name):
    shutil.copytree(folder / "test", folder / name)
    pets = data.load(f"folder={folder}", validation=0.5)
    assert len(pets.train) == 12
    assert len(pets.validation) == 4


def test_two_validation_folders_are_one_too_many(folder):
    for name in ("val", "valid"):
        shutil.copytree(folder / "test", folder / name)
    with pytest.raises(UserError, match="both val/ and valid/"):
        data.load(f"folder={folder}")


def test_images_are_found_at_any_depth_and_other_files_ignored(folder, save_image):
    save_image(folder / "train" / "cat" / "2024" / "may" / "a.JPG", 0)
    for name in (".DS_Store", "notes.txt", ".hidden.png", ".thumbnails/b.png"):
        path = folder / "train" / "cat" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("no image")
    pets = data.load(f"folder={folder}", validation=0)
    names = [pets.train.name(i).rsplit("/cat/", 1)[1] for i in range(7)]
    assert names == ["0.png", "1.png", "2.png", "2024/may/a.JPG", "3.png", "4.png", "5.png"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone", "no such folder"),
        ("file", "expected a folder, or a complete"),
        ("empty", "has no folders"),
    ],
)
def test_a_path_that_is_no_folder_of_classes_is_refused(tmp_path, path, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        data.load(f"folder={tmp_path / path}")


def test_test_images_without_classes_are_left_out(folder, save_image):
    shutil.rmtree(folder / "test")
    save_image(folder / "test" / "0.png", 0)
    assert data.load(f"folder={folder}").test is None


@pytest.mark.parametrize("part", ["train", "val"])
def test_other_images_without_classes_are_refused(folder, save_image, part):
    shutil.rmtree(folder / part, ignore_errors=True)
    save_image(folder / part / "0.png", 0)
    with pytest.raises(UserError, match=rf"{part}/ has no folders; expected one folder of images"):
        data.load(f"folder={folder}")


def test_one_class_is_not_taken_for_all(folder, save_image):
    shutil.rmtree(folder / "train")
    save_image(folder / "train" / "cat" / "0.png", 0)
    with pytest.raises(UserError, match=r"train has 1 class .cat."):
        data.load(f"folder={folder / 'train'}")


def test_an_empty_class_is_named(folder):
    (folder / "train" / "emu").mkdir()
    with pytest.raises(
        UserError, match=r"class folder .*train/emu has no images; expected .*\.jpg"
    ):
        data.load(f"folder={folder}")


def test_a_class_whose_name_is_not_utf8_is_refused(folder):
    for split in ("train", "test"):
        (folder / split / "dog").rename(folder / split / "caf\udce9")
    with pytest.raises(UserError, match=r"the name of class 'caf\\udce9' of pets is not UTF-8"):
        data.load(f"folder={folder}")


def test_a_class_that_is_only_tested_gets_near_misses(folder):
    (folder / "test" / "dog").rename(folder / "test" / "dogs")
    with pytest.raises(UserError, match=r"'dogs'; did you mean 'dog'\?"):
        data.load(f"folder={folder}")


def test_loading_opens_no_image(folder):
    (folder / "train" / "cat" / "0.png").write_text("corrupt")
    pets = data.load(f"folder={folder}", validation=0)
    with pytest.raises(UserError, match=r"cannot read image .*train/cat/0\.png: not an image"):
        pets.train[0]


def test_links_to_folders_and_files_are_followed(folder, save_image, tmp_path):
    save_image(tmp_path / "elsewhere" / "emus" / "a.png", 0)
    save_image(tmp_path / "elsewhere" / "cats" / "b.png", 0)
    (folder / "train" / "emu").symlink_to(tmp_path / "elsewhere" / "emus")
    (folder / "train" / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "cats")
    (folder / "train" / "dog" / "link.png").symlink_to(folder / "train" / "dog" / "0.png")
    pets = data.load(f"folder={folder}", validation=0)
    assert pets.classes == ("cat", "dog", "emu")
    assert pets.train.labels.tolist() == [0] * 7 + [1] * 7 + [2]
    assert all(pets.train[i].size for i in range(15))


def test_links_that_lead_back_are_not_followed(folder, tmp_path):
    cat, other = folder / "train" / "cat", tmp_path / "other"
    other.mkdir()
    shutil.copy(cat / "0.png", other)
    (cat / "self").symlink_to("self")
    (cat / "here").symlink_to(".")
    (cat / "up").symlink_to("../../..")
    (cat / "other").symlink_to(other)
    (other / "back").symlink_to(cat)
    (folder / "train" / "self").symlink_to("self")
    pets = data.load(f"folder={folder}", validation=0)
    assert pets.classes == ("cat", "dog")
    names = [pets.train.name(i).rsplit("/cat/", 1)[1] for i in range(7)]
    assert names == [*(f"{i}.png" for i in range(6)), "other/0.png"]


@pytest.mark.parametrize("at", ["train", "train/cat", "train/cat/more", "test/dog"])
def test_a_folder_that_may_not_be_read_is_named(folder, monkeypatch, at):
    (folder / "train" / "cat" / "more").mkdir()
    scandir = os.scandir

    def refuse(path):  # root, as in a container, may read every folder
        if os.fspath(path) == str(folder / at):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=f"cannot list folder .*/{at}: Permission denied; expected"):
        data.load(f"folder={folder}")


def test_many_files_are_listed_quickly(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(5_000):
            (tmp_path / name / f"{i}.jpg").touch()
    start = time.perf_counter()
    assert len(data.load(f"folder={tmp_path}", validation=0).train) == 10_000
    assert time.perf_counter() - start < 2
