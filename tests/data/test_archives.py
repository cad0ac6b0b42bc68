"""CIFAR and MNIST from small copies of their original files, in every form they are found in."""

import gzip
import hashlib
import http.server
import io
import pickle
import struct
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from flaxzoo import data
from flaxzoo.data import archives
from flaxzoo.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 3, 32, 32), np.uint8)  # 50 for training
LABELS = {"cifar10": np.arange(60) % 10, "cifar100": np.arange(60) % 50}
NAMES = {name: [f"{name}-{i}" for i in range(c)] for name, c in (("cifar10", 10), ("cifar100", 50))}
DIGITS = RNG.integers(0, 256, (60, 28, 28), np.uint8)


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    for name in archives.COUNTS:
        monkeypatch.setitem(archives.COUNTS, name, {"train": 50, "test": 10})


def binary_files(name: str) -> dict[str, bytes]:
    def records(rows: range) -> bytes:
        coarse = b"\7" if name == "cifar100" else b""
        return b"".join(coarse + bytes([LABELS[name][i]]) + IMAGES[i].tobytes() for i in rows)

    names = "\n".join(NAMES[name]).encode() + b"\n\n"
    if name == "cifar100":
        return {
            "train.bin": records(range(50)),
            "test.bin": records(range(50, 60)),
            "fine_label_names.txt": names,
            "coarse_label_names.txt": b"seven\n",
        }
    batches = {f"data_batch_{i + 1}.bin": records(range(10 * i, 10 * i + 10)) for i in range(5)}
    return batches | {"test_batch.bin": records(range(50, 60)), "batches.meta.txt": names}


def python_files(name: str) -> dict[str, bytes]:
    def batch(rows: slice) -> bytes:
        key = "labels" if name == "cifar10" else "fine_labels"
        content = {"data": IMAGES[rows].reshape(-1, 3072), key: LABELS[name][rows].tolist()}
        return pickle.dumps(content, protocol=4)

    if name == "cifar100":
        files = {"train": batch(slice(50)), "test": batch(slice(50, 60))}
        return files | {"meta": pickle.dumps({"fine_label_names": NAMES[name]})}
    files = {f"data_batch_{i + 1}": batch(slice(10 * i, 10 * i + 10)) for i in range(5)}
    files["test_batch"] = batch(slice(50, 60))
    return files | {"batches.meta": pickle.dumps({"label_names": NAMES[name]})}


FORMS = {
    ("cifar10", "binary"): ("cifar-10-batches-bin", "cifar-10-binary.tar.gz", binary_files),
    ("cifar10", "python"): ("cifar-10-batches-py", "cifar-10-python.tar.gz", python_files),
    ("cifar100", "binary"): ("cifar-100-binary", "cifar-100-binary.tar.gz", binary_files),
    ("cifar100", "python"): ("cifar-100-python", "cifar-100-python.tar.gz", python_files),
}


def write_cifar(root: Path, name: str, form: str, packed: bool, **changes: bytes | None) -> Path:
    """Writes the set; `changes` replace files, or leave them out. Returns the folder or archive."""
    folder, archive, files = FORMS[name, form]
    root.mkdir(parents=True, exist_ok=True)
    content = {k: v for k, v in (files(name) | changes).items() if v is not None}
    if not packed:
        (root / folder).mkdir()
        for file, value in content.items():
            (root / folder / file).write_bytes(value)
        return root / folder
    with tarfile.open(root / archive, "w:gz") as tar:
        for file, value in content.items():
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size = len(value)
            tar.addfile(member, io.BytesIO(value))
    return root / archive


def load(root: Path, name: str) -> data.Dataset:
    return data.load(name, data_dir=root, validation=0, download=False)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "form"), list(FORMS))
def test_cifar_is_read_in_all_its_forms(tmp_path, name, form, packed):
    write_cifar(tmp_path, name, form, packed)
    dataset = load(tmp_path, name)
    assert dataset.classes == tuple(NAMES[name])
    assert dataset.channels == 3
    assert dataset.train.labels.tolist() == LABELS[name][:50].tolist()
    np.testing.assert_array_equal(dataset.train[17], IMAGES[17].transpose(1, 2, 0))
    np.testing.assert_array_equal(dataset.test[9], IMAGES[59].transpose(1, 2, 0))


def test_a_folder_of_the_sets_own_name_is_searched_too(tmp_path):
    write_cifar(tmp_path / "cifar10", "cifar10", "python", packed=False)
    assert len(load(tmp_path, "cifar10").train) == 50


PYTHON_2_BATCH = (  # as written in 2009: protocol 0, byte strings, 0 and 1 for False and True
    b"(dS'data'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    b"(I1\n(I1\nI3072\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    b"I00\nS'" + b"\\x07" * 3072 + b"'\ntbsS'labels'\n(lI3\nas."
)


def test_pickles_of_python_2_are_read_without_a_warning(tmp_path):
    ones = {f"data_batch_{i}": PYTHON_2_BATCH for i in range(1, 6)}
    folder = write_cifar(tmp_path, "cifar10", "python", packed=False, **ones)
    from flaxzoo.data import cifar

    _, arrays = cifar.read(folder, cifar.FORMS["cifar10"])
    images, labels = arrays["train"]
    assert labels.tolist() == [3] * 5
    assert images.shape == (5, 32, 32, 3)
    assert (images == 7).all()


NARROW_BATCH = pickle.dumps({"data": np.zeros((2, 9), np.uint8), "labels": [0, 0]}, protocol=4)


class Evil:
    def __reduce__(self):
        return print, ("a pickle ran this",)


def test_a_pickle_cannot_run_a_program(tmp_path, capsys):
    write_cifar(tmp_path, "cifar10", "python", packed=False, test_batch=pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"cifar-10-batches-py/test_batch: builtins.print has no"):
        load(tmp_path, "cifar10")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("form", "changes", "message"),
    [
        ("binary", {"data_batch_3.bin": None}, "cifar-10-b.* lacks data_batch_3.bin"),
        ("binary", {"test_batch.bin": b"x" * 3072}, "test_batch.bin: 3072 bytes are no whole"),
        ("binary", {"data_batch_1.bin": b"\0" * 3073}, "has 41 train images; expected 50"),
        ("binary", {"batches.meta.txt": b"a\nb\n"}, "label 9 of train image 9 in cifar10 is out"),
        ("python", {"test_batch": b"rubbish"}, "cannot read .*/test_batch: "),
        ("python", {"test_batch": pickle.dumps({})}, "cannot read .*/test_batch: 'data'"),
        ("python", {"test_batch": NARROW_BATCH}, r"data is uint8 \[2, 9\]; expected uint8 \[2, 3"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_cifar_file_is_named(tmp_path, form, changes, message, packed):
    write_cifar(tmp_path, "cifar10", form, packed, **changes)
    with pytest.raises(UserError, match=message):
        load(tmp_path, "cifar10")


def test_a_cut_archive_is_named(tmp_path):
    archive = write_cifar(tmp_path, "cifar10", "binary", packed=True)
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(UserError, match=r"cannot read .*cifar-10-binary\.tar\.gz: "):
        load(tmp_path, "cifar10")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


IDX = {
    "train-images-idx3-ubyte": idx(DIGITS[:50]),
    "train-labels-idx1-ubyte": idx((np.arange(50) % 10).astype(np.uint8)),
    "t10k-images-idx3-ubyte": idx(DIGITS[50:]),
    "t10k-labels-idx1-ubyte": idx((np.arange(10) % 10).astype(np.uint8)),
}


def write_idx(folder: Path, packed: bool, rename=lambda name: name, **changes: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (IDX | {k.replace("_", "-"): v for k, v in changes.items()}).items():
        packed_name = rename(name) + (".gz" if packed else "")
        (folder / packed_name).write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mnist", "mnist"),
        ("mnist", "."),
        ("mnist", "MNIST/raw"),
        ("fashion_mnist", "FashionMNIST/raw"),
        ("fashion_mnist", "fashion-mnist"),
    ],
)
def test_mnist_is_found_where_others_leave_it(tmp_path, name, folder, packed):
    write_idx(tmp_path / folder, packed)
    dataset = load(tmp_path, name)
    assert (dataset.num_classes, dataset.channels, len(dataset.test)) == (10, 1, 10)
    np.testing.assert_array_equal(dataset.test[3][..., 0], DIGITS[53])
    assert dataset.classes[9] == ("9" if name == "mnist" else "Ankle boot")


def test_names_with_a_dot_are_found_too(tmp_path):
    write_idx(tmp_path, packed=False, rename=lambda name: name.replace("-idx", ".idx"))
    assert len(load(tmp_path, "mnist").train) == 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "t10k-images-idx3-ubyte is no idx file of bytes: it starts with nothing"),
        (b"\x89PNG1234", "no idx file of bytes: it starts with 89504e47"),
        (idx(DIGITS[:2])[:-1], r"holds 1567 bytes of data; its header says \[2, 28, 28\]"),
        (gzip.compress(idx(DIGITS), mtime=0)[:-9], "cannot read .*t10k-images-idx3-ubyte: "),
        (idx(DIGITS[:9]), "9 images in x_test, but 10 labels"),
        (idx(DIGITS[:9].reshape(9, 784)), r"shape \[9, 784\]"),
    ],
    ids=["empty", "another format", "short", "a cut archive", "an image less", "flat"],
)
def test_a_damaged_idx_file_is_named(tmp_path, content, message):
    write_idx(tmp_path, packed=False, t10k_images_idx3_ubyte=content)
    with pytest.raises(UserError, match=message):
        load(tmp_path, "mnist")


def test_without_download_the_ways_out_are_named(tmp_path):
    with pytest.raises(UserError) as caught:
        load(tmp_path, "cifar100")
    assert str(caught.value) == (
        f"cifar100 is not in {tmp_path} and download is off; fetch "
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz and put it at "
        f"{tmp_path}/cifar100/cifar-100-binary.tar.gz; or train on npz=PATH (Keras's form), "
        "folder=PATH or the bundled digits"
    )


def test_what_kaggle_has_is_named_with_the_command(tmp_path):
    command = f"kaggle datasets download pankrzysiu/cifar10-python --unzip -p {tmp_path}/cifar10;"
    with pytest.raises(UserError, match=f"cifar-10-binary.tar.gz; or {command} or train on npz="):
        load(tmp_path, "cifar10")
    write_cifar(tmp_path / "cifar10", "cifar10", "python", packed=False)  # what it unzips
    assert len(load(tmp_path, "cifar10").train) == 50


def test_the_environment_says_where_files_are(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAXZOO_DATA", str(tmp_path))
    write_idx(tmp_path / "mnist", packed=True)
    assert len(data.load("mnist", download=False, validation=0).train) == 50


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_a_missing_set_is_downloaded_once(tmp_path, monkeypatch, name):
    site, home = tmp_path / "site", tmp_path / "home"
    if name == "mnist":
        write_idx(site, packed=True)
    else:
        write_cifar(site, name, "binary", packed=True)
    handler = type("Handler", (http.server.SimpleHTTPRequestHandler,), {"log_message": print_not})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: handler(*args, directory=str(site))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    try:
        remotes = {}
        for key, remote in archives.REMOTES[name].items():
            content = (site / remote.file).read_bytes()
            url = f"http://127.0.0.1:{server.server_port}/{remote.file}"
            digest = hashlib.sha256(content).hexdigest()
            remotes[key] = archives.Remote(url, len(content), digest)
        monkeypatch.setitem(archives.REMOTES, name, remotes)
        assert len(data.load(name, data_dir=home, validation=0).train) == 50
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert len(load(home, name).train) == 50  # with the server gone


def print_not(*args: object) -> None:
    """Replaces a server's log."""
