"""`tfds=NAME`: sets prepared as array_record, read without TensorFlow; all else in a sentence."""

import json
import pickle
import shutil
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from flaxzoo import data
from flaxzoo.config import Config, data_config
from flaxzoo.data import tfds as module
from flaxzoo.data.stream import train_batches
from flaxzoo.errors import UserError
from flaxzoo.training.trainer import build

pytest.importorskip("tensorflow_datasets", reason="TFDS is an optional dependency")
pytest.importorskip("array_record", reason="array_record has no wheel for this system")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A TFDS data directory with tiny_pets and tiny_text."""
    root = tmp_path_factory.mktemp("tfds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what TFDS warns about while preparing is its own affair
        from tests.data import tiny_tfds

        for builder in (tiny_tfds.TinyPets, tiny_tfds.TinyText):
            builder(data_dir=root, file_format="array_record").download_and_prepare()
    return root


@pytest.fixture
def root(prepared, tmp_path, monkeypatch) -> Path:
    """A copy that a test may change."""
    monkeypatch.setenv("FLAXZOO_DATA", str(tmp_path / "cache"))
    return Path(shutil.copytree(prepared, tmp_path / "tfds"))


def load(root: Path, value: str = "tiny_pets", **options) -> data.Dataset:
    return data.load(f"tfds={value}", data_dir=root, **options)


def numbers(split: data.Split) -> list[int]:
    """Which images of the builder these are: number i is 8 + i wide."""
    return [split[i].shape[1] - 8 for i in range(len(split))]


def test_a_prepared_set_loads_without_tensorflow(root):
    pets = load(root)
    assert (pets.name, pets.classes, pets.channels) == ("tiny_pets", ("cat", "dog"), 3)
    assert sorted(numbers(pets.train)) == list(range(30))
    assert pets.train.labels.tolist() == [i % 2 for i in numbers(pets.train)]
    assert sorted(numbers(pets.validation)) == list(range(30, 36))
    assert pets.test is None  # TFDS's way to say that it has no labels
    from tests.data import tiny_tfds

    first = numbers(pets.train)[0]
    np.testing.assert_array_equal(pets.train[0], tiny_tfds.pixels(first))
    assert "tensorflow" not in sys.modules


def test_imagenets_public_validation_split_is_the_test_split(root):
    info = root / "tiny_pets" / "1.10.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"tiny_pets"', '"imagenet2012"'))
    for file in info.parent.glob("tiny_pets-*"):
        file.rename(file.with_name(file.name.replace("tiny_pets", "imagenet2012")))
    (root / "tiny_pets").rename(root / "imagenet2012")
    imagenet = data.load("imagenet2012", data_dir=root, validation=0.2)
    assert [len(s) for s in (imagenet.train, imagenet.validation, imagenet.test)] == [24, 6, 6]
    assert sorted(numbers(imagenet.test)) == list(range(30, 36))


def test_a_split_travels_to_worker_processes(root):
    split = load(root).train.subset(np.array([4, 2]))
    copy = pickle.loads(pickle.dumps(split))
    assert numbers(copy) == numbers(split)
    assert copy.labels.tolist() == split.labels.tolist()
    options = {"seed": 0, "batch_size": 2, "image_size": 8, "num_steps": 3}
    with train_batches(split, **options) as here, train_batches(split, workers=1, **options) as far:
        for a, b in zip(here, far, strict=True):
            np.testing.assert_array_equal(a["image"], b["image"])


def test_the_newest_version_is_read(root):
    shutil.copytree(root / "tiny_pets" / "1.10.0", root / "tiny_pets" / "1.9.0")
    assert "/1.10.0 train[" in load(root).train.name(0)


def test_a_configuration_is_part_of_the_name(root):
    (root / "tiny_pets" / "large").mkdir()
    (root / "tiny_pets" / "1.10.0").rename(root / "tiny_pets" / "large" / "1.10.0")
    for value in ("tiny_pets:large", "tiny_pets/large", "tiny_pets"):
        assert len(load(root, value).train) == 30
    shutil.copytree(root / "tiny_pets" / "large", root / "tiny_pets" / "small")
    with pytest.raises(UserError, match=r"2 configurations; .* tfds=tiny_pets:large, tfds=tiny_p"):
        load(root)


def test_the_labels_of_a_large_set_are_kept(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "_MANY", 20)
    labels = load(root).train.labels
    assert "reading the labels of 30 images" in capsys.readouterr().err
    monkeypatch.setattr(module, "_read_labels", None)  # would fail if called for train
    again, *_ = (np.load(p) for p in (tmp_path / "cache" / "tfds_labels").glob("*train*.npy"))
    np.testing.assert_array_equal(np.sort(again), np.sort(np.arange(30, dtype=np.int32) % 2))
    kept = module._labels(root / "tiny_pets" / "1.10.0", "train", 30, "raise")
    np.testing.assert_array_equal(kept, again)
    assert len(labels) == 30


def advice(root: Path, spec: str) -> str:
    start = time.perf_counter()
    with pytest.raises(UserError) as caught:
        data.load(spec, data_dir=root)
    assert time.perf_counter() - start < 5  # TFDS's own attempt takes minutes without a network
    return str(caught.value)


def test_a_set_that_is_not_prepared_gets_the_command(root):
    message = advice(root, "tfds=beans")
    assert (
        f"TFDS's beans is not prepared in {root}; python -m flaxzoo data prepare beans" in message
    )
    assert f"--data_dir={root} does it, most often with TensorFlow (pip install" in message


def test_sets_that_need_no_preparation_are_pointed_out(root):
    assert advice(root, "tfds=mnist").endswith("; use mnist without tfds=")
    assert "or train on folder=PATH with train/ and val/" in advice(root, "imagenet2012")


def test_what_tfds_did_not_finish_is_no_set(root):
    (root / "tiny_pets" / "1.10.0").rename(root / "tiny_pets" / "incomplete.ABCDEF_1.10.0")
    assert "TFDS's tiny_pets is not prepared" in advice(root, "tfds=tiny_pets")


def test_an_unknown_name_gets_near_misses_from_tfds_and_from_disk(root):
    assert "unknown TFDS data set 'mnits'; did you mean 'mnist'" in advice(root, "tfds=mnits")
    assert "did you mean 'tiny_pets'" in advice(root, "tfds=tinypets")


def test_the_data_directory_of_the_environment_is_used(root, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert len(data.load("tfds=tiny_pets").train) == 30


def change_info(root: Path, **changes) -> None:
    path = root / "tiny_pets" / "1.10.0" / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_another_file_format_gets_the_command_to_convert(root):
    change_info(root, fileFormat="tfrecord")
    directory = root / "tiny_pets" / "1.10.0"
    assert "is prepared as tfrecord" in advice(root, "tfds=tiny_pets")
    assert f"--dataset_version_dir={directory} --out_file_format=array_record" in advice(
        root, "tfds=tiny_pets"
    )


def test_a_set_converted_to_array_record_is_read(root):
    change_info(root, fileFormat="tfrecord", alternativeFileFormats=["array_record"])
    assert len(load(root).train) == 30


def test_what_is_no_image_classification_is_refused(root):
    with pytest.raises(UserError, match="expected image: Image and label: ClassLabel, it has text"):
        load(root, "tiny_text")


def test_a_set_without_training_images_is_refused(root):
    path = root / "tiny_pets" / "1.10.0" / "dataset_info.json"
    splits = [s for s in json.loads(path.read_text())["splits"] if s["name"] != "train"]
    change_info(root, splits=splits)
    with pytest.raises(UserError, match="no split 'train'; it has "):
        load(root)


def test_a_damaged_description_is_named(root):
    (root / "tiny_pets" / "1.10.0" / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*dataset_info\.json"):
        load(root)


def test_a_missing_file_of_records_is_an_error(root):
    for file in (root / "tiny_pets" / "1.10.0").glob("*train*"):
        file.unlink()
    with pytest.raises(
        UserError, match=r"cannot read record 0 of .*1\.10\.0 train: .*No such file"
    ):
        load(root)


def test_a_missing_package_is_named(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "importlib_resources", None)
    with pytest.raises(UserError, match="need the package importlib_resources; pip install"):
        load(root, "tiny_pets:gone")


def damage(root: Path) -> None:
    """Changes bytes in the middle of the training records."""
    (file,) = (root / "tiny_pets" / "1.10.0").glob("*train*")
    content = bytearray(file.read_bytes())
    middle = len(bytes(content[:65_536]).rstrip(b"\0")) // 2  # the footer lies beyond
    content[middle : middle + 20] = bytes(20)
    file.write_bytes(content)


def test_a_damaged_record_is_named(root):
    damage(root)
    with pytest.raises(
        UserError, match=r"cannot read record \d+ of .*1\.10\.0 train: Corrupted .*"
    ):
        load(root)


def test_a_damaged_record_is_left_out_where_it_may_be(root, caplog):
    whole = load(root)
    labels = dict(zip(numbers(whole.train), whole.train.labels.tolist(), strict=True))
    module._source.cache_clear()
    damage(root)
    pets = load(root, on_error="skip")
    rest = dict(zip(numbers(pets.train), pets.train.labels.tolist(), strict=True))
    assert len(rest) == 29
    assert rest.items() < labels.items()
    assert "skipped: 1 of 30 records of" in caplog.text


def test_a_run_leaves_out_damaged_records_if_its_config_says_so(root):
    damage(root)
    source = {"data_dir": str(root), "image_size": 8, "crop": "resize", "validation": 0.0}
    config = Config(batch_size=30, data=data_config("tfds=tiny_pets", **source))
    with pytest.raises(UserError, match="cannot read record"):
        build(config)
    config.data.on_error = "skip"
    with pytest.raises(UserError, match="29"):  # the images that a batch of 30 is too large for
        build(config)


def test_labels_are_not_kept_where_a_record_is_damaged(root, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MANY", 20)
    damage(root)
    load(root, on_error="skip")
    assert not list((tmp_path / "cache").rglob("*train*"))


def test_records_that_are_all_damaged_are_no_set(root):
    for file in (root / "tiny_pets" / "1.10.0").glob("*train*"):
        file.unlink()
    with pytest.raises(UserError, match=r"cannot read any record of .* train: 0 "):
        load(root, on_error="skip")


def test_a_record_damaged_after_the_labels_were_read(root, caplog):
    split = load(root).train
    module._source.cache_clear()
    damage(root)
    options = {"seed": 0, "batch_size": 10, "image_size": 8, "num_steps": 3}
    with (
        train_batches(split, **options) as batches,
        pytest.raises(UserError, match=r"cannot read image .*1\.10\.0 train\[\d+\]: Corrupted"),
    ):
        list(batches)
    with train_batches(split, on_error="skip", **options) as batches:
        assert sum(len(batch["label"]) for batch in batches) == 30
    assert "skipped: cannot read image" in caplog.text
