"""`hf=NAME_OR_PATH`: with a module in the place of Hugging Face's, which has its interface."""

import pickle
import sys
from typing import Any

import numpy as np
import pytest

from flaxzoo import data
from flaxzoo.data import Split
from flaxzoo.errors import UserError
from tests.data import fake_hub
from tests.data.fake_hub import (
    FakeClassLabel,
    FakeDataset,
    FakeImage,
    FakeValue,
    pets,
    pixels,
)


@pytest.fixture
def library(monkeypatch) -> Any:
    module = fake_hub.library()
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


def load(library: Any, value: str = "somebody/pets", **splits: Any) -> data.Dataset:
    name, _, config = value.partition(",")[0].partition(":")
    library.kept[name, config or None] = splits
    return data.load(f"hf={value}", validation=0)


def test_a_set_in_the_cache_is_read_without_asking_the_hub(library):
    dataset = load(library, train=pets(), test=pets(2), other=pets(3))
    assert (dataset.name, dataset.classes, dataset.channels) == ("pets", ("cat", "dog"), 3)
    assert [len(dataset.train), dataset.validation, len(dataset.test)] == [6, None, 2]
    assert dataset.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    for i in range(6):
        np.testing.assert_array_equal(dataset.train[i], pixels(i))
    assert dataset.train.name(2) == "somebody/pets train[2]"
    assert library.config.HF_HUB_OFFLINE is False


def test_a_saved_folder_is_read(library, tmp_path):
    library.saved[str(tmp_path)] = {"train": pets(), "valid": pets(2)}
    dataset = data.load(f"hf={tmp_path}")
    assert (dataset.name, len(dataset.train), len(dataset.validation)) == (tmp_path.name, 6, 2)
    library.saved[str(tmp_path)] = pets(4)  # a single split
    assert len(data.load(f"hf={tmp_path}", validation=0).train) == 4


def test_subsets_keep_images_and_labels_together_and_can_be_pickled(library):
    split = load(library, train=pets()).train
    assert isinstance(split, Split)
    subset = pickle.loads(pickle.dumps(split.subset(np.array([5, 2]))))
    assert subset.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(subset[1], pixels(2))
    assert subset.name(0) == "somebody/pets train[5]"


def test_a_configuration_is_part_of_the_name(library):
    assert len(load(library, "pets:small", train=pets()).train) == 6


def test_columns_are_found_by_their_features(library):
    dataset = load(library, train=pets(image="img", label="fine", text=(["x"] * 6, FakeValue())))
    assert dataset.classes == ("cat", "dog")


def test_of_several_columns_the_one_that_is_named_so_is_meant(library):
    coarse = ([0] * 5 + [1], FakeClassLabel(["pet", "bird"]))
    assert load(library, train=pets(coarse=coarse)).classes == ("cat", "dog")
    chosen = load(library, "somebody/pets,label=coarse", train=pets(coarse=coarse))
    assert (chosen.classes, chosen.train.labels.tolist()) == (("pet", "bird"), coarse[0])


def test_grey_images_are_delivered_so_where_the_feature_says_it(library):
    dataset = load(library, train=pets(mode="L"))
    assert (dataset.channels, dataset.train[0].shape) == (1, (6, 8, 1))


def test_an_image_may_be_a_file(library, save_image, tmp_path):
    table = pets()
    path = save_image(tmp_path / "a.png", 0)
    table.columns["image"][0] = {"bytes": None, "path": str(path)}
    assert load(library, train=table).train[0].shape == (10, 12, 3)


def test_a_split_without_labels_is_left_out(library):
    unlabelled = pets(2)
    unlabelled.columns["label"] = [-1, None]
    assert load(library, train=pets(), test=unlabelled).test is None


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "NoneType"),
        ({"bytes": b"no image", "path": None}, "not an image"),
        ({"bytes": None, "path": "/gone.png"}, "no such file"),
        ({"bytes": None, "path": None}, "NoneType"),
    ],
)
def test_an_unreadable_image_is_named(library, image, message):
    table = pets()
    table.columns["image"][3] = image
    split = load(library, train=table).train
    with pytest.raises(
        UserError, match=rf"cannot read image somebody/pets train\[3\]: .*{message}"
    ):
        split[3]


def test_what_is_not_on_disk_gets_the_command(library):
    with pytest.raises(
        UserError,
        match=r"cannot load a/b:c from .* on disk \(Couldn't reach 'a/b' on the Hub .*\); get it "
        r"where there is a network: python -c .*load_dataset\('a/b', 'c'\)\"$",
    ):
        data.load("hf=a/b:c")
    assert library.config.HF_HUB_OFFLINE is False


def test_a_folder_of_another_kind_is_refused(library, tmp_path):
    with pytest.raises(UserError, match=rf"neither a Dataset .*images, use folder={tmp_path}"):
        data.load(f"hf={tmp_path}")


@pytest.mark.parametrize(
    ("value", "table", "message"),
    [
        ("a", pets(label="x", mode=None), None),
        ("a", FakeDataset({}, {"text": FakeValue()}), "no column of Image; it has text: FakeValue"),
        ("a", FakeDataset({}, {"image": FakeImage(), "label": FakeValue()}),
         "no column of ClassLabel, which class_encode_column makes of others; it has image"),
        ("a", pets(image="x", y=([], FakeImage())),
         "2 columns of Image; say which: hf=a,image=x or hf=a,image=y"),
        ("a,label=lable", pets(), "unknown ClassLabel column of a: 'lable'; did you mean 'label'"),
    ],
)  # fmt: skip
def test_what_is_no_image_classification_is_refused(library, value, table, message):
    if message is None:
        assert load(library, value, train=table).classes == ("cat", "dog")
        return
    with pytest.raises(UserError, match=message):
        load(library, value, train=table)


def test_a_set_without_training_images_is_refused(library):
    with pytest.raises(UserError, match="has no split 'train'; it has test"):
        load(library, test=pets())


def test_without_the_library_the_message_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the package datasets, .*; pip install datasets"):
        data.load("hf=mnist")
