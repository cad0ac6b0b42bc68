"""Splits: subsets, names, and that they are cheap to send to a worker process."""

import pickle

import numpy as np
import pytest

from flaxzoo.data import ArraySplit, FileSplit, Split
from flaxzoo.errors import UserError


def array_split(n: int = 5) -> ArraySplit:
    images = np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2, 1)
    return ArraySplit(images, np.arange(n, dtype=np.int32))


def test_a_subset_keeps_images_and_labels_together():
    subset = array_split().subset(np.array([3, 1]))
    assert subset.labels.tolist() == [3, 1]
    assert subset[0].ravel().tolist() == [12, 13, 14, 15]


def test_files_are_decoded_on_access(folder):
    split = FileSplit(["cat/0.png", "dog/3.png"], np.array([0, 1], np.int32), str(folder / "train"))
    assert isinstance(split, Split)
    assert [split[0].shape, split[1].shape] == [(10, 12, 3), (11, 15, 3)]
    assert split.subset(np.array([1])).name(0) == str(folder / "train" / "dog" / "3.png")


def test_a_missing_file_is_named(tmp_path):
    split = FileSplit(["gone.png"], np.zeros(1, np.int32), str(tmp_path))
    with pytest.raises(UserError, match=r"gone\.png: no such file"):
        split[0]


def test_names_outside_ascii_survive():
    split = FileSplit(["chat/\u00e9t\u00e9.png"], np.zeros(1, np.int32))
    assert split.name(0) == "chat/\u00e9t\u00e9.png"


def test_many_files_are_cheap_to_pickle():
    paths = [f"class/{i:06}.jpg" for i in range(10_000)]
    split = FileSplit(paths, np.zeros(10_000, np.int32), "/data")
    pickled = pickle.dumps(split)
    assert len(pickled) < 21 * 10_000 + 1000  # 16 bytes a path, 4 a label
    assert pickle.loads(pickled).name(9_999) == "/data/class/009999.jpg"


@pytest.mark.shared_data
def test_real_photographs_decode_to_rgb(shared_data):
    paths = sorted((shared_data / "imagenet_sample").glob("*.JPEG"))[:3]
    split = FileSplit([str(path) for path in paths], np.zeros(3, np.int32))
    assert all(split[i].shape[2] == 3 and min(split[i].shape[:2]) > 100 for i in range(3))
