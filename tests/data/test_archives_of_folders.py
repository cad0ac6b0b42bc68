"""`folder=PATH` of a zip or tar: the same as the folder, read where it lies."""

import io
import os
import pickle
import shutil
import struct
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flaxzoo import data
from flaxzoo.data import files
from flaxzoo.data.files import Archive, open_files
from flaxzoo.data.stream import train_batches
from flaxzoo.errors import UserError

FORMS = ["zip", "tar", "gztar", "bztar", "xztar"]


def packed(folder: Path, form: str, top: str = "") -> Path:
    """Packs a folder; `top` is the folder of everything in it."""
    root, base = (folder.parent, top) if top else (folder, None)
    return Path(shutil.make_archive(str(folder.parent / "packed"), form, root, base))


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tarred(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
            else:
                file.addfile(info)
    return path


def contents(folder: Path, **more: bytes) -> dict[str, bytes]:
    """Returns the files below a folder by path, and more."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.png")}
    return found | more


def assert_equal(a: data.Dataset, b: data.Dataset) -> None:
    assert a.classes == b.classes
    for part in ("train", "validation", "test"):
        ours, theirs = getattr(a, part), getattr(b, part)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_array_equal(ours.labels, theirs.labels)
            ends = zip(ours.paths.tolist(), theirs.paths.tolist(), strict=True)
            assert all(a.endswith(b) for a, b in ends)
            for i in range(len(ours)):
                np.testing.assert_array_equal(ours[i], theirs[i])


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_is_its_folder(folder, save_image, form):
    save_image(folder / "train" / "cat" / "2024" / "été.JPG", 7)
    (folder / "train" / "cat" / ".hidden.png").write_text("no image")
    (folder / "train" / "dog" / "notes.txt").write_text("no image")
    archive = packed(folder, form)
    assert_equal(
        data.load(f"folder={archive}", validation=0.25),
        data.load(f"folder={folder}", validation=0.25),
    )


def test_odd_images_in_an_archive_are_decoded_as_files_are(folder, save_image):
    for mode, name in (("CMYK", "a.jpg"), ("L", "b.png"), ("P", "c.gif"), ("I;16", "d.png")):
        path = save_image(folder / "train" / "cat" / "x.png", 1)
        image = Image.open(path).convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 256)
        image.save(folder / "train" / "cat" / name)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    Image.open(path).save(folder / "train" / "cat" / "e.jpg", exif=rotated)
    pets = data.load(f"folder={packed(folder, 'zip')}", validation=0)
    assert pets.train[len(pets.train) - 8].shape == (12, 10, 3)  # e.jpg, upright
    assert_equal(pets, data.load(f"folder={folder}", validation=0))


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_an_archive_of_one_folder_is_that_folder(folder, form):
    archive = packed(folder, form, top="pets")
    pets = data.load(f"folder={archive}")
    assert pets.classes == ("cat", "dog")
    assert pets.test.name(0) == f"{archive}/pets/test/cat/0.png"
    assert pets.name == archive.name


def test_a_folder_of_one_folder_is_that_folder(folder):
    assert_equal(data.load(f"folder={folder.parent}"), data.load(f"folder={folder}"))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_found_behind_long_names_and_a_start_that_is_no_zip(folder, tmp_path, method):
    members = {f"{'x' * 200}/{name}": file for name, file in contents(folder / "train").items()}
    path = zipped(tmp_path / "pets.zip", members, method)
    offset = b"PK, but no zip yet" * 10  # as in an archive that unpacks itself
    path.write_bytes(offset + path.read_bytes())
    split = data.load(f"folder={path}", validation=0).train
    folder_split = data.load(f"folder={folder / 'train'}", validation=0).train
    for i in range(12):
        np.testing.assert_array_equal(split[i], folder_split[i])


def test_long_names_in_a_tar_are_found(folder, tmp_path):
    members = {f"{'x' * 200}/{name}": file for name, file in contents(folder / "train").items()}
    split = data.load(f"folder={tarred(tmp_path / 'pets.tar', members)}", validation=0).train
    assert len(split) == 12
    assert split[11].shape == (11, 17, 3)


def test_what_macos_adds_is_no_class(folder, tmp_path):
    members = contents(folder / "train") | {"__MACOSX/cat/._0.png": b"x", "cat/._0.png": b"x"}
    pets = data.load(f"folder={zipped(tmp_path / 'pets.zip', members)}", validation=0)
    assert (pets.classes, len(pets.train)) == (("cat", "dog"), 12)


@pytest.mark.parametrize("make", [zipped, tarred])
def test_of_two_members_of_one_name_the_last_counts(folder, tmp_path, make):
    members = contents(folder / "train")
    twice = {"./cat/0.png": b"no image", **members}  # the same path, spelt in two ways
    split = data.load(f"folder={make(tmp_path / 'archive', twice)}", validation=0).train
    assert len(split) == 12
    assert split[0].shape == (10, 12, 3)


@pytest.mark.parametrize("make", [zipped, tarred])
def test_hostile_names_lead_nowhere(folder, tmp_path, make):
    (tmp_path / "secret.png").write_bytes(b"not to be read")
    hostile = {"cat/../../secret.png": b"1", "../emu/a.png": b"2", "/etc/passwd": b"3"}
    archive = open_files(str(make(tmp_path / "archive", contents(folder / "train") | hostile)))
    assert sorted(archive.entries("")) == ["cat/", "dog/", "etc/"]
    assert archive.read("etc/passwd") == b"3"  # the member, not the file
    for name in ("../secret.png", "cat/../../secret.png", "/etc/passwd"):
        with pytest.raises(FileNotFoundError):
            archive.read(name)


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_tar_are_refused(folder, tmp_path, kind):
    members = contents(folder / "train") | {"x": link("cat/z.png", kind, "/etc/passwd")}
    path = tarred(tmp_path / "pets.tar", members)
    with pytest.raises(UserError, match=r"cat/z\.png is a link .* tar --dereference"):
        data.load(f"folder={path}")


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("cat/z.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match=r"cat/z\.png is a link"):
        data.load(f"folder={tmp_path / 'pets.zip'}")


def test_other_compressions_and_encryption_are_refused(tmp_path):
    path = zipped(tmp_path / "pets.zip", {"cat/0.png": b"x"}, zipfile.ZIP_BZIP2)
    with pytest.raises(UserError, match=r"cat/0\.png is neither stored nor deflated; expected"):
        data.load(f"folder={path}")
    content = bytearray(zipped(path, {"cat/0.png": b"x"}).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cat/0\.png is encrypted"):
        data.load(f"folder={path}")


@pytest.mark.parametrize("form", FORMS)
def test_half_an_archive_is_refused(folder, form):
    path = packed(folder, form)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"cannot read {path}: .*; expected a folder, or a compl"):
        data.load(f"folder={path}")


def test_a_tar_that_ends_between_two_members_is_incomplete(folder):
    path = packed(folder, "tar")
    with tarfile.open(path) as file:
        end = file.getmembers()[-3].offset
    content = path.read_bytes()
    path.write_bytes(content[:end])
    with pytest.raises(UserError, match=f"incomplete or damaged at byte {end:,}; expected"):
        data.load(f"folder={path}")
    path.write_bytes(content[:end] + b"?" * 512 + content[end + 512 :])
    with pytest.raises(UserError, match=f"incomplete or damaged at byte {end:,}; expected"):
        data.load(f"folder={path}")


def test_a_zip_that_promises_more_than_it_has_is_refused(folder):
    path = packed(folder / "train", "zip")
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 20, 2**31)
    path.write_bytes(content)
    with pytest.raises(UserError, match="incomplete or damaged"):
        data.load(f"folder={path}")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4", b"\x1f\x8b", b"{" * 1000])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*file: .*; expected a folder, or a compl"):
        data.load(f"folder={tmp_path / 'file'}")


def test_an_archive_that_may_not_be_read_is_named(folder, monkeypatch):
    path = packed(folder, "zip")

    def refuse(*_args, **_options):  # root, as in a container, may read every file
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UserError, match=rf"cannot read {path}: .*Permission denied"):
        open_files(str(path))


def test_a_large_compressed_tar_gets_the_remedy(folder, monkeypatch):
    monkeypatch.setattr(files, "MAX_UNCOMPRESSED", 2**14)
    with pytest.raises(UserError, match=r"is compressed .* expected a plain tar, which gunzip"):
        data.load(f"folder={packed(folder, 'gztar')}")


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_damaged_member_is_named_when_it_is_read(folder, form):
    path = packed(folder / "train", form)
    split = data.load(f"folder={path}", validation=0).train
    start = int(split.files.members["start"][list(split.files.names).index(b"cat/1.png")])
    content = bytearray(path.read_bytes())
    content[start + 80 : start + 90] = bytes(10)
    path.write_bytes(content)
    assert split[0].shape == (10, 12, 3)
    with pytest.raises(UserError, match=rf"cannot read image {path}/cat/1\.png: "):
        split[1]


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_an_archive_that_is_replaced_or_gone_is_an_error_of_its_images(folder, form):
    path = packed(folder / "train", form)
    split = data.load(f"folder={path}", validation=0).train
    path.write_bytes(b"PK\3\4 something else")
    with pytest.raises(UserError, match=r"cat/2\.png: damaged in the archive, or the archive has"):
        split[2]
    path.unlink()
    with pytest.raises(UserError, match=r"cat/2\.png: no such file"):
        split[2]


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_can_be_pickled(folder, form):
    split = data.load(f"folder={packed(folder, form)}", validation=0).train
    copy = pickle.loads(pickle.dumps(split.subset(np.array([7, 2]))))
    np.testing.assert_array_equal(copy[0], split[7])


def test_an_archive_streams_as_its_folder(folder):
    split = data.load(f"folder={packed(folder, 'zip')}", validation=0).train
    options = {"seed": 0, "batch_size": 4, "image_size": 8, "num_steps": 2}
    from_folder = data.load(f"folder={folder}", validation=0).train
    with (
        train_batches(split, **options) as ours,
        train_batches(from_folder, **options) as theirs,
    ):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a["image"], b["image"])


def test_many_members_are_cheap_to_pickle():
    names = np.array([f"class/{i:06}.jpg" for i in range(10_000)], np.bytes_)
    archive = Archive("pets.zip", names, np.zeros(10_000, files._MEMBER), None)
    assert len(pickle.dumps(archive)) < (16 + 30) * 10_000 + 1000


def test_threads_may_read_one_archive(folder):
    split = data.load(f"folder={packed(folder, 'zip')}", validation=0).train
    expected = [split[i] for i in range(12)]
    wrong = []

    def read(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, 12, 50).tolist():
            if not np.array_equal(split[i], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_empty_class_in_an_archive_is_named(folder):
    (folder / "train" / "emu").mkdir()
    for form in ("zip", "tar"):
        with pytest.raises(UserError, match=r"class folder .*train/emu has no images"):
            data.load(f"folder={packed(folder, form)}")


def test_nothing_is_unpacked(folder, tmp_path):
    path = packed(folder, "zip")
    shutil.rmtree(folder)
    before = {os.path.join(at, name) for at, _, names in os.walk(tmp_path) for name in names}
    split = data.load(f"folder={path}").train
    assert all(split[i].size for i in range(len(split)))
    after = {os.path.join(at, name) for at, _, names in os.walk(tmp_path) for name in names}
    assert after == before


@pytest.mark.shared_data
def test_a_zip_of_real_photographs(shared_data):
    flowers = data.load(f"folder={shared_data / 'flowers5_128px.zip'}", validation=0)
    assert flowers.classes == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    assert len(flowers.train) == 4317
    with zipfile.ZipFile(shared_data / "flowers5_128px.zip") as file:
        for i in range(0, 4317, 500):
            name = flowers.train.name(i).partition(".zip/")[2]
            encoded = flowers.train.files.read(name)
            assert encoded == file.read(name)
            assert flowers.train[i].shape == (128, 128, 3)
