"""`load`: names, checks that hold for all sources, and the held-out validation split."""

import subprocess
import sys

import numpy as np
import pytest

from flaxzoo import data
from flaxzoo.data import ArraySplit, Dataset
from flaxzoo.data.validation import check, hold_out
from flaxzoo.errors import UserError


def dataset(labels: list[int], classes: int = 3, test: list[int] | None = None) -> Dataset:
    def split(values: list[int]) -> ArraySplit:
        images = np.zeros((len(values), 2, 2, 1), np.uint8)
        return ArraySplit(images, np.array(values, np.int32))

    names = tuple("abcdefgh"[:classes])
    return Dataset("toy", names, 1, split(labels), test=None if test is None else split(test))


def test_digits_are_bundled():
    digits = data.load("digits")
    assert (digits.num_classes, digits.channels, digits.train[0].shape) == (10, 1, (8, 8, 1))
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [1293, 144, 360]
    pixels = np.unique(np.stack([digits.train[i] for i in range(len(digits.train))]))
    assert pixels.tolist() == [(p * 255 + 8) // 16 for p in range(17)]


def test_digits_are_the_uci_images():
    digits = data.load("digits", validation=0)
    pixels = [*digits.train.images, *digits.test.images]  # type: ignore[attr-defined]
    assert len({image.tobytes() for image in pixels}) == 1797  # no two alike, in no split twice
    assert np.mean(pixels) == pytest.approx(4.884 / 16 * 255, abs=0.3)  # 4.884: mean of the source


def test_importing_the_package_imports_no_heavy_library():
    code = (
        "import sys, types; package = types.ModuleType('flaxzoo'); "
        "package.__path__ = ['flaxzoo']; sys.modules['flaxzoo'] = package; import flaxzoo.data; "
        "print(*{'jax', 'torch', 'grain', 'tensorflow_datasets', 'rich'} & set(sys.modules))"
    )
    root = data.__file__.rsplit("/", 3)[0]
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("digit", r"unknown data set 'digit'; did you mean 'digits'\?"),
        ("npz=", r"unknown data set 'npz='; did you mean 'npz=PATH'\?"),
        ("foldr=x", r"unknown kind of data set 'foldr='; did you mean 'folder='\?"),
        ("cifar", "did you mean 'cifar10"),
        ("", "unknown data set ''. known: "),
        ("~nobody-of-that-name", "unknown data set '~nobody"),
        ("x" * 5000, "unknown data set 'xxx"),
    ],
)
def test_an_unknown_name_gets_near_misses(spec, hint):
    with pytest.raises(UserError, match=hint):
        data.load(spec)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.npz", "npz"), ("a.CSV", "csv"), ("a.zip", "folder"), ("a.tar.gz", "folder")],
)
def test_a_file_without_its_kind_gets_the_kind(tmp_path, name, kind):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f"is a file; expected {kind}={tmp_path}/{name}"):
        data.load(str(tmp_path / name))


def test_a_path_without_its_kind_gets_the_kind(tmp_path):
    with pytest.raises(UserError, match=f"is a folder; expected folder={tmp_path}"):
        data.load(str(tmp_path))


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_validation_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(UserError, match="expected 0 <= fraction < 1"):
        data.load("digits", validation=fraction)


@pytest.mark.parametrize(
    ("toy", "message"),
    [
        (dataset([0, 0], classes=1), "has 1 class .a.; a classifier needs at least 2"),
        (dataset([0, 2, 0]), "toy has no training image of class 'b'"),
        (dataset([1, 2, 1]), "of class 'a'; its labels are 1 to 2, and count from 0$"),
        (dataset([0, 0, 0]), "no training image of 2 classes: 'b', 'c'"),
        (dataset([0, 1, 3]), "label 3 of train image 2 in toy is out of range; expected 0 to 2"),
        (dataset([0, 1, -1, 2]), "label -1 of train image 2"),
        (dataset([0, 1, 2], test=[0, 5]), "label 5 of test image 1"),
        (dataset([0, 1, 2], test=[]), "the test split of toy is empty"),
    ],
)
def test_what_holds_for_no_data_set_is_refused(toy, message):
    with pytest.raises(UserError, match=message):
        check(toy)


def test_splits_with_different_channels_are_refused():
    toy = dataset([0, 1, 2])
    colour = ArraySplit(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1, np.int32))
    with pytest.raises(UserError, match="test images of toy have 3 channels; expected 1"):
        check(Dataset("toy", toy.classes, 1, toy.train, test=colour))


def test_splits_with_images_of_different_sizes_are_refused():
    toy = dataset([0, 1, 2])
    larger = ArraySplit(np.zeros((1, 4, 3, 1), np.uint8), np.zeros(1, np.int32))
    with pytest.raises(UserError, match=r"test images of toy are 4x3 .* expected 2x2, as in train"):
        check(Dataset("toy", toy.classes, 1, toy.train, test=larger))


def with_identity(counts: list[int]) -> Dataset:
    """Images whose pixels say which they are."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return Dataset("toy", tuple("abcdefgh"[: len(counts)]), 1, ArraySplit(images, labels))


def test_held_out_images_are_of_every_class_alike_and_leave_train():
    toy = hold_out(with_identity([20, 60, 100]), 0.1, seed=0)
    assert np.bincount(toy.validation.labels).tolist() == [2, 6, 10]
    held = {int(toy.validation[i][0, 0, 0]) for i in range(18)}
    kept = {int(toy.train[i][0, 0, 0]) for i in range(162)}
    assert held | kept == set(range(180))


def test_the_held_out_images_are_a_function_of_the_seed():
    def held(seed: int) -> list[int]:
        return [int(image.ravel()[0]) for image in hold_out(toy, 0.2, seed).validation.images]

    toy = with_identity([20, 20])
    assert held(1) == held(1) != held(2)


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ([1, 9], 0.5, [0, 5]),  # the single image stays
        ([4, 4, 4], 0.25, [1, 1, 1]),
        ([4, 4, 4], 0.1, [1, 0, 0]),  # 1.2 images in all
        ([3, 3], 0.01, [1, 0]),  # at least one
        ([2, 2], 0.99, [1, 1]),  # at least one stays
    ],
)
def test_small_classes_give_their_share_but_not_their_last_image(counts, fraction, expected):
    toy = hold_out(with_identity(counts), fraction, seed=0)
    assert np.bincount(toy.validation.labels, minlength=len(counts)).tolist() == expected


def test_classes_of_one_image_cannot_be_held_out():
    with pytest.raises(UserError, match="set validation=0"):
        hold_out(with_identity([1, 1]), 0.1, seed=0)


def test_without_a_fraction_there_is_no_validation_split():
    digits = data.load("digits", validation=0)
    assert digits.validation is None
    assert len(digits.train) == 1437
