"""`npz=PATH`: Keras's form and MedMNIST's, and a sentence for every way to be another."""

import numpy as np
import pytest

from flaxzoo import data
from flaxzoo.errors import UserError


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (20, 4, 5), np.uint8),
        "y_train": np.arange(20) % 3,
        "x_test": rng.integers(0, 256, (6, 4, 5), np.uint8),
        "y_test": np.arange(6) % 3,
    }


def load(tmp_path, **changes):
    content = {key: value for key, value in (arrays() | changes).items() if value is not None}
    np.savez(tmp_path / "set.npz", **content)
    return data.load(f"npz={tmp_path / 'set.npz'}", validation=0)


def test_grey_images_get_a_channel(tmp_path):
    dataset = load(tmp_path)
    assert dataset.train[0].shape == (4, 5, 1)
    assert (dataset.name, dataset.classes, len(dataset.test)) == ("set.npz", ("0", "1", "2"), 6)
    np.testing.assert_array_equal(dataset.train[7][..., 0], arrays()["x_train"][7])
    assert dataset.train.labels.dtype == np.int32


def test_labels_may_be_a_column_as_kerass_cifar10_has_them(tmp_path):
    assert load(tmp_path, y_train=arrays()["y_train"][:, None]).train.labels.shape == (20,)


def test_a_file_with_training_images_only_has_no_test_split(tmp_path):
    assert load(tmp_path, x_test=None, y_test=None).test is None


def medmnist(tmp_path, **changes):
    rng = np.random.default_rng(0)
    content = {}
    for part, n in (("train", 20), ("val", 5), ("test", 6)):
        content[f"{part}_images"] = rng.integers(0, 256, (n, 4, 4, 3), np.uint8)
        content[f"{part}_labels"] = (np.arange(n, dtype=np.uint8) % 3)[:, None]
    content = {key: value for key, value in (content | changes).items() if value is not None}
    np.savez(tmp_path / "set.npz", **content)
    return data.load(f"npz={tmp_path / 'set.npz'}"), content


def test_medmnists_form_has_a_validation_split(tmp_path):
    dataset, content = medmnist(tmp_path)
    assert (dataset.classes, dataset.channels) == (("0", "1", "2"), 3)
    for split, part in (("train", "train"), ("validation", "val"), ("test", "test")):
        images = getattr(dataset, split)
        np.testing.assert_array_equal(images.images, content[f"{part}_images"])
        assert images.labels.tolist() == content[f"{part}_labels"][:, 0].tolist()
        assert images.name(1) == f"{tmp_path / 'set.npz'} {part}_images[1]"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_images": None}, "lacks val_images; expected train_images, train_labels, val_images"),
        (
            {"train_labels": np.zeros((20, 14), np.uint8)},
            r"train_labels of .* is uint8 \[20, 14\]; expected whole-number labels, one an image",
        ),
        (
            {"val_images": np.zeros((5, 28, 28, 28), np.uint8)},
            r"val_images of .* has shape \[5, 28, 28, 28\]; expected",
        ),
        ({"val_labels": np.zeros((4, 1), np.uint8)}, "5 images in val_images, but 4 labels"),
        ({"test_images": np.zeros((6, 5, 5, 3), np.uint8)}, "are 5x5 .* expected 4x4"),
    ],
)
def test_another_form_of_medmnists_is_refused_in_a_sentence(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        medmnist(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": None}, "lacks y_train; expected x_train, y_train, x_test, y_test, the file"),
        ({"x_test": None}, "lacks x_test"),
        ({"x_test": None, "y_test": None, "X_test": np.zeros(1)}, "lacks x_test, y_test"),
        ({"x_train": np.zeros((20, 4, 5), np.float32)}, "x_train of .* is float32; expected uint8"),
        ({"x_train": np.zeros((20, 3, 4, 5), np.uint8)}, r"shape \[20, 3, 4, 5\].*channels last"),
        ({"x_train": np.zeros((20, 784), np.uint8)}, r"shape \[20, 784\]"),
        ({"x_train": np.zeros((19, 4, 5), np.uint8)}, "19 images in x_train, but 20 labels"),
        ({"x_test": np.zeros((6, 4, 5, 3), np.uint8)}, "test images .* 3 channels; expected 1"),
        ({"y_train": np.eye(20)}, r"y_train of .* is float64 \[20, 20\]; expected whole-number"),
        ({"y_train": np.arange(20.0)}, "y_train of .* is float64"),
        ({"y_train": np.full(20, 2**40)}, "label beyond 32 bits"),
        ({"y_train": np.arange(20) - 1}, "y_train of .* has label -1; expected 0 to 19"),
        ({"y_train": np.arange(20) + 1}, "y_train of .* has label 20; expected 0 to 19"),
        ({"y_train": np.full(20, 2**31 - 1)}, "y_train of .* has label 2147483647; expected 0 to"),
        ({"y_test": np.full(6, 2**31 - 1)}, "label 2147483647 of test image 0"),
        ({"x_test": np.zeros((6, 5, 4), np.uint8)}, "test images .* are 5x4 .* expected 4x5"),
        ({"y_test": np.full(6, 9)}, "label 9 of test image 0 .* expected 0 to 2"),
        ({"y_train": np.arange(20) % 3 * 2, "y_test": np.zeros(6, int)}, "no training image of 2"),
        ({"y_train": np.zeros(20, int), "y_test": np.zeros(6, int)}, "at least 2"),
        ({"x_train": np.zeros((0, 4, 5), np.uint8), "y_train": np.zeros(0, int)}, "is empty"),
        ({"x_train": np.array([None] * 20)}, "cannot read .*set.npz as .npz"),
    ],
)
def test_another_form_is_refused_in_a_sentence(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, **changes)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no such file: .*gone\.npz"):
        data.load(f"npz={tmp_path / 'gone.npz'}")


def test_half_a_file_is_named(tmp_path):
    load(tmp_path)
    whole = (tmp_path / "set.npz").read_bytes()
    (tmp_path / "set.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cannot read .*set\.npz as \.npz: .*incomplete"):
        data.load(f"npz={tmp_path / 'set.npz'}")


def test_a_damaged_array_is_named(tmp_path):
    load(tmp_path)
    content = bytearray((tmp_path / "set.npz").read_bytes())
    content[300] ^= 255
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*set\.npz as \.npz: Bad CRC"):
        data.load(f"npz={tmp_path / 'set.npz'}")
