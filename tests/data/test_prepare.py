"""`data prepare NAME`: original archives, downloaded or found, become sets; or nothing is left."""

import contextlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flaxzoo import config, data
from flaxzoo.commands import data as data_command
from flaxzoo.data import disk, layouts, originals
from flaxzoo.data.options import Options
from flaxzoo.data.prepare import prepare
from flaxzoo.errors import UserError
from tests.data.small_originals import EXPECTED, VALIDATION_LABELS, plant

NOWHERE = "http://127.0.0.1:9"  # nothing listens there
NAME = "imagenette_160px"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path / "home"


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Lets no file of this process grow any further, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def read(dataset: data.Dataset) -> dict[str, dict[int, str]]:
    """Returns what `small_originals.EXPECTED` has of a data set."""
    parts = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {
        part: {int(split[i][0, 0, 0]): dataset.classes[split.labels[i]] for i in range(len(split))}
        for part, split in parts.items()
        if split is not None
    }


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "imagenet2012"])
def test_a_set_is_downloaded_and_unpacked_and_needs_no_network_any_more(
    name, home, site, monkeypatch, capsys
):
    original = plant(name, *site, monkeypatch)
    data_command.run(["prepare", name, f"--data_dir={home}"])
    assert f"{name} is in {home / name / 'images'}; train with" in capsys.readouterr().out
    monkeypatch.setattr("flaxzoo.data.prepare.download", None)
    shutil.rmtree(site[0])
    for remote in original.files.values():
        (home / name / remote.file).unlink()  # the message says that nobody needs them
    assert left_in(home / name)[0] == "images"
    for spec in (name, f"tfds={original.tfds}"):
        dataset = data.load(spec, data_dir=home, validation=0)
        assert (dataset.name, read(dataset)) == (name, EXPECTED[name])
    assert "is in" in prepare(name, Options(home))


def test_imagenet_is_unpacked_from_where_its_tars_are(home, monkeypatch):
    manual = home / "downloads" / "manual"  # as TFDS wants it
    plant("imagenet2012", manual, NOWHERE, monkeypatch)
    told = prepare("imagenet2012", Options(home))
    train, val = (manual / f"ILSVRC2012_img_{split}.tar" for split in ("train", "val"))
    assert told.endswith(f"\n{train} and {val} (41.0 kB) may be deleted")
    dataset = data.load("imagenet2012", data_dir=home, validation=0)
    assert read(dataset) == EXPECTED["imagenet2012"]


def test_the_validation_labels_of_imagenet_are_tfdss():
    labels = layouts._validation_labels()
    assert len(labels) == 50_000
    classes, counts = np.unique(labels, return_counts=True)
    assert (len(classes), set(counts.tolist())) == (1000, {50})
    assert labels[:2] == ["n01751748", "n09193705"]  # a sea snake, an alp


def test_labels_are_in_the_order_of_tfds(home, tmp_path, monkeypatch):
    for name, first in {
        "tf_flowers": ("dandelion", "daisy"),
        "oxford_flowers102": ("pink primrose", "hard-leaved pocket orchid"),
        "oxford_iiit_pet": ("Abyssinian", "american_bulldog"),
    }.items():
        plant(name, home / name, NOWHERE, monkeypatch)
        prepare(name, Options(home))
        assert data.load(name, data_dir=home, validation=0).classes[:2] == first


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        (NAME, "python -m flaxzoo data prepare imagenette_160px --data_dir={0} downloads and un"),
        ("tfds=imagenette", "imagenette is not prepared in {0}; python -m flaxzoo data prepare im"),
        ("imagenet2012", r"ILSVRC2012_img_val.tar from https://image-net.org/.*a login, put them "
         "into {0}/imagenet2012 and run python -m flaxzoo data prepare imagenet2012 --data_dir"),
        ("imagenet2012", "kaggle competitions download -c imagenet-object-localization-challenge"),
    ],
)  # fmt: skip
def test_a_set_that_is_not_prepared_gets_the_command(home, spec, advice):
    with pytest.raises(UserError, match=advice.format(home)):
        data.load(spec, data_dir=home)


def test_files_behind_a_login_are_asked_for(home):
    home.mkdir()
    with pytest.raises(UserError, match="of imagenet2012 cannot be downloaded without a login; do"):
        prepare("imagenet2012", Options(home))
    assert left_in(home / "imagenet2012") == []


def test_without_a_network_the_file_and_its_place_are_named(home, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    plant(NAME, tmp_path / "elsewhere", NOWHERE, monkeypatch)
    path = home / NAME / "imagenette2-160.tgz"
    with pytest.raises(UserError, match=rf"cannot download {NOWHERE}/.*; put the file at {path} "):
        prepare(NAME, Options(home))
    assert left_in(home / NAME) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-100], "bytes; expected"),
        (lambda content: b"x" * len(content), "it is damaged"),
        (lambda content: content[:100] + b"x" * (len(content) - 100), "it is damaged"),
        (lambda content: content[:-1] + b"x", "sha256 .* expected"),
    ],
)
def test_a_wrong_archive_leaves_nothing(home, monkeypatch, change, message):
    plant(NAME, home / NAME, NOWHERE, monkeypatch)
    archive = home / NAME / "imagenette2-160.tgz"
    archive.write_bytes(change(archive.read_bytes()))
    with pytest.raises(UserError, match=f"{archive} is not the expected file: .*{message}"):
        prepare(NAME, Options(home))
    assert left_in(home / NAME) == [archive.name]


def test_a_wrong_list_is_told_before_anything_is_unpacked(home, monkeypatch):
    plant("oxford_iiit_pet", home, NOWHERE, monkeypatch)
    (home / "annotations.tar.gz").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"annotations\.tar\.gz is not the expected file: sha256"):
        prepare("oxford_iiit_pet", Options(home))


def test_missing_images_are_noticed(home, monkeypatch):
    original = plant(NAME, home, NOWHERE, monkeypatch)
    original.counts["train"] += 1
    with pytest.raises(UserError, match="has 5 images in its archives; expected 6"):
        prepare(NAME, Options(home))
    assert left_in(home / NAME) == []


def test_an_image_that_is_in_no_list_is_named(home, monkeypatch):
    plant("imagenet2012", home, NOWHERE, monkeypatch)
    monkeypatch.setattr(layouts, "_validation_labels", lambda: VALIDATION_LABELS[:2])
    with pytest.raises(UserError, match=r"ILSVRC2012_img_val.tar .* holds ILSVRC2012_val_00000003"):
        prepare("imagenet2012", Options(home))


def test_what_a_dead_process_has_left_is_no_set(home, monkeypatch):
    plant(NAME, home, NOWHERE, monkeypatch)
    half = home / NAME / "images.part" / "train" / "n01440764"
    half.mkdir(parents=True)
    (half / "half.JPEG").write_bytes(b"half")
    with pytest.raises(UserError, match="is not prepared"):
        data.load(NAME, data_dir=home)
    prepare(NAME, Options(home))
    assert read(data.load(NAME, data_dir=home, validation=0)) == EXPECTED[NAME]
    assert not half.exists()


def test_without_room_nothing_is_begun(home, site, monkeypatch):
    original = plant(NAME, *site, monkeypatch)
    needed = original.files["archive"].size + original.unpacked_size
    usage = shutil.disk_usage("/")._replace(free=needed - 1)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage)
    size = disk.as_size(needed)
    message = (
        rf"downloading and unpacking {NAME} needs {size} in {home / NAME}, which has .* free; "
    )
    with pytest.raises(UserError, match=message):
        prepare(NAME, Options(home))
    assert left_in(home / NAME) == []


def test_a_disk_that_fills_up_keeps_no_half_set(home, monkeypatch):
    plant(NAME, home / NAME, NOWHERE, monkeypatch)
    message = rf"the disk of {home / NAME} is full: unpacking {NAME} needs \d+\.\d kB there, in all"
    with files_of_at_most(64), pytest.raises(UserError, match=message):
        prepare(NAME, Options(home))
    assert left_in(home / NAME) == ["imagenette2-160.tgz"]


def test_a_folder_that_cannot_be_written_is_named(home):
    home.write_text("no folder")
    with pytest.raises(UserError, match=f"cannot prepare {NAME} in {home / NAME}: .*Not a direc"):
        prepare(NAME, Options(home))


def test_a_set_that_lost_a_class_is_told(home, monkeypatch):
    plant(NAME, home, NOWHERE, monkeypatch)
    prepare(NAME, Options(home))
    shutil.rmtree(home / NAME / "images" / "train" / "n01440764")
    shutil.rmtree(home / NAME / "images" / "test" / "n01440764")
    with pytest.raises(
        UserError, match=r"the classes of imagenette_160px \(n01440764\); delete it"
    ):
        data.load(NAME, data_dir=home)


PROGRAM = """
import sys
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from small_originals import plant
from flaxzoo.data.options import Options
from flaxzoo.data.prepare import prepare
patch = SimpleNamespace(setattr=setattr, setitem=lambda table, *item: table.update([item]))
plant(sys.argv[2], Path(sys.argv[3]), sys.argv[4], patch)
print(prepare(sys.argv[2], Options(Path(sys.argv[5]))))
"""


def start(home: Path, own: Path, url: str) -> subprocess.Popen:
    """Starts a process that prepares the set; `own` is where it writes what it expects at `url`."""
    arguments = [str(Path(__file__).parent), NAME, str(own), url, str(home)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=Path(data.__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_prepare_one_set(home, tmp_path, site, monkeypatch):
    plant(NAME, *site, monkeypatch)
    with start(home, tmp_path / "a", site[1]) as one, start(home, tmp_path / "b", site[1]) as other:
        for process in (one, other):
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
            assert f"{NAME} is in {home / NAME / 'images'}" in out
    assert left_in(home / NAME)[:2] == ["imagenette2-160.tgz", "images"]
    assert read(data.load(NAME, data_dir=home, validation=0)) == EXPECTED[NAME]


def test_what_needs_no_preparation_says_so():
    assert "come with the package" in prepare("digits", Options())


def test_every_set_gets_the_recipes_for_photographs():
    assert originals.ORIGINALS.keys() <= set(config.PHOTOGRAPHS)
    assert config.data_config("imagenette").mean == config.data_config("folder=x").mean
